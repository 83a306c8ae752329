//! Who listens where, and how busy each room was in the last minute.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use edge::LimitKey;
use parking_lot::Mutex;
use proto::mesh::Room;
use tokio::sync::Notify;

use super::stream::{Outbox, Pushed};

/// The time posts count for a room's price, in milliseconds.
const RECENT_MS: i64 = 60_000;

/// How many of what there may be at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) streams: usize,
    pub(crate) streams_per_room: usize,
    pub(crate) streams_per_address: usize,
    pub(crate) rooms_per_address: usize,
    pub(crate) rooms: usize,
    /// Events waiting for one subscriber.
    pub(crate) queue: usize,
    /// Posts a room takes in a minute.
    pub(crate) posts_per_minute: usize,
}

/// Why somebody cannot listen, or a post is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// This address listens to as much as it may.
    Address,
    /// This room has as many listeners, or posts, as it may.
    Room,
    /// The node has.
    Node,
}

/// All rooms anybody listens or lately posted to.
pub(crate) struct Rooms {
    bounds: Bounds,
    rooms: Mutex<HashMap<Room, Arc<Mutex<State>>>>,
    addresses: Mutex<HashMap<LimitKey, (usize, usize)>>,
    streams: AtomicUsize,
    /// What the slow are told.
    slow: Mutex<Bytes>,
    /// What everybody is told once the node stops.
    last: Mutex<Option<Bytes>>,
    /// A room got its first listener.
    pub(crate) opened: Notify,
}

#[derive(Default)]
struct State {
    /// When posts came, in milliseconds.
    posts: VecDeque<i64>,
    streams: Vec<Arc<Outbox>>,
}

impl State {
    fn recent(&mut self, now_ms: i64) -> usize {
        while self.posts.front().is_some_and(|at| now_ms - at >= RECENT_MS) {
            self.posts.pop_front();
        }
        self.posts.len()
    }
}

impl Rooms {
    /// None yet.
    pub(crate) fn new(bounds: Bounds) -> Arc<Self> {
        let (rooms, addresses, streams) = Default::default();
        let slow = Mutex::new(farewell("slow", &[]));
        let (last, opened) = (Mutex::default(), Notify::new());
        Arc::new(Self { bounds, rooms, addresses, streams, slow, last, opened })
    }

    /// Takes over which nodes those are told of who are too slow for this one.
    pub(crate) fn refer(&self, others: &[String]) {
        *self.slow.lock() = farewell("slow", others);
    }

    /// Streams open now.
    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Posts to a room in the last minute, and its listeners.
    pub(crate) fn of(&self, room: &Room, now_ms: i64) -> (u32, usize) {
        let Some(state) = self.rooms.lock().get(room).cloned() else { return (0, 0) };
        let mut state = state.lock();
        (u32::try_from(state.recent(now_ms)).unwrap_or(u32::MAX), state.streams.len())
    }

    /// Rooms anybody listens to.
    pub(crate) fn listened(&self) -> HashSet<Room> {
        let all: Vec<_> = self.rooms.lock().iter().map(|(r, s)| (r.clone(), s.clone())).collect();
        let listened = all.into_iter().filter(|(_, state)| !state.lock().streams.is_empty());
        listened.map(|(room, _)| room).collect()
    }

    /// Whether a room takes another post.
    pub(crate) fn admits(&self, room: &Room, now_ms: i64) -> Result<(), Full> {
        let rooms = self.rooms.lock();
        let Some(state) = rooms.get(room).cloned() else {
            return if rooms.len() < self.bounds.rooms { Ok(()) } else { Err(Full::Node) };
        };
        drop(rooms);
        let busy = state.lock().recent(now_ms) >= self.bounds.posts_per_minute;
        if busy { Err(Full::Room) } else { Ok(()) }
    }

    /// Counts a post and hands its event to everybody who listens; how many that were.
    pub(crate) fn publish(&self, room: &Room, event: &Bytes, now_ms: i64) -> usize {
        let state = self.rooms.lock().entry(room.clone()).or_default().clone();
        let mut state = state.lock();
        state.posts.push_back(now_ms);
        let mut delivered = 0;
        state.streams.retain(|stream| self.push(stream, event, now_ms, &mut delivered));
        delivered
    }

    fn push(&self, stream: &Outbox, event: &Bytes, now_ms: i64, delivered: &mut usize) -> bool {
        match stream.push(event.clone(), self.bounds.queue, now_ms) {
            Pushed::Queued => {
                *delivered += 1;
                true
            }
            Pushed::Ended => true, // its guard takes it out
            Pushed::Full => {
                stream.end(self.slow.lock().clone());
                true
            }
        }
    }

    /// Lets an address listen to rooms until the guard is dropped.
    pub(crate) fn subscribe(
        self: &Arc<Self>,
        rooms: Vec<Room>,
        address: LimitKey,
    ) -> Result<(Arc<Outbox>, Subscription), Full> {
        let bounds = &self.bounds;
        {
            let mut addresses = self.addresses.lock();
            let (streams, listened) = addresses.entry(address).or_default();
            if *streams >= bounds.streams_per_address
                || *listened + rooms.len() > bounds.rooms_per_address
            {
                if *streams == 0 {
                    addresses.remove(&address);
                }
                return Err(Full::Address);
            }
            *streams += 1;
            *listened += rooms.len();
        }
        self.streams.fetch_add(1, Ordering::Relaxed);
        let outbox = Arc::new(Outbox::default());
        let mut guard = Subscription {
            rooms: self.clone(),
            listened: Vec::new(),
            counted: rooms.len(),
            address,
            outbox: outbox.clone(),
        };
        if self.streams() > bounds.streams {
            return Err(Full::Node);
        }
        for room in rooms {
            let mut all = self.rooms.lock();
            if all.len() >= bounds.rooms && !all.contains_key(&room) {
                return Err(Full::Node);
            }
            let state = all.entry(room.clone()).or_default().clone();
            let mut state = state.lock();
            drop(all);
            if state.streams.len() >= bounds.streams_per_room {
                return Err(Full::Room);
            }
            if state.streams.is_empty() {
                self.opened.notify_one();
            }
            state.streams.push(outbox.clone());
            guard.listened.push(room);
        }
        if let Some(last) = &*self.last.lock() {
            outbox.end(last.clone());
        }
        Ok((outbox, guard))
    }

    /// Does something for every stream of every room, a room at a time; forgets empty rooms, and
    /// ends streams that take nothing.
    pub(crate) fn each(&self, now_ms: i64, tell: impl Fn(&Room, u32) -> Option<Bytes>) {
        let all: Vec<_> = self.rooms.lock().iter().map(|(r, s)| (r.clone(), s.clone())).collect();
        for (room, state) in all {
            let mut state = state.lock();
            let recent = u32::try_from(state.recent(now_ms)).unwrap_or(u32::MAX);
            if state.streams.is_empty() {
                continue;
            }
            let event = tell(&room, recent);
            for stream in &state.streams {
                if stream.is_stalled(now_ms) {
                    stream.end(self.slow.lock().clone());
                } else if let Some(event) = &event {
                    // No matter when there is no room: this is not a post.
                    let _ = stream.push(event.clone(), self.bounds.queue, now_ms);
                }
            }
        }
        self.rooms.lock().retain(|_, state| {
            let mut state = state.lock();
            !state.streams.is_empty() || state.recent(now_ms) > 0
        });
    }

    /// Ends every stream, and those that are opened later.
    pub(crate) fn end_all(&self, last: &Bytes) {
        *self.last.lock() = Some(last.clone());
        let all: Vec<_> = self.rooms.lock().values().cloned().collect();
        for state in all {
            state.lock().streams.iter().for_each(|stream| stream.end(last.clone()));
        }
    }
}

/// The last event of a stream, with nodes to go to.
pub(crate) fn farewell(reason: &str, nodes: &[String]) -> Bytes {
    let value = serde_json::json!({ "reason": reason, "nodes": nodes });
    Bytes::from(format!("event: bye\ndata: {value}\n\n"))
}

/// An address's right to listen; given back on drop.
pub(crate) struct Subscription {
    rooms: Arc<Rooms>,
    listened: Vec<Room>,
    counted: usize,
    address: LimitKey,
    outbox: Arc<Outbox>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        for room in &self.listened {
            let state = self.rooms.rooms.lock().get(room).cloned();
            if let Some(state) = state {
                state.lock().streams.retain(|stream| !Arc::ptr_eq(stream, &self.outbox));
            }
        }
        self.rooms.streams.fetch_sub(1, Ordering::Relaxed);
        let mut addresses = self.rooms.addresses.lock();
        if let Some((streams, listened)) = addresses.get_mut(&self.address) {
            *streams -= 1;
            *listened -= self.counted;
            if *streams == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::{Context, Waker};

    use super::super::stream::Took;
    use super::*;

    /// What waits for a subscriber.
    fn taken(outbox: &Outbox) -> (VecDeque<Bytes>, Took) {
        let mut out = VecDeque::new();
        let took = outbox.take(&mut out, &Context::from_waker(Waker::noop()));
        (out, took)
    }

    fn rooms() -> Arc<Rooms> {
        Rooms::new(Bounds {
            streams: 4,
            streams_per_room: 3,
            streams_per_address: 2,
            rooms_per_address: 3,
            rooms: 10,
            queue: 2,
            posts_per_minute: 5,
        })
    }

    fn room(byte: u8) -> Room {
        Room::from_bytes(&[byte; 20]).unwrap()
    }

    fn address(last: u8) -> LimitKey {
        std::net::IpAddr::from([192, 0, 2, last]).into()
    }

    #[test]
    fn posts_reach_who_listens_and_count_for_a_minute() {
        let rooms = rooms();
        let (outbox, guard) = rooms.subscribe(vec![room(1), room(2)], address(1)).unwrap();
        assert_eq!(rooms.publish(&room(1), &Bytes::from_static(b"a"), 0), 1);
        assert_eq!(rooms.publish(&room(3), &Bytes::from_static(b"b"), 0), 0);
        assert_eq!(taken(&outbox), (vec![Bytes::from_static(b"a")].into(), Took::Events));
        assert_eq!(taken(&outbox), (VecDeque::new(), Took::Nothing));
        assert_eq!(rooms.of(&room(1), 59_999), (1, 1));
        assert_eq!(rooms.of(&room(1), 60_000), (0, 1));
        drop(guard);
        assert_eq!((rooms.of(&room(1), 0), rooms.streams()), ((0, 0), 0));
        rooms.each(120_000, |_, _| None);
        assert!(rooms.rooms.lock().is_empty() && rooms.addresses.lock().is_empty());
    }

    #[test]
    fn a_slow_listener_is_told_to_go_and_costs_nobody_else_anything() {
        let rooms = rooms();
        rooms.refer(&["https://a.example".to_owned()]);
        let (slow, _slow_guard) = rooms.subscribe(vec![room(1)], address(1)).unwrap();
        let (quick, _quick_guard) = rooms.subscribe(vec![room(1)], address(2)).unwrap();
        for at in 0..4 {
            rooms.publish(&room(1), &Bytes::from_static(b"x"), at);
            assert_eq!(taken(&quick).0, ["x"]);
        }
        let (all, _) = taken(&slow);
        assert_eq!(all.len(), 3);
        let bye = "event: bye\ndata: {\"nodes\":[\"https://a.example\"],\"reason\":\"slow\"}\n\n";
        assert!(all[2] == bye && taken(&slow).1 == Took::End);
    }

    #[test]
    fn everything_has_its_limit_and_gives_back_what_it_took() {
        let rooms = rooms();
        let first = rooms.subscribe(vec![room(1)], address(1)).unwrap();
        let second = rooms.subscribe(vec![room(1)], address(1)).unwrap();
        let refused =
            |rooms: &Arc<Rooms>, at, from| rooms.subscribe(vec![room(at)], address(from)).err();
        assert_eq!(refused(&rooms, 1, 1), Some(Full::Address));
        let _third = rooms.subscribe(vec![room(1)], address(2)).unwrap();
        assert_eq!(refused(&rooms, 1, 3), Some(Full::Room));
        let _fourth = rooms.subscribe(vec![room(2)], address(3)).unwrap();
        assert_eq!(refused(&rooms, 2, 4), Some(Full::Node));
        drop((first, second));
        assert_eq!(refused(&rooms, 1, 1), None);
        let wide = (1..=4).map(room).collect();
        assert_eq!(rooms.subscribe(wide, address(9)).err(), Some(Full::Address));
        for at in 0..5 {
            assert_eq!(rooms.admits(&room(5), at), Ok(()));
            rooms.publish(&room(5), &Bytes::new(), at);
        }
        assert_eq!(rooms.admits(&room(5), 5), Err(Full::Room));
        assert_eq!(rooms.admits(&room(5), 60_000), Ok(()));
    }
}
