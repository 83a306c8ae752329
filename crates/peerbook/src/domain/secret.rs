//! Things nobody may guess.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// Letters of user ids: base32 (RFC 4648), as at the original.
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Letters of pairing codes: no two that look or sound alike.
const READABLE: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";

/// A new user id: 16 letters, 80 bits.
pub(crate) fn uid() -> String {
    letters::<16>(BASE32)
}

/// A new pairing code: 8 letters, 40 bits.
pub(crate) fn pairing_code() -> String {
    letters::<8>(READABLE)
}

/// 24 random bytes as 32 letters of base64url; for nonces and bearers.
pub(crate) fn token() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>())
}

/// SHA-256, as secrets are kept.
pub(crate) fn hash(secret: &[u8]) -> [u8; 32] {
    Sha256::digest(secret).into()
}

fn letters<const COUNT: usize>(alphabet: &[u8; 32]) -> String {
    let bytes: [u8; COUNT] = rand::random();
    bytes.iter().map(|byte| char::from(alphabet[usize::from(byte % 32)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_the_documented_shape_and_differ() {
        assert_eq!((uid().len(), pairing_code().len(), token().len()), (16, 8, 32));
        assert_ne!(uid(), uid());
        assert_ne!(token(), token());
    }
}
