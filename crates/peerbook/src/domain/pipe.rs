//! What waits to be sent over one data channel.

use std::{collections::VecDeque, sync::Arc};

use edge::ws::Frame;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Queues frames for one data channel. Never blocks; clones share the queue.
#[derive(Clone)]
pub(crate) struct Pipe(Arc<Shared>);

struct Shared {
    most_bytes: usize,
    most_frames: usize,
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// Nothing more is queued; what is there is still sent.
    ending: bool,
    /// The peer reads too slowly.
    overflown: bool,
}

/// What there is to do.
pub(crate) enum Next {
    /// This is to be sent.
    Frame(Frame),
    /// Nothing now.
    Wait,
    /// Everything was sent and nothing follows.
    End,
    /// The peer reads too slowly, and is given up.
    Overflow,
}

impl Pipe {
    /// An empty one with room for this much.
    pub(crate) fn new(most_bytes: usize, most_frames: usize) -> Self {
        let (queue, changed) = (Mutex::default(), Notify::new());
        Self(Arc::new(Shared { most_bytes, most_frames, queue, changed }))
    }

    pub(super) fn send(&self, frame: Frame) -> bool {
        let mut queue = self.0.queue.lock();
        if queue.ending {
            return false;
        }
        let full = queue.frames.len() >= self.0.most_frames
            || queue.bytes + frame.len() > self.0.most_bytes;
        if full {
            (queue.ending, queue.overflown) = (true, true);
        } else {
            queue.bytes += frame.len();
            queue.frames.push_back(frame);
        }
        drop(queue);
        self.0.changed.notify_one();
        !full
    }

    pub(super) fn end_with(&self, frame: Frame) {
        let mut queue = self.0.queue.lock();
        if queue.ending {
            return;
        }
        (queue.ending, queue.bytes, queue.frames) = (true, frame.len(), VecDeque::from([frame]));
        drop(queue);
        self.0.changed.notify_one();
    }

    /// Nothing more is queued.
    pub(crate) fn close(&self) {
        self.0.queue.lock().ending = true;
        self.0.changed.notify_one();
    }

    /// Whether nothing can be queued any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.queue.lock().ending
    }

    /// Waits until something was queued since the last look, or it ended.
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Takes what is next.
    pub(crate) fn next(&self) -> Next {
        let mut queue = self.0.queue.lock();
        if queue.overflown {
            return Next::Overflow;
        }
        match queue.frames.pop_front() {
            Some(frame) => {
                queue.bytes -= frame.len();
                Next::Frame(frame)
            }
            None if queue.ending => Next::End,
            None => Next::Wait,
        }
    }

    /// Puts back what could not be sent yet.
    pub(crate) fn put_back(&self, frame: Frame) {
        let mut queue = self.0.queue.lock();
        queue.bytes += frame.len();
        queue.frames.push_front(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pipe: &Pipe) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| match pipe.next() {
            Next::Frame(frame) => Some(frame.as_payload().to_vec()),
            _ => None,
        })
        .collect()
    }

    #[test]
    fn frames_come_out_in_order_and_the_last_word_replaces_what_waits() {
        let pipe = Pipe::new(1000, 10);
        for text in ["one", "two"] {
            assert!(pipe.send(Frame::text(text)));
        }
        let Next::Frame(first) = pipe.next() else { panic!("nothing") };
        pipe.put_back(first);
        assert_eq!(texts(&pipe), [b"one", b"two"]);
        assert!(matches!(pipe.next(), Next::Wait));
        assert!(pipe.send(Frame::text("lost")));
        pipe.end_with(Frame::text("last"));
        assert!(!pipe.send(Frame::text("late")) && pipe.is_closed());
        assert_eq!(texts(&pipe), [b"last"]);
        assert!(matches!(pipe.next(), Next::End));
    }

    #[test]
    fn who_reads_too_slowly_is_given_up() {
        let pipe = Pipe::new(1000, 2);
        assert!(pipe.send(Frame::text("1")) && pipe.send(Frame::text("2")));
        assert!(!pipe.send(Frame::text("3")));
        assert!(matches!(pipe.next(), Next::Overflow));
    }
}
