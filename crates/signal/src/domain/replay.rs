//! Signals kept for a peer that may come back with its resume token.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use edge::ws::Frame;
use proto::signal::encode;

/// What all replays of a process may hold together.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    max_bytes: usize,
}

impl Budget {
    pub(crate) fn new(max_bytes: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), max_bytes })
    }

    fn take(&self, bytes: usize) -> bool {
        let room = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.max_bytes);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The latest signals to one peer, oldest first: those it was sent, then those it missed.
///
/// Invariant: at most `max_frames` and `max_bytes`, and every byte is taken from the budget.
#[derive(Debug)]
pub(crate) struct Replay {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// How many frames at the front were handed to the connection that is gone.
    sent: usize,
    max_frames: usize,
    max_bytes: usize,
    budget: Arc<Budget>,
}

impl Replay {
    pub(crate) fn new(max_frames: usize, max_bytes: usize, budget: Arc<Budget>) -> Self {
        Self { frames: VecDeque::new(), bytes: 0, sent: 0, max_frames, max_bytes, budget }
    }

    /// Keeps a frame that was just sent. One that does not fit is not kept: it was sent.
    pub(crate) fn sent(&mut self, frame: &Frame) {
        debug_assert_eq!(self.sent, self.frames.len(), "nothing is missed while connected");
        if self.push(frame) {
            self.sent += 1;
        }
    }

    /// Keeps a frame for a peer that is away; `false` when there is no room, so that the sender
    /// has to be told.
    pub(crate) fn missed(&mut self, frame: &Frame) -> bool {
        self.push(frame)
    }

    /// Takes what the peer has not received, in order: what comes after the frame with id
    /// `after` as far as that is still known, else all that was not handed to a connection.
    pub(crate) fn take(&mut self, after: Option<&[u8]>) -> Vec<Frame> {
        let start = match after {
            None => self.sent,
            Some(id) => {
                let seen = |frame: &Frame| encode::signal_id(&frame.payload()) == id;
                // An id that is not here was pushed out by newer ones: all of them are missed.
                self.frames.iter().rposition(seen).map_or(0, |at| at + 1)
            }
        };
        let missed = self.frames.iter().skip(start).cloned().collect();
        self.sent = self.frames.len();
        missed
    }

    /// Takes everything, and how much of it was handed to the connection that is gone.
    pub(crate) fn take_all(&mut self) -> (Vec<Frame>, usize) {
        let frames: Vec<Frame> = std::mem::take(&mut self.frames).into();
        self.budget.give_back(std::mem::take(&mut self.bytes));
        (frames, std::mem::take(&mut self.sent))
    }

    /// Fills an empty replay with what another replica kept.
    pub(crate) fn refill(&mut self, frames: &[Frame], sent: usize) {
        for (place, frame) in frames.iter().enumerate() {
            if !self.push(frame) {
                break;
            }
            self.sent += usize::from(place < sent);
        }
    }

    fn push(&mut self, frame: &Frame) -> bool {
        let bytes = frame.len();
        if bytes > self.max_bytes {
            return false;
        }
        while self.frames.len() >= self.max_frames || self.bytes + bytes > self.max_bytes {
            // Only what was sent may make room; what was missed is promised to the peer.
            if !self.drop_oldest_sent() {
                return false;
            }
        }
        while !self.budget.take(bytes) {
            if !self.drop_oldest_sent() {
                return false;
            }
        }
        self.bytes += bytes;
        self.frames.push_back(frame.clone());
        true
    }

    fn drop_oldest_sent(&mut self) -> bool {
        if self.sent == 0 {
            return false;
        }
        let Some(frame) = self.frames.pop_front() else { return false };
        self.sent -= 1;
        self.bytes -= frame.len();
        self.budget.give_back(frame.len());
        true
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two bytes longer than its text.
    fn frame(text: &str) -> Frame {
        Frame::text(text)
    }

    fn texts(frames: &[Frame]) -> Vec<String> {
        let text = |frame: &Frame| String::from_utf8(frame.payload().to_vec()).unwrap();
        frames.iter().map(text).collect()
    }

    #[test]
    fn only_what_was_missed_comes_back_and_only_once() {
        let mut replay = Replay::new(8, 100, Budget::new(1000));
        replay.sent(&frame("a"));
        assert!(replay.missed(&frame("b")));
        assert!(replay.missed(&frame("c")));
        assert_eq!(texts(&replay.take(None)), ["b", "c"]);
        assert_eq!(texts(&replay.take(None)), Vec::<String>::new());
    }

    #[test]
    fn a_client_that_names_the_last_signal_it_got_receives_what_came_after() {
        let mut replay = Replay::new(8, 10_000, Budget::new(10_000));
        let members = proto::js::scan_object(br#"{"p":{}}"#, 4).unwrap().unwrap();
        let payload = members.get("p").unwrap();
        let signal = || Frame::text_with(64, |out| encode::signal(payload, out));
        let frames = [signal(), signal(), signal()];
        frames.iter().for_each(|frame| replay.sent(frame));
        let id = encode::signal_id(&frames[0].payload()).to_vec();
        assert_eq!(replay.take(Some(&id)).len(), 2);
        assert_eq!(replay.take(Some(b"srv-signal-gone")).len(), 3);
        assert_eq!(replay.take(None).len(), 0);
    }

    #[test]
    fn missed_signals_are_never_pushed_out_sent_ones_are() {
        let mut replay = Replay::new(2, 100, Budget::new(1000));
        replay.sent(&frame("a"));
        replay.sent(&frame("b"));
        assert!(replay.missed(&frame("c")));
        assert!(replay.missed(&frame("d")));
        assert!(!replay.missed(&frame("e")));
        assert_eq!(texts(&replay.take(None)), ["c", "d"]);
    }

    #[test]
    fn all_replays_together_stay_inside_the_budget() {
        let budget = Budget::new(2 * 2 + 4);
        let (mut one, mut two) =
            (Replay::new(9, 9, budget.clone()), Replay::new(9, 9, budget.clone()));
        assert!(one.missed(&frame("abc")));
        assert!(!two.missed(&frame("xy")));
        assert!(two.missed(&frame("x")));
        drop(one);
        assert!(two.missed(&frame("xyz")));
        drop(two);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
