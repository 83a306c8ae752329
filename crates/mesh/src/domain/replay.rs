//! Proofs seen lately, in memory: most repetitions never reach the database.

use std::collections::HashSet;

use parking_lot::Mutex;

/// Proofs one half remembers, 32 bytes each; when it is full the older half is forgotten early,
/// and the database has the last word.
const HALF_MAX: usize = 500_000;
/// Milliseconds a half is added to. A proof is remembered between one and two of them.
const HALF_MS: i64 = 240_000;

/// Proofs seen in the last four minutes.
#[derive(Default)]
pub(crate) struct Seen(Mutex<Halves>);

#[derive(Default)]
struct Halves {
    young: HashSet<[u8; 32]>,
    old: HashSet<[u8; 32]>,
    since_ms: i64,
}

impl Seen {
    /// Whether this one is new; it is not any more.
    pub(crate) fn insert(&self, proof: [u8; 32], now_ms: i64) -> bool {
        let mut halves = self.0.lock();
        if now_ms - halves.since_ms >= HALF_MS || halves.young.len() >= HALF_MAX {
            halves.old = std::mem::take(&mut halves.young);
            halves.since_ms = now_ms;
        }
        !halves.old.contains(&proof) && halves.young.insert(proof)
    }

    /// Whether it was seen.
    pub(crate) fn contains(&self, proof: &[u8; 32]) -> bool {
        let halves = self.0.lock();
        halves.young.contains(proof) || halves.old.contains(proof)
    }

    /// Takes one back, because nothing came of its request.
    pub(crate) fn forget(&self, proof: &[u8; 32]) {
        let mut halves = self.0.lock();
        halves.young.remove(proof);
        halves.old.remove(proof);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_counts_once_until_it_is_too_old_to_count_at_all() {
        let seen = Seen::default();
        assert!(seen.insert([1; 32], 1_000_000));
        assert!(!seen.insert([1; 32], 1_000_001));
        assert!(!seen.insert([1; 32], 1_000_000 + HALF_MS));
        seen.forget(&[1; 32]);
        assert!(seen.insert([1; 32], 1_000_000 + HALF_MS));
        assert!(seen.insert([2; 32], 1_000_000 + 3 * HALF_MS));
        assert!(seen.insert([1; 32], 1_000_000 + 5 * HALF_MS));
    }
}
