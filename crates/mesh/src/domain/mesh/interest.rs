//! Which rooms this node serves: those any of its replicas has a listener of.

use std::collections::{HashMap, HashSet};

use proto::mesh::Room;

/// A room without listeners is still served for so long.
const LINGER_MS: i64 = 30_000;
/// Rooms of other replicas that count.
pub(crate) const OTHERS_MAX: usize = 100_000;

/// The rooms.
#[derive(Default)]
pub(crate) struct Interest {
    own: HashMap<Room, Served>,
    others: HashSet<Room>,
    /// Those of `own` the other replicas were told of.
    told: HashSet<Room>,
}

/// A room of this replica.
#[derive(Default)]
struct Served {
    /// When the last listener went.
    gone_ms: Option<i64>,
    /// Whether what was posted before was asked for.
    recalled: bool,
}

/// What changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) more: Vec<Room>,
    pub(crate) less: Vec<Room>,
}

impl Interest {
    /// Whether the node serves a room.
    pub(crate) fn serves(&self, room: &Room) -> bool {
        self.own.contains_key(room) || self.others.contains(room)
    }

    /// Adds a room at once.
    pub(crate) fn add(&mut self, room: &Room) {
        self.own.entry(room.clone()).or_default().gone_ms = None;
    }

    /// Whether what was posted to a room before it was served has still to be asked for; not any
    /// more then.
    pub(crate) fn recall(&mut self, room: &Room) -> bool {
        let served = self.own.entry(room.clone()).or_default();
        !std::mem::replace(&mut served.recalled, true)
    }

    /// Takes over which rooms this replica has listeners of: what the others are to be told.
    pub(crate) fn renew(&mut self, listened: &HashSet<Room>, now_ms: i64) -> Change {
        listened.iter().for_each(|room| self.add(room));
        self.own.retain(|room, served| {
            listened.contains(room) || now_ms - *served.gone_ms.get_or_insert(now_ms) < LINGER_MS
        });
        let more = self.own.keys().filter(|room| !self.told.contains(*room)).cloned().collect();
        let less = self.told.iter().filter(|room| !self.own.contains_key(*room)).cloned().collect();
        self.told = self.own.keys().cloned().collect();
        Change { more, less }
    }

    /// The others could not be told, or may have forgotten.
    pub(crate) fn tell_again(&mut self) {
        self.told.clear();
    }

    /// Takes over what the other replicas listen to; what is new of it.
    pub(crate) fn replace_others(&mut self, others: HashSet<Room>) -> Vec<Room> {
        let more = others.iter().filter(|room| !self.serves(room)).cloned().collect();
        self.others = others;
        more
    }

    /// All rooms.
    pub(crate) fn all(&self) -> HashSet<Room> {
        self.own.keys().chain(&self.others).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_served_until_half_a_minute_after_its_last_listener() {
        let room = |byte| Room::from_bytes(&[byte; 20]).unwrap();
        let mut interest = Interest::default();
        let both = HashSet::from([room(1), room(2)]);
        assert_eq!(interest.renew(&both, 0).more.len(), 2);
        let one = HashSet::from([room(1)]);
        assert_eq!(interest.renew(&one, 1_000), Change::default());
        assert_eq!(interest.renew(&one, 30_999), Change::default());
        assert!(interest.serves(&room(2)));
        let gone = Change { more: vec![], less: vec![room(2)] };
        assert_eq!(interest.renew(&one, 31_000), gone);
        assert_eq!(interest.replace_others(both), [room(2)]);
        assert_eq!(interest.all().len(), 2);
        assert!(interest.recall(&room(1)) && !interest.recall(&room(1)));
        interest.tell_again();
        assert_eq!(interest.renew(&one, 31_000).more, [room(1)]);
    }
}
