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

    /// As [`PublicKey::verify`], but neither the key nor `R` may be of small order: for protocols
    /// that are not the originals'.
    pub fn verify_strict(&self, message: &[u8], signature: &[u8]) -> bool {
        let signature = Signature::from_slice(signature);
        signature.is_ok_and(|signature| self.0.verify_strict(message, &signature).is_ok())
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

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signer, SigningKey};

    use super::*;
    use crate::vectors::{hex, table};

    #[test]
    fn signatures_are_decided_as_by_the_original() {
        for row in table("ed25519") {
            let key = PublicKey::from_bytes(&hex(&row, "public_hex"));
            let ok =
                key.is_some_and(|key| key.verify(&hex(&row, "msg_hex"), &hex(&row, "sig_hex")));
            assert_eq!(ok, row["ok"].as_bool().unwrap(), "{row}");
        }
    }

    #[test]
    fn keys_of_small_order_count_as_keys_and_are_known_to_be_weak() {
        for row in table("ed25519_small_order") {
            let signature = hex(&row, "sig_hex");
            let key = PublicKey::from_bytes(&hex(&row, "public_hex"));
            let messages: Vec<String> = (0..64).map(|n| format!("m{n}")).collect();
            let accepted: Vec<_> = messages
                .iter()
                .filter(|m| key.is_some_and(|key| key.verify(m.as_bytes(), &signature)))
                .collect();
            let expected = row["accepted_of_64_messages_m0_to_m63"].as_u64().unwrap();
            assert_eq!(u64::try_from(accepted.len()).unwrap(), expected, "{row}");
            assert_eq!(
                accepted.first().map(|m| m.as_str()),
                row["first_accepted"].as_str(),
                "{row}"
            );
            assert!(key.is_none_or(|key| key.is_weak()), "{row}");
        }
    }

    #[test]
    fn a_message_in_parts_signs_like_the_whole() {
        let signing = SigningKey::from_bytes(&[7; 32]);
        let key = PublicKey::from_bytes(signing.verifying_key().as_bytes()).unwrap();
        let signature = signing.sign(b"one|two").to_bytes();
        assert!(!key.is_weak());
        assert!(key.verify(b"one|two", &signature));
        assert!(key.verify_parts(&[b"one", b"|", b"", b"two"], &signature));
        assert!(!key.verify_parts(&[b"one", b"two"], &signature));
        assert!(!key.verify(b"one|two", &signature[..63]));
        let mut verifier = key.verify_stream(&signature).unwrap();
        verifier.update(b"one|");
        verifier.update(b"two");
        assert!(verifier.finish());
    }

    #[test]
    fn the_cache_remembers_keys_and_nothing_else() {
        let cache = KeyCache::new(16);
        let mut text = Vec::new();
        base64::encode(SigningKey::from_bytes(&[7; 32]).verifying_key().as_bytes(), &mut text);
        let text = Str::from_wtf8(&text);
        let first = cache.decode(&text).unwrap();
        assert_eq!(cache.decode(&text), Some(first));
        assert_eq!(cache.0.len(), 1);
        assert!(cache.decode(&"AAAA".into()).is_none());
        let spaced = format!("{text}{}", " ".repeat(100));
        assert_eq!(cache.decode(&spaced.as_str().into()), Some(first));
        assert_eq!(cache.0.len(), 1);
    }
}
