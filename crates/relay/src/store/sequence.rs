//! Sequence numbers: their base, and where the expired ones end.

use sqlx::PgPool;

const REBASE: &str = "SELECT relay.rebase()";

const MARK: &str = "
WITH gone AS (
    DELETE FROM relay.seq_mark
    WHERE at < (SELECT max(at) FROM relay.seq_mark WHERE at <= now() - make_interval(secs => $1))
)
INSERT INTO relay.seq_mark (at, seq) VALUES (now(), relay.seq_horizon()) ON CONFLICT DO NOTHING";

const PRESENT: &str = "
SELECT coalesce(max(seq), 0), (extract(epoch FROM clock_timestamp()) * 1000)::int8
FROM relay.seq_mark WHERE at <= now() - make_interval(secs => $1)";

/// Makes sure new numbers are above all stored ones; `true` when the data came from another
/// cluster and the base was raised. To be called before anything is written.
pub(crate) async fn rebase(pool: &PgPool) -> Result<bool, pg::Error> {
    Ok(sqlx::query_scalar(REBASE).fetch_one(pool).await?)
}

/// Notes which number the present ends at; forgets notes that are no longer needed.
pub(crate) async fn mark(pool: &PgPool, ttl_seconds: u32) -> Result<(), pg::Error> {
    sqlx::query(MARK).bind(f64::from(ttl_seconds)).execute(pool).await?;
    Ok(())
}

/// Where the present is: a number below which everything has expired, as far as noted (reading
/// starts there instead of walking over what waits for its partition to be dropped), and the
/// database's time in milliseconds.
pub(crate) async fn present(pool: &PgPool, ttl_seconds: u32) -> Result<(i64, i64), pg::Error> {
    Ok(sqlx::query_as(PRESENT).bind(f64::from(ttl_seconds)).fetch_one(pool).await?)
}
