//! A log of frames that many sockets receive.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use service::Context;
use tokio::{sync::Notify, time::Instant};

use super::{Frame, frame::frame_len, outbox::Shared};
use crate::metrics::FeedMetrics;

/// Frames are gathered in buffers of this many bytes.
const CHUNK_BYTES: usize = 32 * 1024;
/// Time one follower's share of a round takes; spaces the rounds so that they leave room for
/// everything else.
const ROUND_PER_FOLLOWER: Duration = Duration::from_micros(8);
const ROUND_MIN: Duration = Duration::from_millis(1);
const ROUND_MAX: Duration = Duration::from_millis(50);
/// Followers woken before other tasks get a turn.
const ROUND_BATCH: usize = 64;

/// A shared, append-only log of frames. Cloning gives another handle to the same log.
///
/// A frame is appended once, whatever the number of followers; each follower holds a
/// position and writes whole runs of frames, shared with all others. Positions are byte
/// offsets since the log began. The log keeps the newest `max_bytes`; a follower that falls
/// behind that is closed with 1013.
#[derive(Clone)]
pub struct Feed(Arc<Inner>);

struct Inner {
    /// Where the log ends; written under `log`'s lock.
    end: AtomicU64,
    log: Mutex<Log>,
    followers: Mutex<Followers>,
    appended: Notify,
    max_bytes: u64,
    metrics: FeedMetrics,
}

#[derive(Default)]
struct Log {
    /// Runs of whole frames, oldest first, without gaps.
    segments: VecDeque<Segment>,
    /// Frames behind the last segment that no follower has asked for yet.
    open: BytesMut,
    begin: u64,
    end: u64,
}

struct Segment {
    begin: u64,
    bytes: Bytes,
}

#[derive(Default)]
struct Followers {
    slots: Vec<Option<Arc<Shared>>>,
    free: Vec<usize>,
}

/// The position asked for is not in the log any more.
#[derive(Debug)]
pub(super) struct Lagged;

impl Feed {
    /// An empty log that keeps the newest `max_bytes`, and the task that wakes its followers.
    pub fn new(max_bytes: usize, cx: &Context) -> Self {
        let inner = Arc::new(Inner {
            end: AtomicU64::new(0),
            log: Mutex::default(),
            followers: Mutex::default(),
            appended: Notify::new(),
            max_bytes: max_bytes as u64,
            metrics: FeedMetrics::register(&cx.metrics),
        });
        cx.spawn("feed", wake_followers(inner.clone(), cx.stop.clone()));
        Self(inner)
    }

    /// Appends one frame; its position. Costs the same for any number of followers.
    pub fn append(&self, frame: &Frame) -> u64 {
        let position = {
            let mut log = self.0.log.lock();
            let position = log.append(frame.bytes());
            log.forget(self.0.max_bytes);
            self.0.end.store(log.end, Ordering::Release);
            self.0.metrics.held_bytes.set(i64::try_from(log.end - log.begin).unwrap_or(i64::MAX));
            position
        };
        self.0.metrics.frames.inc();
        self.0.appended.notify_one();
        position
    }

    /// Where the next frame will be appended.
    pub fn position(&self) -> u64 {
        self.0.end.load(Ordering::Acquire)
    }

    pub(super) fn add(&self, follower: Arc<Shared>) -> usize {
        let mut followers = self.0.followers.lock();
        self.0.metrics.followers.inc();
        if let Some(slot) = followers.free.pop() {
            followers.slots[slot] = Some(follower);
            return slot;
        }
        followers.slots.push(Some(follower));
        followers.slots.len() - 1
    }

    pub(super) fn remove(&self, slot: usize) {
        let mut followers = self.0.followers.lock();
        self.0.metrics.followers.dec();
        followers.slots[slot] = None;
        followers.free.push(slot);
    }

    /// Moves frames between `from` and `until` to `out`, without those at `skips` (sorted), until
    /// about `max_bytes`. Where the next run begins.
    pub(super) fn run(
        &self,
        from: u64,
        until: u64,
        max_bytes: usize,
        skips: &[u64],
        out: &mut VecDeque<Bytes>,
    ) -> Result<u64, Lagged> {
        let mut log = self.0.log.lock();
        if from < log.begin {
            return Err(Lagged);
        }
        log.seal();
        let first = log.segments.partition_point(|segment| segment.end() <= from);
        let (mut cursor, until) = (from, until.min(log.end));
        for segment in log.segments.range(first..) {
            if cursor >= until || cursor - from >= max_bytes as u64 {
                break;
            }
            let end = segment.end().min(until);
            segment.copy(cursor, end, skips, out);
            cursor = end;
        }
        Ok(cursor)
    }
}

impl Log {
    fn append(&mut self, frame: &[u8]) -> u64 {
        if self.open.capacity() - self.open.len() < frame.len() {
            self.seal();
            self.open = BytesMut::with_capacity(CHUNK_BYTES.max(frame.len()));
        }
        self.open.extend_from_slice(frame);
        let position = self.end;
        self.end += frame.len() as u64;
        position
    }

    /// Makes what was appended readable. The rest of the buffer serves the next segment.
    fn seal(&mut self) {
        if !self.open.is_empty() {
            let begin = self.end - self.open.len() as u64;
            self.segments.push_back(Segment { begin, bytes: self.open.split().freeze() });
        }
    }

    fn forget(&mut self, max_bytes: u64) {
        while self.end - self.begin > max_bytes
            && let Some(oldest) = self.segments.pop_front()
        {
            self.begin = oldest.end();
        }
    }
}

impl Segment {
    fn end(&self) -> u64 {
        self.begin + self.bytes.len() as u64
    }

    fn copy(&self, from: u64, until: u64, skips: &[u64], out: &mut VecDeque<Bytes>) {
        let at = |position: u64| {
            usize::try_from(position - self.begin).expect("inside a segment, which fits memory")
        };
        let mut cursor = from;
        for &skip in skips.iter().filter(|skip| (from..until).contains(*skip)) {
            if cursor < skip {
                out.push_back(self.bytes.slice(at(cursor)..at(skip)));
            }
            cursor = skip + frame_len(&self.bytes[at(skip)..]) as u64;
        }
        if cursor < until {
            out.push_back(self.bytes.slice(at(cursor)..at(until)));
        }
    }
}

/// Wakes the followers at once after a pause, then at most once per tick. Ends with the last
/// follower once the process drains.
async fn wake_followers(inner: Arc<Inner>, stop: service::Stop) {
    loop {
        let woken = stop.draining().run_until_cancelled(inner.appended.notified()).await;
        let begin = Instant::now();
        let followers = inner.wake_round().await;
        if woken.is_none() && followers == 0 {
            return;
        }
        let tick = ROUND_PER_FOLLOWER.saturating_mul(followers).clamp(ROUND_MIN, ROUND_MAX);
        tokio::time::sleep_until(begin + tick).await;
    }
}

impl Inner {
    async fn wake_round(&self) -> u32 {
        let (mut next, mut woken) = (0, 0);
        loop {
            {
                let followers = self.followers.lock();
                let end = followers.slots.len().min(next + ROUND_BATCH);
                for follower in followers.slots[next.min(end)..end].iter().flatten() {
                    follower.nudge();
                    woken += 1;
                }
                next += ROUND_BATCH;
                if next >= followers.slots.len() {
                    break;
                }
            }
            tokio::task::yield_now().await;
        }
        self.metrics.rounds.inc();
        self.metrics.round_followers.observe(f64::from(woken));
        woken
    }
}
