//! Who left, and when: bounded in number and in age.

use std::collections::{BTreeMap, HashMap};

use proto::signal::PeerId;

/// When peers left, newest first when listed.
#[derive(Debug)]
pub(crate) struct Departed {
    by_peer: HashMap<PeerId, (u64, i64)>,
    by_order: BTreeMap<u64, PeerId>,
    next: u64,
    max: usize,
}

impl Departed {
    /// Remembers at most `max` peers.
    pub(crate) fn new(max: usize) -> Self {
        Self { by_peer: HashMap::new(), by_order: BTreeMap::new(), next: 0, max }
    }

    /// Notes that a peer left; the oldest note makes room.
    pub(crate) fn insert(&mut self, peer: PeerId, at_ms: i64) {
        self.remove(&peer);
        if self.max == 0 {
            return;
        }
        if self.by_order.len() >= self.max
            && let Some((_, oldest)) = self.by_order.pop_first()
        {
            self.by_peer.remove(&oldest);
        }
        self.next += 1;
        self.by_peer.insert(peer.clone(), (self.next, at_ms));
        self.by_order.insert(self.next, peer);
    }

    /// Forgets a peer, because it is back; returns when it had left.
    pub(crate) fn remove(&mut self, peer: &PeerId) -> Option<i64> {
        let (order, at_ms) = self.by_peer.remove(peer)?;
        self.by_order.remove(&order);
        Some(at_ms)
    }

    /// When a peer left.
    pub(crate) fn get(&self, peer: &PeerId) -> Option<i64> {
        self.by_peer.get(peer).map(|(_, at_ms)| *at_ms)
    }

    /// The last to leave, newest first, no longer ago than `since_ms`.
    pub(crate) fn newest(&self, since_ms: i64) -> impl Iterator<Item = (&PeerId, i64)> {
        self.by_order
            .values()
            .rev()
            .filter_map(|peer| Some((peer, self.get(peer)?)))
            .filter(move |(_, at_ms)| *at_ms >= since_ms)
    }

    /// Forgets who left before `since_ms`.
    pub(crate) fn expire(&mut self, since_ms: i64) {
        while let Some(entry) = self.by_order.first_entry() {
            if self.by_peer.get(entry.get()).is_some_and(|(_, at_ms)| *at_ms >= since_ms) {
                break;
            }
            self.by_peer.remove(&entry.remove());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(departed: &Departed, since_ms: i64) -> Vec<String> {
        departed.newest(since_ms).map(|(peer, _)| format!("{peer:?}")).collect()
    }

    #[test]
    fn the_oldest_leave_makes_room_and_age_ends_the_rest() {
        let id = |name: &str| PeerId::from_wtf8(name.as_bytes());
        let mut departed = Departed::new(2);
        departed.insert(id("a"), 1);
        departed.insert(id("b"), 2);
        departed.insert(id("a"), 3);
        departed.insert(id("c"), 4);
        assert_eq!(names(&departed, 0), ["\"c\"", "\"a\""]);
        assert_eq!(names(&departed, 4), ["\"c\""]);
        departed.expire(4);
        assert_eq!(names(&departed, 0), ["\"c\""]);
        assert_eq!(departed.remove(&id("c")), Some(4));
        assert_eq!(departed.remove(&id("a")), None);
    }
}
