//! An identity for one occasion.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};

use crate::secrets::random;

/// A peer id and the key that proves it.
pub(super) struct Peer {
    /// As long as apps' own.
    pub(super) id: String,
    key: SigningKey,
}

impl Peer {
    /// A new one.
    pub(super) fn new() -> Self {
        let id = URL_SAFE_NO_PAD.encode(random::<24>());
        Self { id, key: SigningKey::from_bytes(&random()) }
    }

    /// The public key as it travels.
    pub(super) fn public_key(&self) -> String {
        STANDARD.encode(self.key.verifying_key().as_bytes())
    }

    /// The signature as it travels.
    pub(super) fn sign(&self, message: &[u8]) -> String {
        STANDARD.encode(self.key.sign(message).to_bytes())
    }
}

/// A fresh id for a message.
pub(super) fn message_id() -> String {
    format!("selfcheck:{}", URL_SAFE_NO_PAD.encode(random::<12>()))
}
