//! What has to happen now and then: days made and dropped, the present noted, idle groups
//! forgotten.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use service::Context;
use sqlx::PgPool;
use tokio::time::Instant;

use crate::config::Config;
use crate::store::{self, Memberships, Retention};

/// How often the present is noted; reading walks over at most this much that has expired.
const MARK_PERIOD: Duration = Duration::from_secs(60);

/// Rounds of marks between two rounds of forgetting groups.
const FORGET_EVERY: u32 = 60;

/// Where the present is, as last noted. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Present {
    noted: Arc<RwLock<Noted>>,
    ttl_seconds: u32,
}

#[derive(Debug)]
struct Noted {
    expired_before: i64,
    /// The database's time, in milliseconds, and when it was that.
    database_ms: i64,
    at: Instant,
}

impl Present {
    /// Asks the database.
    pub(crate) async fn load(pool: &PgPool, ttl_seconds: u32) -> Result<Self, pg::Error> {
        let (expired_before, database_ms) = store::present(pool, ttl_seconds).await?;
        let noted = Noted { expired_before, database_ms, at: Instant::now() };
        Ok(Self { noted: Arc::new(RwLock::new(noted)), ttl_seconds })
    }

    async fn refresh(&self, pool: &PgPool) -> Result<(), pg::Error> {
        let (expired_before, database_ms) = store::present(pool, self.ttl_seconds).await?;
        *self.noted.write() = Noted { expired_before, database_ms, at: Instant::now() };
        Ok(())
    }

    /// The number below which everything has expired: reading may start there.
    pub(crate) fn expired_before(&self) -> i64 {
        self.noted.read().expired_before
    }

    /// The days that hold what is alive now.
    pub(crate) fn retention(&self) -> Retention {
        let noted = self.noted.read();
        let since = i64::try_from(noted.at.elapsed().as_millis()).unwrap_or(i64::MAX);
        Retention::at(noted.database_ms.saturating_add(since), self.ttl_seconds)
    }
}

/// Prepares the tables for a start: a base above all numbers, partitions for the next days.
pub(crate) async fn prepare(pool: &PgPool, config: &Config) -> Result<(), pg::Error> {
    if store::rebase(pool).await? {
        tracing::info!("the data came from another cluster; sequence numbers continue above it");
    }
    pg::partitions::maintain(pool, &store::kept(config.ttl_seconds)).await
}

/// Keeps the tables in shape until the process stops.
pub(crate) fn spawn(pool: &PgPool, config: &Config, present: Present, cx: &Context) {
    let stop = cx.stop.draining().clone();
    let kept = store::kept(config.ttl_seconds);
    cx.spawn("relay-partitions", pg::partitions::keep(pool.clone(), kept, stop.clone()));
    let (pool, ttl_seconds, days) = (pool.clone(), config.ttl_seconds, config.membership_days);
    cx.spawn("relay-marks", async move {
        let mut tick = tokio::time::interval(MARK_PERIOD);
        for round in (0..FORGET_EVERY).cycle() {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            if let Err(why) =
                round_of(&pool, ttl_seconds, &present, (round == 0).then_some(days)).await
            {
                tracing::warn!(error = &why as &dyn std::error::Error, "maintenance failed");
            }
        }
    });
}

async fn round_of(
    pool: &PgPool,
    ttl_seconds: u32,
    present: &Present,
    forget_after_days: Option<u32>,
) -> Result<(), pg::Error> {
    store::mark(pool, ttl_seconds).await?;
    present.refresh(pool).await?;
    if let Some(days) = forget_after_days {
        let forgotten = Memberships::forget(pool, days).await?;
        if forgotten > 0 {
            tracing::info!(forgotten, "idle groups forgotten");
        }
    }
    Ok(())
}
