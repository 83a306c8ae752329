//! The one signature check: Ed25519 as the original servers' OpenSSL decides it.
//!
//! Cofactorless, `S` below the group order, `R` compared as bytes; key encodings that are not
//! canonical and keys of small order count as keys. [`PublicKey::is_weak`] tells the latter, for
//! policies that refuse them.

use std::fmt;

use ed25519_dalek::{Signature, StreamVerifier, VerifyingKey};
use quick_cache::sync::Cache;

use crate::base64;
use crate::js::Str;

/// Base64 texts longer than this are decoded without being remembered.
const CACHED_TEXT_MAX: usize = 64;

/// A decoded public key: checking with it costs 32 µs, decoding it first another 4.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Decodes 32 bytes that name a point of the curve; anything else is no key.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        VerifyingKey::from_bytes(bytes.try_into().ok()?).ok().map(Self)
    }

    /// The bytes it was decoded from.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Whether one signature fits many messages under this key, so that it proves nothing.
    pub fn is_weak(&self) -> bool {
        self.0.is_weak()
    }

    /// Whether `signature` (64 bytes, or it is wrong) signs `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        self.verify_parts(&[message], signature)
    }

    /// As [`PublicKey::verify`] for a message in pieces, without joining them.
    pub fn verify_parts(&self, message: &[&[u8]], signature: &[u8]) -> bool {
        let Some(mut verifier) = self.verify_stream(signature) else { return false };
        message.iter().for_each(|part| verifier.update(part));
        verifier.finish()
    }

    /// Starts checking a message that is not in memory at once. `None`: the signature is wrong
    /// whatever the message.
    pub fn verify_stream(&self, signature: &[u8]) -> Option<Verifier> {
        let signature = Signature::from_slice(signature).ok()?;
        self.0.verify_stream(&signature).ok().map(Verifier)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(")?;
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// A check in progress.
pub struct Verifier(StreamVerifier);

impl Verifier {
    /// Takes the next part of the message.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// Whether the parts together are what was signed.
    pub fn finish(self) -> bool {
        self.0.finalize_and_verify().is_ok()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

/// Remembers decoded keys by the text they came as. Bounded; the least used ones go first.
#[derive(Debug)]
pub struct KeyCache(Cache<Box<[u8]>, PublicKey>);

impl KeyCache {
    /// Remembers up to `capacity` keys, about 350 bytes each.
    pub fn new(capacity: usize) -> Self {
        Self(Cache::new(capacity))
    }

    /// The key a lenient base64 text stands for; `None` when it is none.
    pub fn decode(&self, text: &Str<'_>) -> Option<PublicKey> {
        if text.as_bytes().len() > CACHED_TEXT_MAX {
            return PublicKey::from_bytes(&base64::decode_lenient(text));
        }
        if let Some(key) = self.0.get(text.as_bytes()) {
            return Some(key);
        }
        let key = PublicKey::from_bytes(&base64::decode_lenient(text))?;
        self.0.insert(text.as_bytes().into(), key);
        Some(key)
    }
}
