//! What has to happen now and then: days made and dropped, the present noted, idle groups
//! forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use service::Context;
use sqlx::PgPool;

use crate::config::Config;
use crate::store::{self, Memberships};

/// How often the present is noted; reading walks over at most this much that has expired.
const MARK_PERIOD: Duration = Duration::from_secs(60);

/// Rounds of marks between two rounds of forgetting groups.
const FORGET_EVERY: u32 = 60;

/// The number below which everything has expired, as last noted. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Floor(Arc<AtomicI64>);

impl Floor {
    /// Where reading may start.
    pub(crate) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    fn raise(&self, to: i64) {
        self.0.fetch_max(to, Ordering::Relaxed);
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
pub(crate) fn spawn(pool: &PgPool, config: &Config, floor: Floor, cx: &Context) {
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
                round_of(&pool, ttl_seconds, &floor, (round == 0).then_some(days)).await
            {
                tracing::warn!(error = &why as &dyn std::error::Error, "maintenance failed");
            }
        }
    });
}

async fn round_of(
    pool: &PgPool,
    ttl_seconds: u32,
    floor: &Floor,
    forget_after_days: Option<u32>,
) -> Result<(), pg::Error> {
    store::mark(pool, ttl_seconds).await?;
    floor.raise(store::expired_before(pool, ttl_seconds).await?);
    if let Some(days) = forget_after_days {
        let forgotten = Memberships::forget(pool, days).await?;
        if forgotten > 0 {
            tracing::info!(forgotten, "idle groups forgotten");
        }
    }
    Ok(())
}
