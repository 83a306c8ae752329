//! One subscriber's queue of events.

use std::collections::VecDeque;
use std::task::{Context, Waker};

use bytes::Bytes;
use parking_lot::Mutex;

/// How long a subscriber may take nothing of what waits for it, in milliseconds.
const STALL_MS: i64 = 20_000;

/// The queue.
#[derive(Default)]
pub(crate) struct Outbox(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    /// Events that were taken and may not be written yet.
    taken: usize,
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

/// What there was to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Took {
    Events,
    /// Nothing; the task is woken when there is.
    Nothing,
    /// Nothing, and nothing will come.
    End,
}

impl Outbox {
    /// Queues an event, unless `limit` of them wait.
    pub(crate) fn push(&self, frame: Bytes, limit: usize, now_ms: i64) -> Pushed {
        let mut queue = self.0.lock();
        if queue.ended {
            return Pushed::Ended;
        }
        if queue.frames.len() + queue.taken >= limit {
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

    /// The subscriber is gone: nothing waits for it any more.
    pub(crate) fn close(&self) {
        let mut queue = self.0.lock();
        (queue.ended, queue.frames) = (true, VecDeque::new());
    }

    /// Whether nothing was taken for too long.
    pub(crate) fn is_stalled(&self, now_ms: i64) -> bool {
        let mut queue = self.0.lock();
        let waits = queue.taken > 0 || !queue.frames.is_empty();
        waits && now_ms - *queue.waiting_ms.get_or_insert(now_ms) > STALL_MS
    }

    /// Moves all that waits to `out`, of which everything has been written.
    pub(crate) fn take(&self, out: &mut VecDeque<Bytes>, task: &Context<'_>) -> Took {
        let mut queue = self.0.lock();
        queue.waiting_ms = None;
        queue.taken = queue.frames.len();
        if queue.taken > 0 {
            // Both keep what room they have, unless it was a burst.
            std::mem::swap(&mut queue.frames, out);
            return Took::Events;
        }
        if queue.ended {
            return Took::End;
        }
        shrink(&mut queue.frames);
        if !queue.waker.as_ref().is_some_and(|waker| waker.will_wake(task.waker())) {
            queue.waker = Some(task.waker().clone());
        }
        Took::Nothing
    }
}

fn wake(mut queue: parking_lot::MutexGuard<'_, Queue>) {
    let waker = queue.waker.take();
    drop(queue);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// An idle subscriber keeps no room for a burst.
pub(crate) fn shrink(frames: &mut VecDeque<Bytes>) {
    if frames.is_empty() && frames.capacity() > 8 {
        frames.shrink_to(4);
    }
}
