//! The hash token: a time-stamped HMAC of the node's secret, which establishes recency.
//!
//! ```text
//! 01 | flags | seconds u32be | first 8 bytes of the node key | 8 random bytes | 16 bytes of MAC
//! ```
//! 38 bytes, 51 characters of base64url. Nothing is stored: the node that made a token knows it again.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;

use super::{Hmac, NodeKey, hmac_sha256};

/// Seconds a token may be used for.
pub const LIFE_S: u32 = 120;
/// Seconds a token's time may be ahead of ours: replicas' clocks differ.
pub const AHEAD_S: u32 = 5;
/// Characters of a token.
pub const CHARS: usize = 51;

const RAW: usize = 38;
const SIGNED: usize = 22;
const VERSION: u8 = 1;
const BOUND: u8 = 1;

/// What tokens are made with; the same in all replicas of a node, another after a loss of what
/// was paid already.
pub struct Secret {
    bytes: [u8; 32],
    /// The key of the day asked for last, ready to be used: tokens of one day are made and checked
    /// by the thousand.
    day: Mutex<Option<(u32, Hmac)>>,
}

impl Secret {
    /// As given.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self { bytes, day: Mutex::new(None) }
    }

    /// The one in force: the node's `root`, changed by every loss of the proofs that were seen.
    pub fn derive(root: &[u8], boot_id: &[u8]) -> Self {
        Self::new(hmac_sha256(root, &[boot_id]))
    }

    fn day_key(&self, ts: u32) -> Hmac {
        let day = ts / 86_400;
        let mut known = self.day.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((made, key)) if *made == day => key.clone(),
            _ => {
                let key = hmac_sha256(&self.bytes, &[b"wsm1 token", &day.to_be_bytes()]);
                known.insert((day, Hmac::new(&key))).1.clone()
            }
        }
    }

    /// Who a client is to the TURN server on a day: 16 hexadecimal digits that say nothing of its
    /// address.
    pub fn turn_user(&self, now_s: u32, client: IpAddr) -> String {
        let day = (now_s / 86_400).to_be_bytes();
        let id = hmac_sha256(&self.bytes, &[b"wsm1 turn uid", &day, &binding(client)]);
        super::hex(&id[..8])
    }

    /// Something of an address, with its port or without, as state is kept under it: a keyed hash
    /// that changes every day.
    pub fn keyed(&self, now_s: u32, what: &str) -> [u8; 32] {
        let day = (now_s / 86_400).to_be_bytes();
        hmac_sha256(&self.bytes, &[b"wsm1 probe", &day, what.as_bytes()])
    }

    /// An address as state is kept under it: a keyed hash that changes every day.
    pub fn address_key(&self, now_s: u32, client: IpAddr) -> [u8; 16] {
        let day = (now_s / 86_400).to_be_bytes();
        let id = hmac_sha256(&self.bytes, &[b"wsm1 ip", &day, &binding(client)]);
        let mut key = [0; 16];
        key.copy_from_slice(&id[..16]);
        key
    }
}

impl std::fmt::Debug for Secret {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not 51 characters of base64url.
    #[error("this is no token")]
    Format,
    /// The MAC is wrong: changed, or made by nobody.
    #[error("this token was not made here")]
    Invalid,
    /// Another node made it.
    #[error("another node made this token")]
    WrongNode,
    /// Made for another address.
    #[error("this token was made for another address")]
    WrongAddress,
    /// Older than [`LIFE_S`], or from the future.
    #[error("this token has expired")]
    Expired,
}

/// A token with the time it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Seconds since the epoch.
    pub made_s: u32,
    /// First 8 bytes of its node's key.
    pub node: [u8; 8],
    bound: bool,
    raw: [u8; RAW],
}

impl Token {
    /// Makes one, for a single address when `bind` is given.
    pub fn mint(
        secret: &Secret,
        node: &NodeKey,
        now_s: u32,
        random: [u8; 8],
        bind: Option<IpAddr>,
    ) -> String {
        let mut raw = [0; RAW];
        raw[0] = VERSION;
        raw[1] = if bind.is_some() { BOUND } else { 0 };
        raw[2..6].copy_from_slice(&now_s.to_be_bytes());
        raw[6..14].copy_from_slice(&node[..8]);
        raw[14..SIGNED].copy_from_slice(&random);
        let mac = mac(secret, now_s, &raw, bind);
        raw[SIGNED..].copy_from_slice(&mac);
        URL_SAFE_NO_PAD.encode(raw)
    }

    /// Reads one without knowing who made it.
    ///
    /// # Errors
    /// [`Refusal::Format`].
    pub fn read(text: &str) -> Result<Self, Refusal> {
        let mut raw = [0; RAW];
        let decoded = URL_SAFE_NO_PAD.decode_slice(text, &mut raw);
        if text.len() != CHARS || decoded != Ok(RAW) {
            return Err(Refusal::Format);
        }
        let made_s = u32::from_be_bytes([raw[2], raw[3], raw[4], raw[5]]);
        let mut node = [0; 8];
        node.copy_from_slice(&raw[6..14]);
        Ok(Self { made_s, node, bound: raw[1] & BOUND != 0, raw })
    }

    /// Whether it is of the version this module speaks; a MAC that fits implies it.
    pub fn is_current(&self) -> bool {
        self.raw[0] == VERSION
    }

    /// Whether this node made it, lately, for this client.
    ///
    /// # Errors
    /// Anything but [`Refusal::Format`].
    pub fn check(
        &self,
        secret: &Secret,
        node: &NodeKey,
        now_s: u32,
        client: IpAddr,
    ) -> Result<(), Refusal> {
        if self.node != node[..8] {
            return Err(Refusal::WrongNode);
        }
        let expected = mac(secret, self.made_s, &self.raw, self.bound.then_some(client));
        if !bool::from(expected.ct_eq(&self.raw[SIGNED..])) {
            return Err(if self.bound { Refusal::WrongAddress } else { Refusal::Invalid });
        }
        let recent = now_s.saturating_sub(LIFE_S)..=now_s.saturating_add(AHEAD_S);
        if recent.contains(&self.made_s) { Ok(()) } else { Err(Refusal::Expired) }
    }
}

fn mac(secret: &Secret, made_s: u32, raw: &[u8; RAW], bind: Option<IpAddr>) -> [u8; 16] {
    let bind = bind.map(binding).unwrap_or_default();
    let whole = secret.day_key(made_s).of(&[&raw[..SIGNED], &bind]);
    let mut mac = [0; 16];
    mac.copy_from_slice(&whole[..16]);
    mac
}

/// What of an address counts: all of IPv4, the network of IPv6.
fn binding(client: IpAddr) -> Vec<u8> {
    match client.to_canonical() {
        IpAddr::V4(address) => [&[4], address.octets().as_slice()].concat(),
        IpAddr::V6(address) => [&[6], &address.octets()[..8]].concat(),
    }
}
