//! Links to other nodes, and what each side asked the other for.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use bytes::Bytes;
use edge::limit::{Keyed, Rate};
use parking_lot::Mutex;
use proto::mesh::link::{Frame, ROOMS_PER_FRAME};
use proto::mesh::{NodeKey, Room};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Nodes that are linked at once, those that need this one as a home included; and nodes that only
/// dial.
pub(crate) const NODES_MAX: usize = 320;
pub(crate) const LEAVES_MAX: usize = 64;
/// Rooms one link subscribes to.
const ROOMS_MAX: usize = 20_000;
/// Frames that wait for a link; beyond it, it is closed.
pub(crate) const OUTBOX: usize = 2_048;
/// Posts a second over one link, and at once; of a node that only dials.
const POSTS: Rate = Rate { burst: 1_000, per_second: 200 };
const LEAF_POSTS: Rate = Rate { burst: 100, per_second: 20 };
/// So many violations in a minute end a link.
const VIOLATIONS: usize = 10;
const VIOLATIONS_MS: i64 = 60_000;
/// A room that moved to another home is still heard from the old one for so long.
const BEFORE_BREAK_MS: i64 = 60_000;

/// One link.
pub(crate) struct Link {
    pub(crate) key: NodeKey,
    /// Nothing for a node that only dials.
    pub(crate) url: Option<String>,
    /// Whether we dialled.
    pub(crate) dialled: bool,
    pub(crate) stop: CancellationToken,
    /// Its node is banned, or about to be.
    pub(crate) banned: AtomicBool,
    /// It ends because nobody needs it, not because its node is gone.
    pub(crate) spare: AtomicBool,
    /// What it said of itself last.
    pub(crate) height: AtomicU32,
    pub(crate) rtt_ms: AtomicI64,
    outbox: mpsc::Sender<Bytes>,
    /// When it was of use last, in milliseconds.
    used_ms: AtomicI64,
    inward: Keyed<()>,
    outward: Keyed<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Rooms it asked us for.
    theirs: HashSet<Room>,
    /// Rooms we asked it for, with when we stopped to need it.
    ours: HashMap<Room, Option<i64>>,
    violations: VecDeque<i64>,
}

impl Link {
    /// A link whose frames go into `outbox`.
    pub(crate) fn new(
        key: NodeKey,
        url: Option<String>,
        dialled: bool,
        outbox: mpsc::Sender<Bytes>,
        stop: CancellationToken,
        now_ms: i64,
    ) -> Self {
        let rate = if url.is_some() { POSTS } else { LEAF_POSTS };
        Self {
            key,
            url,
            dialled,
            stop,
            banned: AtomicBool::new(false),
            spare: AtomicBool::new(false),
            used_ms: AtomicI64::new(now_ms),
            height: AtomicU32::new(0),
            rtt_ms: AtomicI64::new(-1),
            outbox,
            inward: Keyed::new(rate, 1),
            outward: Keyed::new(rate, 1),
            state: Mutex::default(),
        }
    }

    /// Queues a frame; a link that does not take it any more is ended.
    pub(crate) fn send(&self, frame: Bytes) -> bool {
        let queued = self.outbox.try_send(frame).is_ok();
        if !queued {
            self.stop.cancel();
        }
        queued
    }

    /// Queues a post, unless the link had as many as it takes.
    pub(crate) fn send_post(&self, frame: Bytes) -> bool {
        self.outward.check(&(), 1).is_ok() && self.send(frame)
    }

    /// Whether it may send another post.
    pub(crate) fn may_post(&self) -> bool {
        self.inward.check(&(), 1).is_ok()
    }

    /// Counts a violation; whether that was one too many.
    pub(crate) fn violated(&self, now_ms: i64) -> bool {
        let mut state = self.state.lock();
        state.violations.push_back(now_ms);
        while state.violations.front().is_some_and(|at| now_ms - at >= VIOLATIONS_MS) {
            state.violations.pop_front();
        }
        state.violations.len() >= VIOLATIONS
    }

    /// It asks for a room; whether it may.
    pub(crate) fn subscribe(&self, room: Room) -> bool {
        let mut state = self.state.lock();
        let fits = state.theirs.len() < ROOMS_MAX || state.theirs.contains(&room);
        if fits {
            state.theirs.insert(room);
        }
        fits
    }

    /// It does not need a room any more.
    pub(crate) fn unsubscribe(&self, room: &Room) {
        self.state.lock().theirs.remove(room);
    }

    /// Asks it for rooms and what was in them; of those it has been asked for only when `again`.
    pub(crate) fn ask(&self, rooms: &[Room], since: u32, again: bool) {
        let mut state = self.state.lock();
        let mut asked = Vec::new();
        for room in rooms {
            let known = state.ours.contains_key(room);
            if !known && state.ours.len() >= ROOMS_MAX {
                continue;
            }
            if !known || again {
                asked.push(room.to_string());
            }
            state.ours.insert(room.clone(), None);
        }
        drop(state);
        for rooms in asked.chunks(ROOMS_PER_FRAME) {
            self.send(Bytes::from(Frame::Sub { r: rooms.to_vec(), since }.encode()));
        }
    }

    /// Of all rooms, only `wanted` are to be asked of it; the others go a minute later.
    pub(crate) fn settle(&self, wanted: &HashSet<Room>, now_ms: i64) {
        let mut dropped = Vec::new();
        self.state.lock().ours.retain(|room, unwanted| {
            if wanted.contains(room) {
                *unwanted = None;
                return true;
            }
            let stays = now_ms - *unwanted.get_or_insert(now_ms) < BEFORE_BREAK_MS;
            if !stays {
                dropped.push(room.to_string());
            }
            stays
        });
        for rooms in dropped.chunks(ROOMS_PER_FRAME) {
            self.send(Bytes::from(Frame::Unsub { r: rooms.to_vec() }.encode()));
        }
    }

    /// It carried a post.
    pub(crate) fn used(&self, now_ms: i64) {
        self.used_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Whether it was of no use to either side for so long.
    pub(crate) fn is_idle(&self, now_ms: i64, idle_ms: i64) -> bool {
        let state = self.state.lock();
        if !state.theirs.is_empty() || !state.ours.is_empty() {
            self.used(now_ms);
        }
        now_ms - self.used_ms.load(Ordering::Relaxed) >= idle_ms
    }

    fn wants(&self, room: &Room) -> bool {
        self.state.lock().theirs.contains(room)
    }

    /// Who dialled.
    fn dialler(&self, own: &NodeKey) -> NodeKey {
        if self.dialled { *own } else { self.key }
    }
}

/// All links, one to a node.
#[derive(Default)]
pub(crate) struct Links {
    all: Mutex<HashMap<NodeKey, Arc<Link>>>,
    chances: RandomState,
}

impl Links {
    /// Adds a link; whether it may stay. Of two to the same node, dialled by different sides, the
    /// one the smaller key dialled stays; of two dialled by the same, the newer.
    pub(crate) fn enter(&self, link: &Arc<Link>, own: &NodeKey) -> bool {
        let mut links = self.all.lock();
        match links.get(&link.key) {
            Some(other) if link.dialler(own) > other.dialler(own) => return false,
            Some(other) => other.stop.cancel(),
            None => {
                let like = links.values().filter(|one| one.url.is_some() == link.url.is_some());
                let most = if link.url.is_some() { NODES_MAX } else { LEAVES_MAX };
                if like.count() >= most {
                    return false;
                }
            }
        }
        links.insert(link.key, link.clone());
        true
    }

    /// Takes a link out; whether it was still the one to its node.
    pub(crate) fn leave(&self, link: &Arc<Link>) -> bool {
        let mut links = self.all.lock();
        let current = links.get(&link.key).is_some_and(|known| Arc::ptr_eq(known, link));
        if current {
            links.remove(&link.key);
        }
        current
    }

    /// The link to a node.
    pub(crate) fn get(&self, key: &NodeKey) -> Option<Arc<Link>> {
        self.all.lock().get(key).cloned()
    }

    /// A number that stands for a node as long as this process runs, and for nobody outside of it.
    pub(crate) fn chance(&self, key: &NodeKey) -> u64 {
        self.chances.hash_one(key)
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Link>> {
        self.all.lock().values().cloned().collect()
    }

    /// Nodes that are linked, without those that only dial.
    pub(crate) fn keys_of_nodes(&self) -> Vec<NodeKey> {
        let links = self.all.lock();
        links.values().filter(|link| link.url.is_some()).map(|link| link.key).collect()
    }

    /// Links that asked for a room.
    pub(crate) fn subscribers(&self, room: &Room) -> Vec<Arc<Link>> {
        self.all.lock().values().filter(|link| link.wants(room)).cloned().collect()
    }

    /// Ends all of them.
    pub(crate) fn end_all(&self) {
        self.all.lock().values().for_each(|link| link.stop.cancel());
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(key: u8, dialled: bool) -> (Arc<Link>, mpsc::Receiver<Bytes>) {
        let (sender, receiver) = mpsc::channel(4);
        let url = Some("https://a.example".to_owned());
        let stop = CancellationToken::new();
        (Arc::new(Link::new([key; 32], url, dialled, sender, stop, 0)), receiver)
    }

    #[test]
    fn of_two_links_the_one_the_smaller_key_dialled_stays() {
        let links = Links::default();
        let own = [5; 32];
        let (theirs, _one) = link(7, false);
        let (ours, _two) = link(7, true);
        let (newer, _three) = link(7, true);
        assert!(links.enter(&theirs, &own));
        assert!(links.enter(&ours, &own) && theirs.stop.is_cancelled());
        assert!(!links.enter(&theirs, &own));
        assert!(links.enter(&newer, &own) && ours.stop.is_cancelled());
        assert!(!links.leave(&ours) && links.len() == 1);
        assert!(links.leave(&newer) && links.len() == 0);
    }

    #[test]
    fn rooms_are_asked_for_once_and_given_up_a_minute_after_they_moved() {
        let (link, mut frames) = link(7, true);
        let room = Room::from_bytes(&[1; 20]).unwrap();
        link.ask(std::slice::from_ref(&room), 0, false);
        link.ask(std::slice::from_ref(&room), 0, false);
        let sub = Frame::Sub { r: vec![room.to_string()], since: 0 };
        assert_eq!(Frame::decode(&frames.try_recv().unwrap()), Ok(sub));
        assert!(frames.try_recv().is_err());
        let none = HashSet::new();
        link.settle(&none, 0);
        link.settle(&none, BEFORE_BREAK_MS - 1);
        assert!(frames.try_recv().is_err());
        link.settle(&none, BEFORE_BREAK_MS);
        let unsub = Frame::Unsub { r: vec![room.to_string()] };
        assert_eq!(Frame::decode(&frames.try_recv().unwrap()), Ok(unsub));
    }

    #[test]
    fn ten_violations_in_a_minute_are_too_many() {
        let (link, _frames) = link(7, true);
        assert!((0..9).all(|at| !link.violated(at * 7_000)));
        assert!(link.violated(59_999));
        assert!(!link.violated(200_000));
    }

    #[test]
    fn a_link_is_idle_when_neither_side_uses_it() {
        let (link, _frames) = link(7, true);
        let room = Room::from_bytes(&[1; 20]).unwrap();
        assert!(!link.is_idle(9, 10) && link.is_idle(10, 10));
        link.used(5);
        assert!(!link.is_idle(14, 10) && link.is_idle(15, 10));
        link.subscribe(room.clone());
        assert!(!link.is_idle(100, 10));
        link.unsubscribe(&room);
        assert!(!link.is_idle(109, 10) && link.is_idle(110, 10));
    }

    #[test]
    fn a_link_that_takes_nothing_is_ended() {
        let (link, _frames) = link(7, true);
        assert!((0..4).all(|_| link.send(Bytes::new())) && !link.stop.is_cancelled());
        assert!(!link.send(Bytes::new()) && link.stop.is_cancelled());
    }
}
