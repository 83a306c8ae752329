//! Group commit: concurrent writes of one kind become one statement and one commit.
//!
//! ```text
//! write(a) --+
//! write(b) --+--> queue --> lane: [a b c] --> commit(batch) --> answers a, b, c
//! write(c) --+              next: [d e …]  gathers while the lane is busy
//! ```
//! A lane that is idle takes what is there at once, so a lone write waits for nobody. While it
//! is busy the next batch gathers: the slower the disk, the bigger the batch.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, Range};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use prometheus::{Histogram, HistogramOpts, IntCounter, Opts, Registry};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, sleep};

use crate::error::blames_data;
use crate::{Backoff, Error, Spawn};

/// How much a [`GroupCommit`] takes together, and how much may wait.
#[derive(Clone, Debug)]
pub struct GroupLimits {
    /// What is written, for the metrics: `envelopes`.
    pub name: &'static str,
    /// Most items in one batch.
    pub max_items: usize,
    /// A batch takes no further item once it weighs this much.
    pub max_bytes: usize,
    /// Batches under way at the same time. With one, commits happen in the order of the writes.
    pub lanes: usize,
    /// Most items waiting; more are refused as [`Error::Busy`].
    pub queue: usize,
    /// How long a batch is tried again while the database is away.
    pub retry_for: Duration,
}

impl GroupLimits {
    /// 512 items or 4 MiB together, one lane, 8,192 waiting, 5 s of retries.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            max_items: 512,
            max_bytes: 4 << 20,
            lanes: 1,
            queue: 8_192,
            retry_for: Duration::from_secs(5),
        }
    }
}

/// Items that are committed together, in the order they were written. A slice, and cheap to clone.
pub struct Batch<I> {
    items: Arc<[I]>,
    range: Range<usize>,
}

impl<I> Deref for Batch<I> {
    type Target = [I];

    fn deref(&self) -> &[I] {
        &self.items[self.range.clone()]
    }
}

impl<I> Clone for Batch<I> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), range: self.range.clone() }
    }
}

impl<I> Batch<I> {
    fn halves(&self) -> (Self, Self) {
        let middle = self.range.start + self.len() / 2;
        let part = |range| Self { items: self.items.clone(), range };
        (part(self.range.start..middle), part(middle..self.range.end))
    }
}

/// Collects concurrent writes of one kind and commits them together. Clones share the queue; the
/// lanes end when the last clone is gone and the queue is empty.
pub struct GroupCommit<I, R> {
    queue: mpsc::Sender<Waiting<I, R>>,
}

struct Waiting<I, R> {
    item: I,
    bytes: usize,
    since: Instant,
    answer: oneshot::Sender<Result<R, Error>>,
}

impl<I, R> Clone for GroupCommit<I, R> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<I, R> fmt::Debug for GroupCommit<I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.queue.max_capacity() - self.queue.capacity();
        f.debug_struct("GroupCommit").field("waiting", &waiting).finish()
    }
}

impl<I, R> GroupCommit<I, R>
where
    I: Send + Sync + 'static,
    R: Send + 'static,
{
    /// Starts the lanes. `commit` writes a whole batch in one transaction and gives one answer per
    /// item, in order.
    ///
    /// It may be called again with the same items: after a transient error, when the commit may
    /// have happened all the same, and with parts of a batch after the data was refused, so that a
    /// bad item fails alone.
    ///
    /// # Panics
    /// When `limits.name` is already taken in `metrics`, or a limit is zero.
    pub fn start<C, Fut>(
        limits: GroupLimits,
        metrics: &Registry,
        spawn: impl Spawn,
        commit: C,
    ) -> Self
    where
        C: Fn(Batch<I>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<R>, Error>> + Send + 'static,
    {
        assert!(limits.max_items > 0 && limits.lanes > 0, "a group needs room");
        let (queue, waiting) = mpsc::channel(limits.queue);
        let lane = Arc::new(Lane {
            waiting: Mutex::new(waiting),
            metrics: Metrics::register(limits.name, metrics).expect("one group of each name"),
            limits,
            commit,
        });
        for _ in 0..lane.limits.lanes {
            spawn("group-commit", Box::pin(lane.clone().run()));
        }
        Self { queue }
    }

    /// Queues `item` and waits for its commit. Dropping the future does not take the item back.
    ///
    /// # Errors
    /// [`Error::Busy`] when the queue is full, [`Error::Closed`] when the lanes are gone, else
    /// what `commit` said, about this item alone where the data was at fault.
    pub async fn write(&self, item: I) -> Result<R, Error> {
        self.write_sized(item, 0).await
    }

    /// As [`GroupCommit::write`], counting `bytes` against [`GroupLimits::max_bytes`].
    ///
    /// # Errors
    /// As [`GroupCommit::write`].
    pub async fn write_sized(&self, item: I, bytes: usize) -> Result<R, Error> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { item, bytes, since: Instant::now(), answer };
        self.queue.try_send(waiting).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Error::Busy,
            mpsc::error::TrySendError::Closed(_) => Error::Closed,
        })?;
        answered.await.unwrap_or(Err(Error::Closed))
    }
}

struct Lane<I, R, C> {
    waiting: Mutex<mpsc::Receiver<Waiting<I, R>>>,
    limits: GroupLimits,
    metrics: Metrics,
    commit: C,
}

type Answer<R> = oneshot::Sender<Result<R, Error>>;

impl<I, R, C, Fut> Lane<I, R, C>
where
    I: Send + Sync + 'static,
    R: Send + 'static,
    C: Fn(Batch<I>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Vec<R>, Error>> + Send + 'static,
{
    async fn run(self: Arc<Self>) {
        while let Some((items, answers, since)) = self.gather().await {
            self.metrics.items.observe(count(items.len()));
            let batch = Batch { range: 0..items.len(), items: items.into() };
            let results = self.settle(batch).await;
            self.metrics.seconds.observe(since.elapsed().as_secs_f64());
            for (answer, result) in answers.into_iter().zip(results) {
                let _ = answer.send(result); // the caller may be gone
            }
        }
    }

    /// The next batch, as soon as there is anything; `None` when there never will be.
    async fn gather(&self) -> Option<(Vec<I>, Vec<Answer<R>>, Instant)> {
        let mut waiting = self.waiting.lock().await;
        let first = waiting.recv().await?;
        let (since, mut bytes) = (first.since, first.bytes);
        let (mut items, mut answers) = (vec![first.item], vec![first.answer]);
        while items.len() < self.limits.max_items && bytes < self.limits.max_bytes {
            let Ok(next) = waiting.try_recv() else { break };
            bytes = bytes.saturating_add(next.bytes);
            items.push(next.item);
            answers.push(next.answer);
        }
        Some((items, answers, since))
    }

    /// Commits `batch`, in parts where its data is refused: one result per item.
    fn settle(&self, batch: Batch<I>) -> BoxFuture<'_, Vec<Result<R, Error>>> {
        Box::pin(async move {
            let why = match self.persist(&batch).await {
                Ok(answers) => return answers.into_iter().map(Ok).collect(),
                Err(why) => why,
            };
            if batch.len() > 1 && why.cause().is_some_and(blames_data) {
                self.metrics.splits.inc();
                let (left, right) = batch.halves();
                let mut results = self.settle(left).await;
                results.append(&mut self.settle(right).await);
                return results;
            }
            batch.iter().map(|_| Err(why.clone())).collect()
        })
    }

    /// Commits `batch` as a whole, again and again while the database is away.
    async fn persist(&self, batch: &Batch<I>) -> Result<Vec<R>, Error> {
        let deadline = Instant::now() + self.limits.retry_for;
        let mut backoff = Backoff::default();
        loop {
            match (self.commit)(batch.clone()).await {
                Ok(answers) if answers.len() == batch.len() => return Ok(answers),
                Ok(answers) => {
                    return Err(Error::Answers { items: batch.len(), answers: answers.len() });
                }
                Err(why @ Error::Unavailable(_)) => {
                    let pause = backoff.pause();
                    if Instant::now() + pause >= deadline {
                        return Err(why);
                    }
                    self.metrics.retries.inc();
                    sleep(pause).await;
                }
                Err(why) => return Err(why),
            }
        }
    }
}

struct Metrics {
    items: Histogram,
    seconds: Histogram,
    retries: IntCounter,
    splits: IntCounter,
}

impl Metrics {
    fn register(group: &str, to: &Registry) -> prometheus::Result<Self> {
        let histogram = |name: &str, help: &str, buckets| {
            let opts = HistogramOpts::new(name, help).const_label("group", group).buckets(buckets);
            let metric = Histogram::with_opts(opts)?;
            to.register(Box::new(metric.clone())).map(|()| metric)
        };
        let counter = |name: &str, help: &str| {
            let metric = IntCounter::with_opts(Opts::new(name, help).const_label("group", group))?;
            to.register(Box::new(metric.clone())).map(|()| metric)
        };
        Ok(Self {
            items: histogram(
                "pg_group_items",
                "Items committed together.",
                prometheus::exponential_buckets(1.0, 2.0, 11)?,
            )?,
            seconds: histogram(
                "pg_group_seconds",
                "From the first write of a batch to its answer.",
                prometheus::exponential_buckets(0.0005, 2.0, 14)?,
            )?,
            retries: counter("pg_group_retries_total", "Batches tried again.")?,
            splits: counter("pg_group_splits_total", "Batches split to find refused items.")?,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "batches are small")]
fn count(items: usize) -> f64 {
    items as f64
}
