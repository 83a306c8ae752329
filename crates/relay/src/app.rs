//! Everything a request handler needs, built once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use edge::LimitKey;
use edge::limit::{Keyed, Rate};
use identity::Pins;
use pg::Wakeups;
use proto::js::Str;
use service::{Clock, Context, Gate, Stop};
use sqlx::PgPool;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::domain::blob::Blobs;
use crate::domain::{self, BlobMembership, Groups, Mailboxes, Present, Proofs, Rules};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::transport::body_memory::BodyMemory;

/// Addresses counted at the same time.
const ADDRESSES: usize = 200_000;

/// Pause between two rounds of removing expired blobs, as in the original.
const CLEAN_EVERY: Duration = Duration::from_secs(60);

/// The relay, as its handlers see it.
pub(crate) struct App {
    pub(crate) pool: PgPool,
    pub(crate) config: Config,
    pub(crate) rules: Rules,
    pub(crate) proofs: Proofs,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) groups: Groups,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) clock: Clock,
    pub(crate) stop: Stop,
    pub(crate) metrics: Arc<Metrics>,
    /// Requests by address.
    pub(crate) addresses: Option<Keyed<LimitKey>>,
    /// Where large request bodies are kept while they are worked on.
    pub(crate) body_memory: BodyMemory,
    /// Streams and long polls that may still start.
    pub(crate) streams: Arc<Semaphore>,
    reachable: Arc<AtomicBool>,
}

impl App {
    /// Prepares the tables and starts what runs beside the requests.
    pub(crate) async fn start(
        pool: PgPool,
        config: &Config,
        cx: &Context,
    ) -> anyhow::Result<Arc<Self>> {
        domain::prepare(&pool, config).await?;
        let rules = Rules::new(config);
        let spawn = |name, task| cx.spawn(name, task);
        let channels = [domain::CHANNEL, identity::CHANNEL];
        let wakeups = Wakeups::start(&pool, &channels, cx.stop.draining().clone(), spawn);
        let pins = Pins::new(pool.clone(), rules.policy, cx, &wakeups);
        let metrics = Arc::new(Metrics::register(&cx.metrics)?);
        let present = Present::load(&pool, config.ttl_seconds).await?;
        domain::spawn_maintenance(&pool, config, present.clone(), cx);
        let mailboxes =
            Mailboxes::start(&pool, config, present, &wakeups, metrics.clone(), cx).await?;
        let ttl_seconds = config.upload_ttl_seconds;
        let args = config.blobs.clone();
        let blobs = Arc::new(Blobs::new(pool.clone(), args, rules.policy, ttl_seconds, cx)?);
        let cleaner = blobs.clone();
        cx.spawn("blob-cleaner", async move { cleaner.keep_clean(CLEAN_EVERY).await });
        let per_second = config.quotas.address_requests;
        let rate = Rate { burst: per_second.saturating_mul(10), per_second };
        let body_memory = BodyMemory::new(
            config.body_memory,
            metrics.large_bodies.clone(),
            metrics.large_bodies_refused.clone(),
        );
        Ok(Arc::new(Self {
            groups: Groups::new(pool.clone(), rules),
            blobs,
            pool,
            config: config.clone(),
            rules,
            proofs: Proofs::new(pins, rules),
            mailboxes,
            clock: cx.clock.clone(),
            stop: cx.stop.clone(),
            metrics,
            addresses: (per_second > 0).then(|| Keyed::new(rate, ADDRESSES)),
            body_memory,
            streams: Arc::new(Semaphore::new(config.max_streams)),
            reachable: Arc::new(AtomicBool::new(true)),
        }))
    }

    /// Refuses the sender of a blob who is not a member of its group, where that is demanded and
    /// the members are known.
    pub(crate) async fn check_blob_member(
        &self,
        group_id: &Str<'_>,
        from: &Str<'_>,
    ) -> Result<(), Error> {
        if self.config.blobs.blob_membership == BlobMembership::Off {
            return Ok(());
        }
        match self.groups.is_member(group_id.as_bytes(), from.as_bytes()).await? {
            Some(false) => Err(Error::SenderNotMember),
            Some(true) | None => Ok(()),
        }
    }

    /// Opens and closes the readiness gate as the database comes and goes.
    pub(crate) fn watch_storage(&self, gate: Gate, cx: &Context) {
        // Ends with the drain: a task that waited for the kill would use up the whole grace.
        let stop = cx.stop.draining().clone();
        let reachable = self.reachable.clone();
        let report = move |answers| {
            reachable.store(answers, Ordering::Relaxed);
            if answers { gate.open() } else { gate.close("database away") }
        };
        cx.spawn("relay-storage", pg::watch(self.pool.clone(), stop, report));
    }

    /// Whether the database answered when last asked, at most a second or so ago.
    pub(crate) fn reachable(&self) -> Result<(), Error> {
        if self.reachable.load(Ordering::Relaxed) { Ok(()) } else { Err(Error::StorageAway) }
    }
}
