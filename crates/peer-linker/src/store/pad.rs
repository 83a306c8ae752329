//! Which pads are registered, and where: table `peer_linker.pad`.

use std::collections::HashSet;

use pg::Lease;
use sqlx::PgPool;

/// A pad to be registered, put back or given back.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// SHA-256 of namespace and name.
    pub(crate) digest: [u8; 32],
    /// This process's number of the registration.
    pub(crate) pad: u64,
}

/// Registers a batch; one answer per item, `false` when another process holds the name.
///
/// A name held by this process itself is taken over: which of its clients has it is not for the
/// database to say. So is one of a process whose lease has ended. May be repeated.
pub(crate) async fn register(
    pool: &PgPool,
    lease: &Lease,
    batch: &[Held],
) -> Result<Vec<bool>, pg::Error> {
    // Rows are taken in order of their keys, so that two processes cannot deadlock.
    const REGISTER: &str = "WITH
        input AS (
            SELECT DISTINCT ON (digest) digest, pad
            FROM unnest($2::bytea[], $3::bigint[]) WITH ORDINALITY AS t(digest, pad, place)
            ORDER BY digest, place DESC)
        INSERT INTO peer_linker.pad AS p (digest, node, pad)
        SELECT digest, $1::text::uuid, pad FROM input ORDER BY digest
        ON CONFLICT (digest) DO UPDATE SET node = excluded.node, pad = excluded.pad, since = now()
            WHERE p.node = excluded.node OR NOT EXISTS (
                SELECT FROM peer_linker.node AS n WHERE n.node = p.node
                    AND n.renewed_at >= clock_timestamp() - make_interval(secs => $4))
        RETURNING digest";
    let (digests, pads) = columns(batch);
    let taken: Vec<Vec<u8>> = sqlx::query_scalar(REGISTER)
        .bind(lease.node())
        .bind(digests)
        .bind(pads)
        .bind(lease.expiry().as_secs_f64())
        .fetch_all(pool)
        .await?;
    let taken: HashSet<&[u8]> = taken.iter().map(Vec::as_slice).collect();
    Ok(batch.iter().map(|held| taken.contains(&held.digest[..])).collect())
}

/// Gives pads back, unless their names were registered again since. May be repeated.
pub(crate) async fn release(pool: &PgPool, lease: &Lease, batch: &[Held]) -> Result<(), pg::Error> {
    const RELEASE: &str = "DELETE FROM peer_linker.pad AS p
        USING unnest($2::bytea[], $3::bigint[]) AS t(digest, pad)
        WHERE p.digest = t.digest AND p.pad = t.pad AND p.node = $1::text::uuid";
    let (digests, pads) = columns(batch);
    sqlx::query(RELEASE).bind(lease.node()).bind(digests).bind(pads).execute(pool).await?;
    Ok(())
}

/// Whether a living process other than this one holds the name.
pub(crate) async fn is_elsewhere(
    pool: &PgPool,
    lease: &Lease,
    digest: &[u8; 32],
) -> Result<bool, pg::Error> {
    const HOLDER: &str = "SELECT EXISTS (
        SELECT FROM peer_linker.pad AS p JOIN peer_linker.node AS n ON n.node = p.node
        WHERE p.digest = $2 AND p.node <> $1::text::uuid
            AND n.renewed_at >= clock_timestamp() - make_interval(secs => $3))";
    let expiry = lease.expiry().as_secs_f64();
    let query = sqlx::query_scalar(HOLDER).bind(lease.node()).bind(&digest[..]).bind(expiry);
    Ok(query.fetch_one(pool).await?)
}

fn columns(batch: &[Held]) -> (Vec<&[u8]>, Vec<i64>) {
    batch.iter().map(|held| (&held.digest[..], held.pad.cast_signed())).unzip()
}

#[cfg(test)]
mod tests;
