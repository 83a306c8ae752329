//! The way to one socket, as the rules see it.

use edge::ws::{Feed, Frame, Outbox};

/// Half of a connection that any task may write to. Nothing here waits.
pub(crate) trait Line: Clone + Send + Sync + 'static {
    /// Log of frames that many lines receive at the cost of one.
    type Feed: Send + Sync + 'static;

    /// Queues a frame; `false` when the socket is gone or too slow, so that it will not arrive.
    fn send(&self, frame: &Frame) -> bool;

    /// Closes the socket after what is queued.
    fn close(&self, code: u16, reason: &'static str);

    /// Appends an event to the log and returns its position.
    fn append(feed: &Self::Feed, frame: &Frame) -> u64;

    /// Position of the next event.
    fn end(feed: &Self::Feed) -> u64;

    /// Receives the log's events from a position on, in order with what is sent directly.
    fn follow(&self, feed: &Self::Feed, from: u64);

    /// Receives no further events.
    fn unfollow(&self);

    /// Leaves out one event of the log.
    fn skip(&self, position: u64);
}

impl Line for Outbox {
    type Feed = Feed;

    fn send(&self, frame: &Frame) -> bool {
        Outbox::send(self, frame.clone()).is_ok()
    }

    fn close(&self, code: u16, reason: &'static str) {
        Outbox::close(self, code, reason);
    }

    fn append(feed: &Feed, frame: &Frame) -> u64 {
        feed.append(frame)
    }

    fn end(feed: &Feed) -> u64 {
        feed.position()
    }

    fn follow(&self, feed: &Feed, from: u64) {
        Outbox::follow(self, feed, from);
    }

    fn unfollow(&self) {
        Outbox::unfollow(self);
    }

    fn skip(&self, position: u64) {
        Outbox::skip(self, position);
    }
}
