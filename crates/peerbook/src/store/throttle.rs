//! Token buckets in Postgres: slow things nobody may repeat by waiting for a restart.

use std::time::Duration;

use sqlx::PgPool;

/// Rows one sweep deletes at most.
const SWEEP_ROWS: i64 = 10_000;

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Between two of them in the long run.
    pub(crate) every: Duration,
    /// How many at once after a pause.
    pub(crate) burst: u32,
}

/// Spends one from the bucket; the time until it may be tried again when there is none.
pub(crate) async fn spend(
    pool: &PgPool,
    digest: &[u8; 32],
    pace: Pace,
) -> Result<Result<(), Duration>, pg::Error> {
    const SPEND: &str = "
        INSERT INTO peerbook.throttle AS t (digest, full_at)
        VALUES ($1, now() + $2 * interval '1 second')
        ON CONFLICT (digest) DO UPDATE
            SET full_at = greatest(t.full_at, now()) + $2 * interval '1 second'
            WHERE greatest(t.full_at, now()) <= now() + $3 * interval '1 second'";
    let every = pace.every.as_secs_f64();
    let room = every * f64::from(pace.burst.saturating_sub(1));
    let spent = sqlx::query(SPEND).bind(&digest[..]).bind(every).bind(room).execute(pool).await?;
    if spent.rows_affected() == 1 {
        return Ok(Ok(()));
    }
    const WAIT: &str = "
        SELECT extract(epoch FROM full_at - now())::float8 - $2 FROM peerbook.throttle
        WHERE digest = $1";
    let wait: Option<f64> =
        sqlx::query_scalar(WAIT).bind(&digest[..]).bind(room).fetch_optional(pool).await?;
    Ok(Err(Duration::try_from_secs_f64(wait.unwrap_or_default().max(0.0)).unwrap_or_default()))
}

/// Forgets buckets that are full again.
pub(crate) async fn sweep(pool: &PgPool) -> Result<u64, pg::Error> {
    const SWEEP: &str = "DELETE FROM peerbook.throttle WHERE digest IN (
            SELECT digest FROM peerbook.throttle WHERE full_at <= now()
            ORDER BY full_at LIMIT $1 FOR UPDATE SKIP LOCKED)";
    Ok(sqlx::query(SWEEP).bind(SWEEP_ROWS).execute(pool).await?.rows_affected())
}
