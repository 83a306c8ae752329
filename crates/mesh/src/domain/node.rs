//! The node: its key, its secret, its price, and whether somebody paid it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU8, Ordering};

use ed25519_dalek::{Signer as _, SigningKey};
use parking_lot::{Mutex, RwLock};
use proto::mesh::NodeKey;
use proto::mesh::price::{self, Kind};
use proto::mesh::proof::{Challenge, Nonce};
use proto::mesh::token::{LIFE_S, Secret, Token};
use service::Clock;

use super::height::Height;
use crate::error::Error;

/// What the operator decides about prices.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pricing {
    pub(crate) least: u8,
    pub(crate) most: u8,
    pub(crate) grace_bits: u32,
    pub(crate) bind_address: bool,
}

/// One logical node.
pub(crate) struct Node {
    signing: SigningKey,
    secret: RwLock<Secret>,
    pub(crate) pricing: Pricing,
    pub(crate) clock: Clock,
    height: AtomicU8,
    gauge: Mutex<Height>,
    others: Mutex<(f64, f64)>,
}

/// What something costs now, and a token to pay it with.
#[derive(Clone, Debug)]
pub(crate) struct Quote {
    pub(crate) token: String,
    pub(crate) work: u64,
    /// Seconds since the epoch.
    pub(crate) expires_s: u32,
}

/// Token and nonce as a request names them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Payment<'q> {
    pub(crate) token: Option<&'q str>,
    pub(crate) nonce: Option<&'q str>,
}

/// What is paid for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purchase<'r> {
    pub(crate) path: &'r str,
    pub(crate) body: &'r [&'r [u8]],
    pub(crate) method: &'r str,
    pub(crate) kind: Kind,
    /// Posts of the last minute to the room.
    pub(crate) recent: u32,
}

impl Node {
    pub(crate) fn new(seed: [u8; 32], secret: Secret, pricing: Pricing, clock: Clock) -> Self {
        Self {
            signing: SigningKey::from_bytes(&seed),
            secret: RwLock::new(secret),
            pricing,
            clock,
            height: AtomicU8::new(pricing.least),
            gauge: Mutex::new(Height::new(pricing.least, pricing.most)),
            others: Mutex::default(),
        }
    }

    /// Its public key.
    pub(crate) fn key(&self) -> NodeKey {
        self.signing.verifying_key().to_bytes()
    }

    /// Seconds since the epoch.
    pub(crate) fn now_s(&self) -> u32 {
        u32::try_from(self.clock.now_ms().max(0) / 1000).unwrap_or(u32::MAX)
    }

    /// The height that load alone asks for.
    pub(crate) fn height(&self) -> u8 {
        self.height.load(Ordering::Relaxed)
    }

    /// Smoothed load of the busiest replica: processors and memory.
    pub(crate) fn load(&self) -> (f64, f64) {
        let (cpu, mem) = self.own_load();
        let others = *self.others.lock();
        (cpu.max(others.0), mem.max(others.1))
    }

    /// Smoothed load of this replica.
    pub(crate) fn own_load(&self) -> (f64, f64) {
        self.gauge.lock().load()
    }

    /// Takes over the load of the busiest replica besides this one.
    pub(crate) fn hear_load(&self, others: (f64, f64)) {
        *self.others.lock() = others;
    }

    /// Signs as the node.
    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }

    /// Takes a sample of the load; the height when it changed.
    pub(crate) fn sample(&self, (cpu, mem): (f64, f64)) -> Option<u8> {
        let others = *self.others.lock();
        let others = others.0.max(others.1);
        let changed = self.gauge.lock().sample(cpu, mem, others, self.clock.now_ms())?;
        self.height.store(changed, Ordering::Relaxed);
        Some(changed)
    }

    /// Replaces the secret, after proofs may have been lost; tokens of the old one are void.
    pub(crate) fn renew_secret(&self, secret: Secret) {
        *self.secret.write() = secret;
    }

    /// Who a client is to the TURN server today.
    pub(crate) fn turn_user(&self, client: IpAddr) -> String {
        self.secret.read().turn_user(self.now_s(), client)
    }

    /// What stands for an address where it is kept: good for a day.
    pub(crate) fn address_id(&self, address: &str) -> [u8; 32] {
        self.secret.read().keyed(self.now_s(), address)
    }

    /// What something costs `client` now.
    pub(crate) fn quote(&self, kind: Kind, recent: u32, client: IpAddr) -> Quote {
        self.quote_for(kind, recent, self.pricing.bind_address.then_some(client))
    }

    /// As [`Node::quote`], for anybody unless tokens are bound to an address.
    pub(crate) fn quote_for(&self, kind: Kind, recent: u32, bind: Option<IpAddr>) -> Quote {
        let now_s = self.now_s();
        let token = Token::mint(&self.secret.read(), &self.key(), now_s, rand::random(), bind);
        let work = price::work(self.height(), kind, recent);
        Quote { token, work, expires_s: now_s.saturating_add(LIFE_S) }
    }

    /// Whether a purchase is paid; the proof's hash. Repetitions are not its business.
    ///
    /// # Errors
    /// What is wrong with token or proof, cheapest check first.
    pub(crate) fn check(
        &self,
        payment: Payment<'_>,
        purchase: Purchase<'_>,
        client: IpAddr,
    ) -> Result<[u8; 32], Error> {
        let (Some(text), Some(nonce)) = (payment.token, payment.nonce) else {
            return Err(Error::PowRequired);
        };
        let nonce: Nonce = proto::mesh::unhex(nonce).ok_or(Error::BadParam("n"))?;
        let token = Token::read(text).map_err(Error::Token)?;
        token
            .check(&self.secret.read(), &self.key(), self.now_s(), client)
            .map_err(Error::Token)?;
        let Purchase { method, path, body, kind, recent } = purchase;
        let proof = Challenge::new(method, path, text, body).hash(nonce);
        let work = price::work(self.height(), kind, recent);
        let least = price::accepted(work, self.pricing.grace_bits);
        if proof.word() > price::target(least) {
            return Err(Error::PowTooLow { got: proof.height(), need: price::height(work) });
        }
        Ok(proof.0)
    }
}
