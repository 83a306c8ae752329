//! Tables partitioned by day: the days ahead exist, the days behind are dropped.
//!
//! A day is the number of whole days since the epoch (`int4`, UTC). A migration lists a table with
//! `switchyard.register_day_partitioned`; from then on the role that owns it in spirit may have
//! its partitions made and dropped here, and nobody else. There is no default partition: a row for
//! a day without one is refused ([`crate::is_missing_partition`]), to be written again after
//! [`ensure`].

use std::time::Duration;

use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::Error;

/// Days that have to exist from today on, so that a maintenance that fails for hours is harmless.
const AHEAD: i32 = 3;

/// Pause between two rounds of maintenance.
const PERIOD: Duration = Duration::from_secs(3_600);

/// A table and how long its days are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Schema and name: `relay.envelope`.
    pub table: &'static str,
    /// A partition goes when its day ended this many whole days ago.
    pub days: u32,
}

/// Today, by the database's clock.
///
/// # Errors
/// Whatever the database says.
pub async fn today(pool: &PgPool) -> Result<i32, Error> {
    Ok(sqlx::query_scalar("SELECT switchyard.today()").fetch_one(pool).await?)
}

/// Makes the partitions of `table` for the days `first..=last` that are missing; returns how many.
///
/// # Errors
/// [`Error::Refused`] for a table that is not registered or not this role's, and for more than 1,000
/// days; whatever else the database says.
pub async fn ensure(pool: &PgPool, table: &str, first: i32, last: i32) -> Result<i32, Error> {
    let made = sqlx::query_scalar("SELECT switchyard.ensure_day_partitions($1::regclass, $2, $3)")
        .bind(table)
        .bind(first)
        .bind(last);
    Ok(made.fetch_one(pool).await?)
}

/// Drops the partitions of `table` for the days before `before`; returns how many.
///
/// # Errors
/// As [`ensure`]; [`Error::Unavailable`] when a reader kept the lock, to be tried again later.
pub async fn drop_expired(pool: &PgPool, table: &str, before: i32) -> Result<i32, Error> {
    let dropped = sqlx::query_scalar("SELECT switchyard.drop_day_partitions($1::regclass, $2)")
        .bind(table)
        .bind(before);
    Ok(dropped.fetch_one(pool).await?)
}

/// One round: today and the days ahead are there, what is no longer kept is gone.
///
/// # Errors
/// The first error; making comes before dropping.
pub async fn maintain(pool: &PgPool, tables: &[Kept]) -> Result<(), Error> {
    let today = today(pool).await?;
    for kept in tables {
        ensure(pool, kept.table, today, today + AHEAD).await?;
    }
    for kept in tables {
        let days = i32::try_from(kept.days).unwrap_or(i32::MAX);
        let dropped = drop_expired(pool, kept.table, today.saturating_sub(days)).await?;
        if dropped > 0 {
            tracing::info!(table = kept.table, dropped, "expired days dropped");
        }
    }
    Ok(())
}

/// Maintains `tables` every hour, and every ten seconds after a failure, until `stop`. Several
/// replicas may do so: each step holds a lock on its table and does nothing twice.
pub async fn keep(pool: PgPool, tables: Vec<Kept>, stop: CancellationToken) {
    loop {
        let pause = match maintain(&pool, &tables).await {
            Ok(()) => PERIOD,
            Err(why) => {
                tracing::warn!(error = &why as &dyn std::error::Error, "partitions not maintained");
                Duration::from_secs(10)
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return,
        }
    }
}
