//! What arrives: put together, checked for gaps and repetitions, handed to the subscribers.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::metrics::{Cause, Metrics};
use crate::subscription::{Event, Message, Shared, Subscription};
use crate::wire::{self, Kind, Part};
use crate::{MESSAGE_MAX, Topic};

/// Senders remembered; with one more, who was silent longest is forgotten.
const SOURCES: usize = 2_048;

/// The receiving half of one process.
pub(crate) struct Inbox {
    node: Uuid,
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

/// Where a packet was heard.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope {
    /// It was sent to everybody.
    All,
    /// It was sent to this process.
    Node,
}

#[derive(Default)]
struct State {
    sources: HashMap<(Uuid, Topic), Source>,
    clock: u64,
    subscribers: Vec<Weak<Shared>>,
}

/// What came last from one sender in one topic.
#[derive(Default)]
struct Source {
    number: u64,
    /// Beginning of a message that came in pieces.
    pieces: BytesMut,
    heard: u64,
}

impl Inbox {
    pub(crate) fn new(node: Uuid, metrics: Arc<Metrics>) -> Self {
        Self { node, state: Mutex::default(), metrics }
    }

    pub(crate) fn node(&self) -> Uuid {
        self.node
    }

    pub(crate) fn subscribe(&self) -> Subscription {
        let shared = Arc::new(Shared::new(self.metrics.clone()));
        let mut state = self.state.lock();
        state.subscribers.retain(|subscriber| subscriber.strong_count() > 0);
        state.subscribers.push(Arc::downgrade(&shared));
        Subscription::new(shared)
    }

    /// Takes a packet.
    pub(crate) fn receive(&self, scope: Scope, packet: Bytes) {
        let topic = match scope {
            Scope::All => Topic::All,
            Scope::Node => Topic::Node(self.node),
        };
        let Some((from, parts)) = wire::decode(packet) else {
            tracing::warn!("not a packet of this version on the bus; left out");
            self.missed(Cause::Gap);
            return;
        };
        if from == self.node {
            return;
        }
        let mut state = self.state.lock();
        for part in parts {
            let (bytes, gap) = state.source(from, topic).take(part);
            if gap {
                self.metrics.missed(Cause::Gap);
                state.tell(&Event::Resync);
            }
            if let Some(bytes) = bytes {
                self.metrics.received.inc();
                state.tell(&Event::Message(Message { from, topic, bytes }));
            }
        }
    }

    /// Messages may have been missed: the connection was gone, or began just now.
    pub(crate) fn missed(&self, cause: Cause) {
        self.metrics.missed(cause);
        self.state.lock().tell(&Event::Resync);
    }
}

impl State {
    fn source(&mut self, from: Uuid, topic: Topic) -> &mut Source {
        self.clock += 1;
        let key = (from, topic);
        if self.sources.len() >= SOURCES && !self.sources.contains_key(&key) {
            let quietest = self.sources.iter().min_by_key(|(_, source)| source.heard);
            if let Some(key) = quietest.map(|(key, _)| *key) {
                self.sources.remove(&key);
            }
        }
        let source = self.sources.entry(key).or_default();
        source.heard = self.clock;
        source
    }

    fn tell(&mut self, event: &Event) {
        self.subscribers.retain(|subscriber| match subscriber.upgrade() {
            Some(subscriber) => {
                subscriber.push(event.clone());
                true
            }
            None => false,
        });
    }
}

impl Source {
    /// The message that is complete now, and whether something before it is missing.
    fn take(&mut self, part: Part) -> (Option<Bytes>, bool) {
        let Part { number, previous, kind, bytes } = part;
        let continues = number == self.number && !self.pieces.is_empty();
        if number < self.number || (number == self.number && !continues) {
            return (None, false); // sent again after an answer was lost
        }
        let gap = kind == Kind::Loss || (!continues && previous != self.number);
        if !continues {
            self.pieces.clear();
        }
        self.number = number;
        match kind {
            Kind::Loss => (None, gap),
            Kind::Whole if !continues => (Some(bytes), gap),
            Kind::Whole => {
                self.pieces.extend_from_slice(&bytes);
                (Some(std::mem::take(&mut self.pieces).freeze()), gap)
            }
            Kind::More if self.pieces.len() + bytes.len() > MESSAGE_MAX => {
                self.pieces = BytesMut::new();
                (None, true)
            }
            Kind::More => {
                self.pieces.extend_from_slice(&bytes);
                (None, gap)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: u64, previous: u64, kind: Kind, text: &'static str) -> Part {
        Part { number, previous, kind, bytes: Bytes::from_static(text.as_bytes()) }
    }

    #[test]
    fn gaps_are_noticed_and_repetitions_left_out() {
        let mut source = Source::default();
        let mut take = |number, previous, text| {
            let (bytes, gap) = source.take(part(number, previous, Kind::Whole, text));
            (bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()), gap)
        };
        assert_eq!(take(1, 0, "a"), (Some("a".into()), false));
        assert_eq!(take(4, 1, "b"), (Some("b".into()), false), "2 and 3 went elsewhere");
        assert_eq!(take(4, 1, "b"), (None, false));
        assert_eq!(take(1, 0, "a"), (None, false));
        assert_eq!(take(9, 7, "c"), (Some("c".into()), true));
        assert_eq!(take(10, 0, "d"), (Some("d".into()), true), "the sender forgot the topic");
    }

    #[test]
    fn a_sender_that_was_not_heard_from_the_beginning_counts_as_a_gap() {
        let (bytes, gap) = Source::default().take(part(7, 5, Kind::Whole, "x"));
        assert!(bytes.is_some() && gap);
        assert!(!Source::default().take(part(7, 0, Kind::Whole, "x")).1);
    }

    #[test]
    fn pieces_make_one_message_and_a_lost_end_none() {
        let mut source = Source::default();
        assert_eq!(source.take(part(1, 0, Kind::More, "he")), (None, false));
        assert_eq!(source.take(part(1, 0, Kind::More, "l")), (None, false));
        let (bytes, gap) = source.take(part(1, 0, Kind::Whole, "lo"));
        assert_eq!((&bytes.unwrap()[..], gap), (&b"hello"[..], false));
        assert_eq!(source.take(part(2, 1, Kind::More, "cut")), (None, false));
        let (bytes, _) = source.take(part(3, 2, Kind::Whole, "next"));
        assert_eq!(&bytes.unwrap()[..], b"next");
        assert_eq!(source.take(part(4, 3, Kind::Loss, "")), (None, true));
    }
}
