//! Nonces of register proofs; they are burned by [`super::session::register`].

use sqlx::PgPool;

/// Rows one sweep deletes at most, so that it never holds locks for long.
const SWEEP_ROWS: i64 = 20_000;

/// Whether a register has used this nonce.
pub(crate) async fn is_used(pool: &PgPool, digest: &[u8; 32]) -> Result<bool, pg::Error> {
    const IS_USED: &str =
        "SELECT EXISTS (SELECT FROM signal.nonce WHERE digest = $1 AND forget_at > now())";
    Ok(sqlx::query_scalar(IS_USED).bind(&digest[..]).fetch_one(pool).await?)
}

/// Forgets nonces whose time is over; returns how many.
pub(crate) async fn sweep(pool: &PgPool) -> Result<u64, pg::Error> {
    const SWEEP: &str = "DELETE FROM signal.nonce WHERE digest IN (
            SELECT digest FROM signal.nonce WHERE forget_at <= now()
            ORDER BY forget_at LIMIT $1 FOR UPDATE SKIP LOCKED)";
    Ok(sqlx::query(SWEEP).bind(SWEEP_ROWS).execute(pool).await?.rows_affected())
}
