//! Proof of work: SHA-256 over what the client wants to do here, and a nonce.
//!
//! ```text
//! C = SHA-256("wsm1 pow\n" METHOD " " path "\n" token "\n" hex(SHA-256(body)))
//! H = SHA-256(C nonce)            valid when the first 8 bytes of H, big endian, are <= target
//! ```
//! Bound to node (by the token), path and body: nobody in between can use it for anything else.

use super::{hex, sha256};

/// What is searched for: 8 bytes, 16 hexadecimal digits on the wire.
pub type Nonce = [u8; 8];

/// What a nonce is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge(pub [u8; 32]);

impl Challenge {
    /// `path` in lower case, without query; for `/dht-put` the body is [`super::item::signed`] with the
    /// signature behind it.
    pub fn new(method: &str, path: &str, token: &str, body: &[&[u8]]) -> Self {
        let body = hex(&sha256(body));
        Self(sha256(&[
            b"wsm1 pow\n",
            method.as_bytes(),
            b" ",
            path.as_bytes(),
            b"\n",
            token.as_bytes(),
            b"\n",
            body.as_bytes(),
        ]))
    }

    /// The proof's hash, which is also the post's id.
    pub fn hash(&self, nonce: Nonce) -> Proof {
        Proof(sha256(&[&self.0, &nonce]))
    }

    /// Searches from `first` on; for clients and tests. `None` after `tries`.
    pub fn mine(&self, target: u64, first: u64, tries: u64) -> Option<(Nonce, Proof)> {
        (0..tries).find_map(|step| {
            let nonce = first.wrapping_add(step).to_be_bytes();
            let proof = self.hash(nonce);
            (proof.word() <= target).then_some((nonce, proof))
        })
    }
}

/// A proof's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Proof(pub [u8; 32]);

impl Proof {
    /// What is compared with the target.
    pub fn word(&self) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(word)
    }

    /// Leading zero bits, at most 64.
    pub fn height(&self) -> u32 {
        self.word().leading_zeros()
    }
}
