//! Links in force, by the digest of their token.

use std::time::Duration;

use sqlx::PgPool;

/// Rows one sweep deletes at most, so that it never holds locks for long.
const SWEEP_ROWS: i64 = 10_000;

/// Links of one user in force at once; making one more ends the one nearest to its end.
const MOST_PER_USER: i64 = 8;

/// What a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Whose address book it opens.
    pub(crate) uid: String,
    /// The one peer it may approve; the whole book without.
    pub(crate) fp: Option<String>,
}

/// Puts a token in force for `ttl`; exchanges of it end after `most`.
pub(crate) async fn insert(
    pool: &PgPool,
    digest: &[u8; 32],
    grant: &Grant,
    ttl: Duration,
    most: Duration,
) -> Result<(), pg::Error> {
    const INSERT: &str = "
        WITH surplus AS (
            DELETE FROM peerbook.token WHERE digest IN (
                SELECT digest FROM peerbook.token WHERE uid = $2
                ORDER BY expires_at DESC OFFSET $6)
        )
        INSERT INTO peerbook.token (digest, uid, fp, expires_at, ends_at)
        VALUES ($1, $2, $3, now() + $4 * interval '1 second', now() + $5 * interval '1 second')";
    sqlx::query(INSERT)
        .bind(&digest[..])
        .bind(&grant.uid)
        .bind(&grant.fp)
        .bind(ttl.as_secs_f64())
        .bind(most.as_secs_f64())
        .bind(MOST_PER_USER - 1)
        .execute(pool)
        .await?;
    Ok(())
}

/// What the token stands for, if it is in force.
pub(crate) async fn find(pool: &PgPool, digest: &[u8; 32]) -> Result<Option<Grant>, pg::Error> {
    const FIND: &str =
        "SELECT uid, fp FROM peerbook.token WHERE digest = $1 AND expires_at > now()";
    let row: Option<(String, Option<String>)> =
        sqlx::query_as(FIND).bind(&digest[..]).fetch_optional(pool).await?;
    Ok(row.map(|(uid, fp)| Grant { uid, fp }))
}

/// Ends a token and puts `next` in its place for `ttl`; of two at once, one gets it.
pub(crate) async fn exchange(
    pool: &PgPool,
    digest: &[u8; 32],
    next: &[u8; 32],
    ttl: Duration,
) -> Result<Option<Grant>, pg::Error> {
    const EXCHANGE: &str = "
        UPDATE peerbook.token
        SET digest = $2, expires_at = least(now() + $3 * interval '1 second', ends_at)
        WHERE digest = $1 AND expires_at > now()
        RETURNING uid, fp";
    let row: Option<(String, Option<String>)> = sqlx::query_as(EXCHANGE)
        .bind(&digest[..])
        .bind(&next[..])
        .bind(ttl.as_secs_f64())
        .fetch_optional(pool)
        .await?;
    Ok(row.map(|(uid, fp)| Grant { uid, fp }))
}

/// Forgets what is no longer in force; returns how many rows.
pub(crate) async fn sweep(pool: &PgPool) -> Result<u64, pg::Error> {
    const SWEEP: &str = "DELETE FROM peerbook.token WHERE digest IN (
            SELECT digest FROM peerbook.token WHERE expires_at <= now()
            ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)";
    Ok(sqlx::query(SWEEP).bind(SWEEP_ROWS).execute(pool).await?.rows_affected())
}
