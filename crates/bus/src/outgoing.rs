//! What waits to be sent: numbered, bounded, never waited for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use crate::bounded::Bounded;
use crate::metrics::Metrics;
use crate::wire::{self, Kind, Part};
use crate::{KEPT_FOR, MESSAGE_MAX, Refused, Topic};

/// Messages and bytes that may wait.
const QUEUE_ITEMS: usize = 65_536;
const QUEUE_BYTES: usize = 16 << 20;

/// Topics whose last number is remembered. Beyond it all are forgotten, which their receivers take for
/// a loss.
const TOPICS: usize = 1_024;

/// Messages sent together at most.
const BATCH_ITEMS: usize = 1_024;
const BATCH_BYTES: usize = 1 << 20;

/// The queue of one process.
pub(crate) struct Outgoing {
    node: Uuid,
    state: Mutex<State>,
    filled: Notify,
    emptied: Notify,
    metrics: Arc<Metrics>,
}

struct State {
    queue: Bounded<Waiting>,
    number: u64,
    last: HashMap<Topic, u64>,
    /// A batch was taken and not yet sent.
    sending: bool,
}

struct Waiting {
    topic: Topic,
    part: Part,
    since: Instant,
}

/// Several parts to one topic, encoded.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) topic: Topic,
    pub(crate) bytes: Bytes,
    pub(crate) messages: u64,
    pub(crate) since: Instant,
}

impl Outgoing {
    pub(crate) fn new(node: Uuid, metrics: Arc<Metrics>) -> Self {
        let queue = Bounded::new(QUEUE_ITEMS, QUEUE_BYTES);
        let state = State { queue, number: 0, last: HashMap::new(), sending: false };
        Self {
            node,
            state: Mutex::new(state),
            filled: Notify::new(),
            emptied: Notify::new(),
            metrics,
        }
    }

    /// Queues a message. One that is refused uses up a number, so that its receivers notice.
    pub(crate) fn push(&self, topic: Topic, bytes: Bytes) -> Result<(), Refused> {
        let length = bytes.len();
        let mut state = self.state.lock();
        let part = state.number(topic, Kind::Whole, bytes);
        let refused = if length > MESSAGE_MAX {
            state.queue.note_loss();
            Some(Refused::TooLong)
        } else {
            let waiting = Waiting { topic, since: Instant::now(), part };
            (!state.queue.push(waiting, length)).then_some(Refused::Full)
        };
        self.metrics.waiting_bytes.set(i64::try_from(state.queue.bytes()).unwrap_or(i64::MAX));
        drop(state);
        self.filled.notify_one();
        match refused {
            None => Ok(()),
            Some(why) => {
                self.metrics.refused(why);
                Err(why)
            }
        }
    }

    /// Notes that others missed something although it was sent: they will be told.
    pub(crate) fn note_loss(&self) {
        self.state.lock().queue.note_loss();
        self.filled.notify_one();
    }

    /// Waits until there is something to send.
    pub(crate) async fn filled(&self) {
        loop {
            let filled = self.filled.notified();
            if !self.state.lock().queue.is_idle() {
                return;
            }
            filled.await;
        }
    }

    /// Waits until everything was sent or given up.
    pub(crate) async fn emptied(&self) {
        loop {
            let mut emptied = std::pin::pin!(self.emptied.notified());
            emptied.as_mut().enable();
            {
                let state = self.state.lock();
                if state.queue.is_empty() && !state.sending {
                    return;
                }
            }
            emptied.await;
        }
    }

    /// Takes what waits, packed by topic in packets of at most `packet_bytes`; longer messages have
    /// one of their own when `may_exceed`, and are cut otherwise. [`Outgoing::done`] has to follow.
    pub(crate) fn take(&self, packet_bytes: usize, may_exceed: bool) -> Vec<Packet> {
        let mut packing =
            Packing { packet_bytes, may_exceed, node: self.node, ..Packing::default() };
        let (mut items, mut bytes) = (0, 0);
        let mut state = self.state.lock();
        state.sending = true;
        if state.queue.take_loss() {
            let part = state.number(Topic::All, Kind::Loss, Bytes::new());
            packing.add(Topic::All, part, Instant::now());
        }
        while items < BATCH_ITEMS && bytes < BATCH_BYTES {
            let Some(Waiting { topic, part, since }) = state.queue.pop() else { break };
            items += 1;
            bytes += part.bytes.len();
            packing.add(topic, part, since);
        }
        self.metrics.waiting_bytes.set(i64::try_from(state.queue.bytes()).unwrap_or(i64::MAX));
        drop(state);
        packing.finish()
    }

    /// What was taken is sent, or given up.
    pub(crate) fn done(&self) {
        let mut state = self.state.lock();
        state.sending = false;
        let again = !state.queue.is_idle();
        drop(state);
        if again { self.filled.notify_one() } else { self.emptied.notify_waiters() }
    }
}

impl State {
    fn number(&mut self, topic: Topic, kind: Kind, bytes: Bytes) -> Part {
        self.number += 1;
        if self.last.len() >= TOPICS && !self.last.contains_key(&topic) {
            self.last.clear();
        }
        let previous = self.last.insert(topic, self.number).unwrap_or(0);
        Part { number: self.number, previous, kind, bytes }
    }
}

/// Whether a packet is too old to be sent any more.
pub(crate) fn is_stale(packet: &Packet) -> bool {
    packet.since.elapsed() > KEPT_FOR
}

/// Time until all of `packets` are too old.
pub(crate) fn time_left(packets: &[Packet]) -> Duration {
    let newest = packets.iter().map(|packet| packet.since).max();
    newest.map_or(Duration::ZERO, |since| KEPT_FOR.saturating_sub(since.elapsed()))
}

#[derive(Default)]
struct Packing {
    packet_bytes: usize,
    may_exceed: bool,
    node: Uuid,
    /// The packet of each topic that takes more, in order of their beginnings.
    open: Vec<(Topic, BytesMut, u64, Instant)>,
    closed: Vec<Packet>,
}

impl Packing {
    fn add(&mut self, topic: Topic, mut part: Part, since: Instant) {
        let room = self.packet_bytes.saturating_sub(wire::HEAD + wire::PART).max(1);
        while !self.may_exceed && part.bytes.len() > room {
            let piece = part.bytes.split_to(room);
            let head = Part { kind: Kind::More, bytes: piece, ..part.clone() };
            self.put(topic, &head, since, 0);
        }
        self.put(topic, &part, since, 1);
    }

    fn put(&mut self, topic: Topic, part: &Part, since: Instant, messages: u64) {
        let place = self.open.iter().position(|(open, ..)| *open == topic);
        let place = place.filter(|&place| {
            let fits = self.open[place].1.len() + part.len() <= self.packet_bytes;
            if !fits {
                let full = self.open.remove(place);
                self.closed.push(packet(full));
            }
            fits
        });
        let place = place.unwrap_or_else(|| {
            let empty = wire::begin(self.node, part.len());
            self.open.push((topic, empty, 0, since));
            self.open.len() - 1
        });
        let (_, bytes, count, _) = &mut self.open[place];
        wire::append(bytes, part);
        *count += messages;
    }

    fn finish(mut self) -> Vec<Packet> {
        self.closed.extend(self.open.into_iter().map(packet));
        self.closed
    }
}

fn packet((topic, bytes, messages, since): (Topic, BytesMut, u64, Instant)) -> Packet {
    Packet { topic, bytes: bytes.freeze(), messages, since }
}
