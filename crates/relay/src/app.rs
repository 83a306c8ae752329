//! Everything a request handler needs, built once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use edge::LimitKey;
use edge::limit::{Keyed, Rate};
use identity::Pins;
use pg::Wakeups;
use service::{Clock, Context, Gate, Stop};
use sqlx::PgPool;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::domain::{self, Floor, Groups, Mailboxes, Proofs, Rules};
use crate::error::Error;
use crate::metrics::Metrics;

/// Addresses counted at the same time.
const ADDRESSES: usize = 200_000;

/// The relay, as its handlers see it.
pub(crate) struct App {
    pub(crate) pool: PgPool,
    pub(crate) config: Config,
    pub(crate) rules: Rules,
    pub(crate) proofs: Proofs,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) groups: Groups,
    pub(crate) clock: Clock,
    pub(crate) stop: Stop,
    pub(crate) metrics: Arc<Metrics>,
    /// Requests by address.
    pub(crate) addresses: Option<Keyed<LimitKey>>,
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
        let floor = Floor::default();
        domain::spawn_maintenance(&pool, config, floor.clone(), cx);
        let mailboxes =
            Mailboxes::start(&pool, config, floor, &wakeups, metrics.clone(), cx).await?;
        let per_second = config.quotas.address_requests;
        let rate = Rate { burst: per_second.saturating_mul(10), per_second };
        Ok(Arc::new(Self {
            groups: Groups::new(pool.clone(), rules),
            pool,
            config: config.clone(),
            rules,
            proofs: Proofs::new(pins, rules),
            mailboxes,
            clock: cx.clock.clone(),
            stop: cx.stop.clone(),
            metrics,
            addresses: (per_second > 0).then(|| Keyed::new(rate, ADDRESSES)),
            streams: Arc::new(Semaphore::new(config.max_streams)),
            reachable: Arc::new(AtomicBool::new(true)),
        }))
    }

    /// Opens and closes the readiness gate as the database comes and goes.
    pub(crate) fn watch_storage(&self, gate: Gate, cx: &Context) {
        let stop = cx.stop.killed().clone();
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
