//! One subscriber's queue of events.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::Stream;
use parking_lot::Mutex;

/// How long a subscriber may take nothing of what waits for it, in milliseconds.
const STALL_MS: i64 = 20_000;

/// The queue, as those who fill it see it.
#[derive(Default)]
pub(crate) struct Outbox(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    waker: Option<Waker>,
    /// Since when something waits, in milliseconds.
    waiting_ms: Option<i64>,
    ended: bool,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits to be written.
    Queued,
    /// The subscriber is gone, or told to go.
    Ended,
    /// There is no room: the subscriber has to go.
    Full,
}

impl Outbox {
    /// Queues an event, unless `limit` of them wait.
    pub(crate) fn push(&self, frame: Bytes, limit: usize, now_ms: i64) -> Pushed {
        let mut queue = self.0.lock();
        if queue.ended {
            return Pushed::Ended;
        }
        if queue.frames.len() >= limit {
            return Pushed::Full;
        }
        queue.frames.push_back(frame);
        queue.waiting_ms.get_or_insert(now_ms);
        wake(queue);
        Pushed::Queued
    }

    /// Sends `last` behind what waits, then ends.
    pub(crate) fn end(&self, last: Bytes) {
        let mut queue = self.0.lock();
        if !queue.ended {
            queue.ended = true;
            queue.frames.push_back(last);
            wake(queue);
        }
    }

    /// Whether nothing was taken for too long.
    pub(crate) fn is_stalled(&self, now_ms: i64) -> bool {
        self.0.lock().waiting_ms.is_some_and(|since| now_ms - since > STALL_MS)
    }
}

fn wake(mut queue: parking_lot::MutexGuard<'_, Queue>) {
    let waker = queue.waker.take();
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The queue, as the response's body. `held` lives as long as the subscriber is there.
pub(crate) struct Events<H> {
    outbox: Arc<Outbox>,
    _held: H,
}

impl<H> Events<H> {
    /// Reads `outbox` until it ends.
    pub(crate) fn new(outbox: Arc<Outbox>, held: H) -> Self {
        Self { outbox, _held: held }
    }
}

impl<H: Unpin> Stream for Events<H> {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut queue = self.outbox.0.lock();
        let frame = queue.frames.pop_front();
        if queue.frames.is_empty() {
            queue.waiting_ms = None;
            // An idle subscriber keeps no room for a burst.
            queue.frames.shrink_to(4);
        }
        match frame {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None if queue.ended => Poll::Ready(None),
            None => {
                queue.waker = Some(task.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<H> Drop for Events<H> {
    fn drop(&mut self) {
        let mut queue = self.outbox.0.lock();
        (queue.ended, queue.frames) = (true, VecDeque::new());
    }
}
