//! Peers: an id and the key that speaks for it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use sha2::{Digest as _, Sha256};

/// One PeerLink identity. Cloning shares nothing but the bytes.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The peer's id on the wire, 32 characters of `[A-Za-z0-9_-]` unless a test chose another.
    pub id: String,
    /// The key behind it.
    pub key: SigningKey,
}

impl Peer {
    /// The peer of a fixed seed; its id is derived from the key (the spec's "legacy" id, section 4.1).
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let key = SigningKey::from_bytes(&seed);
        let mut id = URL_SAFE_NO_PAD.encode(Sha256::digest(key.verifying_key().as_bytes()));
        id.truncate(32);
        Self { id, key }
    }

    /// A new peer nobody has seen.
    pub fn random() -> Self {
        Self::from_seed(rand::random())
    }

    /// The same key under another id.
    pub fn with_id(self, id: impl Into<String>) -> Self {
        Self { id: id.into(), ..self }
    }

    /// The vectors' `alice`.
    pub fn alice() -> Self {
        Self::from_seed([0x11; 32])
    }

    /// The vectors' `bob`.
    pub fn bob() -> Self {
        Self::from_seed([0x22; 32])
    }

    /// The vectors' `carol`.
    pub fn carol() -> Self {
        Self::from_seed([0x33; 32])
    }

    /// The vectors' `dave`.
    pub fn dave() -> Self {
        Self::from_seed([0x44; 32])
    }

    /// The vectors' `mallory`.
    pub fn mallory() -> Self {
        Self::from_seed([0x66; 32])
    }

    /// Base64 of the public key, as `signingPub` and `signingPublicKey` carry it.
    pub fn public(&self) -> String {
        STANDARD.encode(self.key.verifying_key().as_bytes())
    }

    /// Base64 of the signature over `message`.
    pub fn sign(&self, message: &[u8]) -> String {
        STANDARD.encode(self.key.sign(message).to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alice_and_bob_are_those_of_the_vectors() {
        assert_eq!(Peer::alice().id, "ELpoLIrRNROXHotWiBqri9cCu4B3luyo");
        assert_eq!(Peer::bob().public(), "oJql9HpnWYAv+VX43C0qFKXJnSO+l/hkEn/5ODRVpPA=");
    }
}
