//! Leases: which processes run, and what the ones that died left behind.

use std::time::Duration;

use sqlx::PgPool;

use super::{LastSeen, NodeId};

/// Takes a lease for a starting process.
pub(crate) async fn start(pool: &PgPool, node: NodeId, instance: &str) -> Result<(), pg::Error> {
    const START: &str = "INSERT INTO signal.node (node, instance) VALUES ($1::text::uuid, $2)
        ON CONFLICT (node) DO UPDATE SET renewed_at = clock_timestamp()";
    sqlx::query(START).bind(node.text()).bind(instance).execute(pool).await?;
    Ok(())
}

/// Renews a lease; `false` when another process has swept it.
pub(crate) async fn renew(pool: &PgPool, node: NodeId) -> Result<bool, pg::Error> {
    const RENEW: &str =
        "UPDATE signal.node SET renewed_at = clock_timestamp() WHERE node = $1::text::uuid";
    Ok(sqlx::query(RENEW).bind(node.text()).execute(pool).await?.rows_affected() == 1)
}

/// The other processes that hold a lease.
pub(crate) async fn others(pool: &PgPool, node: NodeId) -> Result<Vec<String>, pg::Error> {
    const OTHERS: &str =
        "SELECT node::text FROM signal.node WHERE node <> $1::text::uuid ORDER BY node";
    Ok(sqlx::query_scalar(OTHERS).bind(node.text()).fetch_all(pool).await?)
}

/// Ends the lease of a process that stops, and with it whatever sessions it still holds.
pub(crate) async fn stop(pool: &PgPool, node: NodeId) -> Result<(), pg::Error> {
    const STOP: &str = "WITH gone AS (DELETE FROM signal.node WHERE node = $1::text::uuid),
        left_now AS (DELETE FROM signal.session WHERE node = $1::text::uuid RETURNING peer)
        INSERT INTO signal.last_seen AS l (peer, seen_at)
        SELECT peer, clock_timestamp() FROM left_now ORDER BY peer
        ON CONFLICT (peer) DO UPDATE SET seen_at = greatest(l.seen_at, excluded.seen_at)";
    sqlx::query(STOP).bind(node.text()).execute(pool).await?;
    Ok(())
}

/// Sweeps processes that have not renewed for `expiry`, and at the start of `predecessor`'s successor
/// those of that name however fresh: one name never runs twice. Returns the peers they left, seen
/// last at the last renewal.
pub(crate) async fn sweep(
    pool: &PgPool,
    node: NodeId,
    predecessor: Option<&str>,
    expiry: Duration,
) -> Result<Vec<LastSeen>, pg::Error> {
    const SWEEP: &str = "WITH
        dead AS (
            DELETE FROM signal.node
            WHERE node <> $1::text::uuid
              AND (instance IS NOT DISTINCT FROM $2::text OR renewed_at < clock_timestamp() - make_interval(secs => $3))
            RETURNING node, renewed_at),
        dropped AS (
            DELETE FROM signal.session AS s USING dead WHERE s.node = dead.node
            RETURNING s.peer, dead.renewed_at),
        noted AS (
            INSERT INTO signal.last_seen AS l (peer, seen_at)
            SELECT peer, renewed_at FROM dropped ORDER BY peer
            ON CONFLICT (peer) DO UPDATE SET seen_at = greatest(l.seen_at, excluded.seen_at))
        SELECT peer, (extract(epoch FROM renewed_at) * 1000)::bigint FROM dropped";
    let rows: Vec<(Vec<u8>, i64)> = sqlx::query_as(SWEEP)
        .bind(node.text())
        .bind(predecessor)
        .bind(expiry.as_secs_f64())
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().map(|(peer, at_ms)| LastSeen { peer, at_ms }).collect())
}

#[cfg(test)]
mod tests;
