//! The mesh of signaling nodes, wire tag `wsm1`: tokens, proofs of work and their price, room
//! addresses and homes, what nodes prove to each other, mutable DHT items.
//!
//! What is hashed and signed here is hashed and signed by browsers and by other nodes: every rule
//! is exact to the byte.

pub mod descriptor;
pub mod homes;
pub mod identity;
pub mod item;
pub mod link;
pub mod price;
pub mod proof;
mod room;
pub mod token;

pub use self::room::{BadRoom, Room};

/// Bytes a request's body may have.
pub const BODY_MAX: usize = 1024;

/// Key of a node: Ed25519, as on the wire.
pub type NodeKey = [u8; 32];

/// Hexadecimal digits, lower case.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The bytes `text` spells in hexadecimal digits of either case, when there are exactly `N`.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    unhex_into(text, &mut bytes).then_some(bytes)
}

/// As [`unhex`], of any even length.
pub fn unhex_any(text: &str) -> Option<Vec<u8>> {
    let mut bytes = vec![0; text.len() / 2];
    unhex_into(text, &mut bytes).then_some(bytes)
}

fn unhex_into(text: &str, bytes: &mut [u8]) -> bool {
    let value =
        |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return false;
    }
    bytes.iter_mut().zip(pairs).all(|(byte, [high, low])| match (value(*high), value(*low)) {
        (Some(high), Some(low)) => {
            *byte = high << 4 | low;
            true
        }
        _ => false,
    })
}

fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    use sha2::{Digest as _, Sha256};
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    Hmac::new(key).of(parts)
}

/// HMAC-SHA256 under one key, of which half the work is done.
#[derive(Clone)]
struct Hmac(hmac::Hmac<sha2::Sha256>);

impl Hmac {
    fn new(key: &[u8]) -> Self {
        use hmac::KeyInit as _;
        Self(hmac::Hmac::new_from_slice(key).expect("HMAC takes keys of any length"))
    }

    fn of(self, parts: &[&[u8]]) -> [u8; 32] {
        use hmac::Mac as _;
        let Self(mut mac) = self;
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests;
