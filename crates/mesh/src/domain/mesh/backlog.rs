//! Posts of the last minute in memory, for nodes that subscribe late, and for clients of rooms
//! that nobody here listened to.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use proto::mesh::Room;
use proto::mesh::link::{Post, SINCE_POSTS};

/// Posts of one room, bytes in all, and how long they stay.
const PER_ROOM: usize = SINCE_POSTS;
const BYTES: usize = 64 << 20;
const LIFE_MS: i64 = 130_000;
/// What a post takes besides its parts.
const OVERHEAD: usize = 256;

/// A post that is kept.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) id: [u8; 32],
    pub(crate) at_ms: i64,
    /// As nodes get it.
    pub(crate) post: Post,
    /// As subscribers get it.
    pub(crate) event: Bytes,
    /// Whether the database has it.
    pub(crate) written: bool,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.event.len() + self.post.b.len() + OVERHEAD
    }
}

/// The memory of the leader: 50 posts of a room, 64 MiB in all, two minutes.
#[derive(Default)]
pub(crate) struct Backlog {
    rooms: HashMap<Room, VecDeque<Kept>>,
    /// Rooms in the order their posts came: whose turn it is to lose its oldest.
    order: VecDeque<(i64, Room)>,
    bytes: usize,
}

impl Backlog {
    /// Adds a post; what is too old or too much goes.
    pub(crate) fn add(&mut self, room: &Room, kept: Kept) {
        let now_ms = kept.at_ms;
        self.bytes += kept.bytes();
        let posts = self.rooms.entry(room.clone()).or_default();
        posts.push_back(kept);
        self.order.push_back((now_ms, room.clone()));
        if posts.len() > PER_ROOM
            && let Some(oldest) = posts.pop_front()
        {
            self.bytes -= oldest.bytes();
        }
        self.forget(now_ms);
    }

    /// Lets go of what is too old or too much.
    pub(crate) fn forget(&mut self, now_ms: i64) {
        while let Some((at_ms, _)) = self.order.front() {
            if self.bytes <= BYTES && now_ms - at_ms <= LIFE_MS {
                break;
            }
            let Some((at_ms, room)) = self.order.pop_front() else { break };
            let Some(posts) = self.rooms.get_mut(&room) else { continue };
            // Its post may be gone already, as one too many of its room.
            if posts.front().is_some_and(|post| post.at_ms <= at_ms)
                && let Some(oldest) = posts.pop_front()
            {
                self.bytes -= oldest.bytes();
            }
            if posts.is_empty() {
                self.rooms.remove(&room);
            }
        }
    }

    /// Posts of a room since then, oldest first.
    pub(crate) fn since(&self, room: &Room, since_ms: i64) -> Vec<Post> {
        let posts = self.rooms.get(room).into_iter().flatten();
        posts.filter(|kept| kept.at_ms >= since_ms).map(|kept| kept.post.clone()).collect()
    }

    /// Posts of a room the database does not have; they count as written from now on.
    pub(crate) fn unwritten(&mut self, room: &Room) -> Vec<Kept> {
        let posts = self.rooms.get_mut(room).into_iter().flatten().filter(|kept| !kept.written);
        posts
            .map(|kept| {
                kept.written = true;
                kept.clone()
            })
            .collect()
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(at_ms: i64, size: usize) -> Kept {
        let post = Post {
            r: String::new(),
            tok: String::new(),
            n: String::new(),
            b: String::new(),
            at: at_ms,
            o: String::new(),
            s: String::new(),
            hop: 1,
            hs: Vec::new(),
        };
        let event = Bytes::from(vec![0; size]);
        Kept { id: [0; 32], at_ms, post, event, written: false }
    }

    #[test]
    fn a_room_keeps_fifty_posts_and_memory_is_bounded() {
        let mut backlog = Backlog::default();
        let room = |byte| Room::from_bytes(&[byte; 20]).unwrap();
        for at in 0..60 {
            backlog.add(&room(1), kept(at, 10));
        }
        assert_eq!(backlog.since(&room(1), 0).len(), PER_ROOM);
        assert_eq!(backlog.since(&room(1), 55).len(), 5);
        assert_eq!(backlog.unwritten(&room(1)).len(), PER_ROOM);
        assert!(backlog.unwritten(&room(1)).is_empty());
        for at in 0..100 {
            backlog.add(&room(2 + at), kept(100, 1 << 20));
        }
        assert!(backlog.bytes() <= BYTES && backlog.since(&room(1), 0).is_empty());
        assert_eq!(backlog.since(&room(101), 0).len(), 1);
        backlog.forget(LIFE_MS + 101);
        assert_eq!((backlog.bytes(), backlog.rooms.len(), backlog.order.len()), (0, 0, 0));
    }
}
