//! When peers left.

use std::time::Duration;

use sqlx::PgPool;

use super::LastSeen;

/// Rows one sweep deletes at most.
const SWEEP_ROWS: i64 = 20_000;

fn seconds(age: Duration) -> f64 {
    age.as_secs_f64()
}

/// The peers that left last and are not connected, newest first.
pub(crate) async fn recent(
    pool: &PgPool,
    max_age: Duration,
    limit: usize,
) -> Result<Vec<LastSeen>, pg::Error> {
    const RECENT: &str = "SELECT peer, (extract(epoch FROM seen_at) * 1000)::bigint
        FROM signal.last_seen AS l
        WHERE seen_at > now() - make_interval(secs => $1)
          AND NOT EXISTS (SELECT FROM signal.session AS s WHERE s.peer = l.peer)
        ORDER BY seen_at DESC LIMIT $2";
    let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as(RECENT)
        .bind(seconds(max_age))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().map(|(peer, at_ms)| LastSeen { peer, at_ms }).collect())
}

/// Forgets peers that left longer than `max_age` ago; returns how many.
pub(crate) async fn sweep(pool: &PgPool, max_age: Duration) -> Result<u64, pg::Error> {
    const SWEEP: &str = "DELETE FROM signal.last_seen WHERE peer IN (
            SELECT peer FROM signal.last_seen WHERE seen_at <= now() - make_interval(secs => $1)
            ORDER BY seen_at LIMIT $2 FOR UPDATE SKIP LOCKED)";
    let swept = sqlx::query(SWEEP).bind(seconds(max_age)).bind(SWEEP_ROWS).execute(pool).await?;
    Ok(swept.rows_affected())
}
