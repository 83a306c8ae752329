//! Owners seen lately. Only pins are kept, so a peer without an owner is looked up each time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use crate::Key;

pub(crate) struct Owners {
    cache: Cache<Box<[u8]>, Seen>,
    ttl: Duration,
    /// Counts what was forgotten: an answer that set out before must not come back after.
    forgotten: AtomicU64,
}

#[derive(Clone, Copy)]
struct Seen {
    key: Key,
    until: Instant,
}

/// When a question was asked, in terms of what was forgotten.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked(u64);

impl Owners {
    pub(crate) fn new(places: usize, ttl: Duration) -> Self {
        Self { cache: Cache::new(places), ttl, forgotten: AtomicU64::new(0) }
    }

    pub(crate) fn get(&self, peer: &[u8]) -> Option<Key> {
        self.cache.get(peer).filter(|seen| Instant::now() < seen.until).map(|seen| seen.key)
    }

    /// To be taken before the database is asked.
    pub(crate) fn asked(&self) -> Asked {
        Asked(self.forgotten.load(Ordering::SeqCst))
    }

    /// Keeps an answer, unless anything was forgotten since it was asked for.
    pub(crate) fn put(&self, peer: &[u8], key: Key, asked: Asked) {
        if self.asked() != asked {
            return;
        }
        self.cache.insert(peer.into(), Seen { key, until: Instant::now() + self.ttl });
        if self.asked() != asked {
            self.cache.remove(peer); // forgotten between the check and the insertion
        }
    }

    pub(crate) fn forget(&self, peer: &[u8]) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.cache.remove(peer);
    }

    pub(crate) fn forget_all(&self) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
        self.cache.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key([7; 32]);

    #[test]
    fn an_owner_is_known_until_its_time_is_up() {
        let owners = Owners::new(8, Duration::from_secs(60));
        owners.put(b"a", KEY, owners.asked());
        assert_eq!(owners.get(b"a"), Some(KEY));
        let short = Owners::new(8, Duration::ZERO);
        short.put(b"a", KEY, short.asked());
        assert_eq!(short.get(b"a"), None);
    }

    #[test]
    fn an_answer_from_before_a_release_is_not_kept() {
        let owners = Owners::new(8, Duration::from_secs(60));
        let asked = owners.asked();
        owners.forget(b"a");
        owners.put(b"a", KEY, asked);
        assert_eq!(owners.get(b"a"), None);
        owners.put(b"a", KEY, owners.asked());
        owners.forget_all();
        assert_eq!(owners.get(b"a"), None);
    }
}
