//! How a node describes itself: a mutable item of its own key (BEP 44), which anybody may pass on.

use serde::{Deserialize, Serialize};

use super::identity::{SALT, is_stamped};
use super::proof::Nonce;
use super::{NodeKey, hex, item, unhex};

/// Seconds a descriptor is believed after it was signed, and may be ahead of our clock.
pub const LIFE_S: i64 = 86_400;
/// See [`LIFE_S`].
pub const AHEAD_S: i64 = 300;
/// Bytes of an answer that carries one.
pub const ANSWER_MAX: usize = 2_048;

/// The item as nodes hand it to each other, JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The node's key, hexadecimal.
    pub k: String,
    /// Always `wsm1`.
    pub salt: String,
    /// When it was signed, in seconds since the epoch.
    pub seq: i64,
    /// What is signed: JSON of its own.
    pub v: String,
    /// The signature, hexadecimal.
    pub sig: String,
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Value {
    v: u8,
    net: String,
    /// Nothing for a node that only dials.
    url: Option<String>,
    caps: Vec<String>,
    stamp: String,
}

/// A descriptor that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Whose it is.
    pub key: NodeKey,
    /// Where the node is reached; nothing for a node that only dials. Not checked yet.
    pub url: Option<String>,
}

/// Why a descriptor is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It cannot be read.
    #[error("the descriptor is malformed")]
    Malformed,
    /// Another network's.
    #[error("the descriptor is of another network")]
    Network,
    /// The key cost too little.
    #[error("the key carries no stamp")]
    Stamp,
    /// Too old, or from the future.
    #[error("the descriptor is out of date")]
    Age,
    /// Not signed by its key.
    #[error("the descriptor's signature is wrong")]
    Signature,
}

impl Signed {
    /// What a node says of itself, for `signed` by `sign`.
    pub fn new(
        key: &NodeKey,
        network: &str,
        url: Option<&str>,
        stamp: Nonce,
        now_s: i64,
        sign: impl FnOnce(&[u8]) -> [u8; 64],
    ) -> Self {
        let value = Value {
            v: 1,
            net: network.to_owned(),
            url: url.map(str::to_owned),
            caps: ["room", "dht", "turn"].map(str::to_owned).into(),
            stamp: hex(&stamp),
        };
        let v = serde_json::to_string(&value).unwrap_or_default();
        let sig = hex(&sign(&item::signed(SALT, now_s, v.as_bytes())));
        Self { k: hex(key), salt: "wsm1".to_owned(), seq: now_s, v, sig }
    }

    /// Its parts as the DHT keeps them: key, value and signature.
    pub fn parts(&self) -> Option<(NodeKey, &[u8], [u8; 64])> {
        Some((unhex(&self.k)?, self.v.as_bytes(), unhex(&self.sig)?))
    }

    /// Checks it, what is cheap first.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(&self, network: &str, bits: u32, now_s: i64) -> Result<Described, Unfit> {
        let (key, value, signature) = self.parts().ok_or(Unfit::Malformed)?;
        if self.salt.as_bytes() != SALT || value.len() > item::VALUE_MAX {
            return Err(Unfit::Malformed);
        }
        let Value { v, net, url, stamp, .. } =
            serde_json::from_slice(value).map_err(|_| Unfit::Malformed)?;
        let stamp: Nonce = unhex(&stamp).filter(|_| v == 1).ok_or(Unfit::Malformed)?;
        if net != network {
            return Err(Unfit::Network);
        }
        if !(now_s - LIFE_S..=now_s + AHEAD_S).contains(&self.seq) {
            return Err(Unfit::Age);
        }
        if !is_stamped(network, &key, stamp, bits) {
            return Err(Unfit::Stamp);
        }
        if !item::verify(&key, SALT, self.seq, value, &signature) {
            return Err(Unfit::Signature);
        }
        Ok(Described { key, url })
    }
}
