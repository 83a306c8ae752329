//! The sending half of a socket, for any task.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context as Task, Poll, Waker},
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{Close, Feed, Frame, Limits, feed};
use crate::metrics::Metrics;

/// Bytes handed to the socket at once. What is beyond still counts against the limits.
const BATCH_BYTES: usize = 64 * 1024;
const BATCH_FRAMES: u64 = 64;

/// Queues frames for one socket. Never blocks; cloning gives another handle to the same queue.
///
/// Frames go out in the order they were queued; a frame that was queued when the followed
/// [`Feed`] had reached a position goes out right behind the feed's frames up to there.
#[derive(Clone)]
pub struct Outbox(Arc<Shared>);

/// Why a frame was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The session is over.
    #[error("the socket is closed")]
    Closed,
    /// The peer reads too slowly; its socket is now being closed with 1013.
    #[error("the outbox is full")]
    Full,
}

pub(super) struct Shared {
    pub(super) limits: Arc<Limits>,
    pub(super) metrics: Arc<Metrics>,
    queue: Mutex<Queue>,
}

/// Lock order: a queue's lock may be held while taking a feed's log, never its follower list.
#[derive(Default)]
struct Queue {
    frames: VecDeque<Queued>,
    bytes: usize,
    /// The pump knows that it has to look; no need to wake it again.
    notified: bool,
    draining: bool,
    ending: Option<Ending>,
    pump: Option<Waker>,
    follow: Option<Follow>,
    /// Tasks in [`Outbox::ready`].
    waiting: Vec<Waker>,
}

struct Queued {
    bytes: Bytes,
    /// Position of the followed feed that has to be written before.
    after: u64,
}

struct Follow {
    feed: Feed,
    slot: usize,
    cursor: u64,
    /// Positions of frames to leave out; those before the cursor are done with.
    skips: Vec<u64>,
}

/// What ends a session from outside its own task.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    Close(Close),
    Overflow,
    /// The follower fell off its feed.
    Lagged,
    Killed,
    /// The pump has taken note already.
    Gone,
}

/// What the pump found.
pub(super) enum Took {
    Frames(u64),
    Nothing { draining: bool },
    End(Ending),
}

impl Outbox {
    pub(super) fn new(limits: Arc<Limits>, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Shared { limits, metrics, queue: Mutex::default() }))
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// Queues one frame.
    ///
    /// # Errors
    /// When the session is over, or is over now because the peer reads too slowly.
    pub fn send(&self, frame: Frame) -> Result<(), SendError> {
        let mut queue = self.0.queue.lock();
        if queue.ending.is_some() {
            return Err(SendError::Closed);
        }
        let limits = &self.0.limits;
        let (count, bytes) = (queue.frames.len() + 1, queue.bytes + frame.len());
        if count > 1 && (count > limits.outbox_frames || bytes > limits.outbox_bytes) {
            self.0.metrics.overflows.inc();
            self.0.end(queue, Ending::Overflow);
            return Err(SendError::Full);
        }
        let after = queue.follow.as_ref().map_or(0, |follow| follow.feed.position());
        queue.frames.push_back(Queued { bytes: frame.into_bytes(), after });
        queue.bytes = bytes;
        notify(queue);
        Ok(())
    }

    /// Waits until at most half of the outbox is in use; for protocols that may not lose
    /// anything and stop reading the sender instead.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn ready(&self) -> Result<(), SendError> {
        poll_fn(|task| {
            let mut queue = self.0.queue.lock();
            if queue.ending.is_some() {
                return Poll::Ready(Err(SendError::Closed));
            }
            if self.0.has_room(&queue) {
                return Poll::Ready(Ok(()));
            }
            if !queue.waiting.iter().any(|waker| waker.will_wake(task.waker())) {
                queue.waiting.push(task.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Ends the session; what is queued is sent, then a close frame.
    pub fn close(&self, code: u16, reason: &'static str) {
        self.0.end(self.0.queue.lock(), Ending::Close(Close::new(code, reason)));
    }

    /// Ends the session: what is queued is dropped, `frame` is sent, then a close frame.
    pub fn end_with(&self, frame: Frame, code: u16, reason: &'static str) {
        let mut queue = self.0.queue.lock();
        if queue.ending.is_some() {
            return;
        }
        (queue.bytes, queue.frames) = (frame.len(), VecDeque::new());
        queue.frames.push_back(Queued { bytes: frame.into_bytes(), after: 0 });
        self.0.end(queue, Ending::Close(Close::new(code, reason)));
    }

    /// Ends the session and drops the connection at once.
    pub fn kill(&self) {
        self.0.end(self.0.queue.lock(), Ending::Killed);
    }

    /// Whether the session is over, so that nothing can be queued any more.
    pub fn is_closed(&self) -> bool {
        self.0.queue.lock().ending.is_some()
    }

    /// Sends the frames of `feed` from `from` on, a position that `feed` gave, from now on.
    /// Replaces the feed followed before. Does nothing when the session is over.
    pub fn follow(&self, feed: &Feed, from: u64) {
        self.unfollow();
        let slot = feed.add(self.0.clone());
        let mut queue = self.0.queue.lock();
        if queue.ending.is_some() {
            drop(queue);
            feed.remove(slot);
            return;
        }
        queue.follow = Some(Follow { feed: feed.clone(), slot, cursor: from, skips: Vec::new() });
        if from < feed.position() {
            notify(queue);
        }
    }

    /// Stops following. Frames of the feed that were not written yet are left out.
    pub fn unfollow(&self) {
        let follow = {
            let mut queue = self.0.queue.lock();
            for queued in &mut queue.frames {
                queued.after = 0;
            }
            queue.follow.take()
        };
        if let Some(Follow { feed, slot, .. }) = follow {
            feed.remove(slot);
        }
    }

    /// Leaves out the feed's frame at `position`, as [`Feed::append`] returned it.
    ///
    /// Only certain when called by the session's own task without a wait after appending:
    /// it is the same task that writes.
    pub fn skip(&self, position: u64) {
        if let Some(follow) = &mut self.0.queue.lock().follow {
            let cursor = follow.cursor;
            follow.skips.retain(|skip| *skip >= cursor);
            if let Err(place) = follow.skips.binary_search(&position) {
                follow.skips.insert(place, position);
            }
        }
    }
}

impl Shared {
    /// Moves what is to be written next to `out`, or says what else there is to do. Registers
    /// the pump to be woken when there was nothing.
    pub(super) fn take(&self, task: &mut Task<'_>, out: &mut VecDeque<Bytes>) -> Took {
        let mut queue = self.queue.lock();
        if queue.ending.is_some() {
            return Took::End(queue.ending.replace(Ending::Gone).unwrap_or(Ending::Gone));
        }
        match queue.fill(out, BATCH_BYTES, BATCH_FRAMES) {
            Err(feed::Lagged) => {
                self.metrics.slow_followers.inc();
                queue.ending = Some(Ending::Gone);
                return Took::End(Ending::Lagged);
            }
            Ok(0) if out.is_empty() => {}
            Ok(frames) => {
                let waiting = match self.has_room(&queue) {
                    true => std::mem::take(&mut queue.waiting),
                    false => Vec::new(),
                };
                drop(queue);
                waiting.into_iter().for_each(Waker::wake);
                return Took::Frames(frames);
            }
        }
        queue.notified = false;
        queue.register(task);
        Took::Nothing { draining: queue.draining }
    }

    /// What there is to know while the peer takes no more: the end, or that the process drains.
    pub(super) fn take_none(&self, task: &mut Task<'_>) -> Took {
        let mut queue = self.queue.lock();
        if queue.ending.is_some() {
            return Took::End(queue.ending.replace(Ending::Gone).unwrap_or(Ending::Gone));
        }
        queue.register(task);
        Took::Nothing { draining: queue.draining }
    }

    /// Ends the session for good: nothing is queued any more, nothing followed. With `flush`,
    /// what is queued moves to `out`.
    pub(super) fn finish(&self, out: &mut VecDeque<Bytes>, flush: bool) {
        let mut queue = self.queue.lock();
        if flush {
            // A follower that lags now simply misses the rest of the feed.
            let _ = queue.fill(out, usize::MAX, u64::MAX);
        }
        queue.ending = Some(Ending::Gone);
        (queue.frames, queue.bytes) = (VecDeque::new(), 0);
        let waiting = std::mem::take(&mut queue.waiting);
        let follow = queue.follow.take();
        drop(queue);
        waiting.into_iter().for_each(Waker::wake);
        if let Some(Follow { feed, slot, .. }) = follow {
            feed.remove(slot);
        }
    }

    /// Frees what an idle socket does not need.
    pub(super) fn shrink(&self) {
        let mut queue = self.queue.lock();
        if queue.frames.is_empty() {
            queue.frames = VecDeque::new();
        }
    }

    /// Wakes the pump because its feed has something.
    pub(super) fn nudge(&self) {
        notify(self.queue.lock());
    }

    /// Tells the pump that the process is draining.
    pub(crate) fn drain(&self) {
        let mut queue = self.queue.lock();
        queue.draining = true;
        queue.notified = false;
        notify(queue);
    }

    /// Whether more than half of the outbox is in use.
    pub(super) fn is_crowded(&self) -> bool {
        !self.has_room(&self.queue.lock())
    }

    fn has_room(&self, queue: &Queue) -> bool {
        queue.bytes <= self.limits.outbox_bytes / 2
            && queue.frames.len() <= self.limits.outbox_frames / 2
    }

    /// Notes what ends the session, unless something has already. Wakes the pump even while it
    /// waits for the peer to read.
    fn end(&self, mut queue: parking_lot::MutexGuard<'_, Queue>, ending: Ending) {
        match (&queue.ending, &ending) {
            (None, _) | (Some(Ending::Close(_) | Ending::Overflow), Ending::Killed) => {
                queue.ending = Some(ending);
            }
            _ => return,
        }
        queue.notified = true;
        let waiting = std::mem::take(&mut queue.waiting);
        let pump = queue.pump.clone();
        drop(queue);
        waiting.into_iter().chain(pump).for_each(Waker::wake);
    }
}

/// One wake per burst, after the lock is released.
fn notify(mut queue: parking_lot::MutexGuard<'_, Queue>) {
    if queue.notified {
        return;
    }
    queue.notified = true;
    let pump = queue.pump.clone();
    drop(queue);
    if let Some(pump) = pump {
        pump.wake();
    }
}

impl Queue {
    fn register(&mut self, task: &Task<'_>) {
        if !self.pump.as_ref().is_some_and(|pump| pump.will_wake(task.waker())) {
            self.pump = Some(task.waker().clone());
        }
    }

    /// Moves frames in order until about `max_bytes`; the number of own frames moved.
    fn fill(
        &mut self,
        out: &mut VecDeque<Bytes>,
        max_bytes: usize,
        max_frames: u64,
    ) -> Result<u64, feed::Lagged> {
        let (mut bytes, mut frames) = (0, 0);
        while bytes < max_bytes && frames < max_frames {
            let until = self.frames.front().map_or(u64::MAX, |queued| queued.after);
            if let Some(follow) = &mut self.follow
                && follow.cursor < until
            {
                let ran = follow.run(until, max_bytes - bytes, out)?;
                bytes += ran;
                if ran > 0 {
                    continue;
                }
            }
            let Some(Queued { bytes: frame, .. }) = self.frames.pop_front() else { break };
            self.bytes -= frame.len();
            bytes += frame.len();
            frames += 1;
            out.push_back(frame);
        }
        Ok(frames)
    }
}

impl Follow {
    /// Moves frames of the feed; how far the cursor went.
    fn run(
        &mut self,
        until: u64,
        max_bytes: usize,
        out: &mut VecDeque<Bytes>,
    ) -> Result<usize, feed::Lagged> {
        if self.cursor >= self.feed.position() {
            return Ok(0);
        }
        let from = self.cursor;
        self.cursor = self.feed.run(from, until, max_bytes, &self.skips, out)?;
        if !self.skips.is_empty() {
            let cursor = self.cursor;
            self.skips.retain(|skip| *skip >= cursor);
        }
        Ok(usize::try_from(self.cursor - from).expect("a run fits the log"))
    }
}
