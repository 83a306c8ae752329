//! Mutable items of the BitTorrent DHT (BEP 44).

use sha2::Digest as _;

use super::NodeKey;
use crate::sign::PublicKey;

/// Bytes a value may have: bencoded it is four longer, and other nodes take 1,000.
pub const VALUE_MAX: usize = 996;
/// Bytes a salt may have.
pub const SALT_MAX: usize = 64;
/// The largest sequence number JSON's readers keep exact.
pub const SEQ_MAX: i64 = (1 << 53) - 1;

/// What an item's owner signs. An empty salt counts as none.
pub fn signed(salt: &[u8], seq: i64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + salt.len() + 40);
    if !salt.is_empty() {
        out.extend_from_slice(format!("4:salt{}:", salt.len()).as_bytes());
        out.extend_from_slice(salt);
    }
    out.extend_from_slice(format!("3:seqi{seq}e1:v{}:", value.len()).as_bytes());
    out.extend_from_slice(value);
    out
}

/// Where the DHT keeps an item: SHA-1 of key and salt.
pub fn target(key: &NodeKey, salt: &[u8]) -> [u8; 20] {
    let mut hash = sha1::Sha1::new();
    hash.update(key);
    hash.update(salt);
    hash.finalize().into()
}

/// Whether `key` signed the item. Stricter than elsewhere: a weak key or a second form of a
/// signature is refused, as other DHT nodes may refuse it.
pub fn verify(key: &NodeKey, salt: &[u8], seq: i64, value: &[u8], signature: &[u8; 64]) -> bool {
    let message = signed(salt, seq, value);
    PublicKey::from_bytes(key).is_some_and(|key| key.verify_strict(&message, signature))
}
