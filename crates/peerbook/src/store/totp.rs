//! Authenticators, and how often somebody guessed at their codes.

use sqlx::PgPool;

/// Wrong codes in a row before a place is locked.
const MOST_FAILURES: i32 = 5;
/// First lock; each further one is twice as long.
const FIRST_LOCK_S: f64 = 300.0;
/// Longest lock.
const LONGEST_LOCK_S: f64 = 86_400.0;

/// Bytes of a secret, as RFC 4226 recommends.
pub(crate) const SECRET_BYTES: usize = 20;

/// One user's authenticator.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Authenticator {
    pub(crate) secret: [u8; SECRET_BYTES],
    /// Whether codes are asked for.
    pub(crate) confirmed: bool,
    /// The step of the last code taken.
    pub(crate) last_step: i64,
}

/// The user's authenticator, or `secret` as a new one that waits for its first code.
pub(crate) async fn offer(
    pool: &PgPool,
    uid: &str,
    secret: &[u8; SECRET_BYTES],
) -> Result<Authenticator, pg::Error> {
    const OFFER: &str =
        "INSERT INTO peerbook.totp (uid, secret) VALUES ($1, $2) ON CONFLICT (uid) DO NOTHING";
    sqlx::query(OFFER).bind(uid).bind(&secret[..]).execute(pool).await?;
    let held = find(pool, uid).await?;
    Ok(held.unwrap_or(Authenticator { secret: *secret, confirmed: false, last_step: 0 }))
}

/// The user's authenticator, confirmed or not.
pub(crate) async fn find(pool: &PgPool, uid: &str) -> Result<Option<Authenticator>, pg::Error> {
    const FIND: &str =
        "SELECT secret, confirmed_at IS NOT NULL, last_step FROM peerbook.totp WHERE uid = $1";
    let row: Option<(Vec<u8>, bool, i64)> =
        sqlx::query_as(FIND).bind(uid).fetch_optional(pool).await?;
    Ok(row.and_then(|(secret, confirmed, last_step)| {
        let secret = secret.try_into().ok()?; // the column checks the length
        Some(Authenticator { secret, confirmed, last_step })
    }))
}

/// Takes a code of `step` for used, and the authenticator for confirmed. `false` when this step or
/// a later one was used: of two requests with one code, one gets `true`.
pub(crate) async fn take(pool: &PgPool, uid: &str, step: i64) -> Result<bool, pg::Error> {
    const TAKE: &str = "
        UPDATE peerbook.totp SET last_step = $2, confirmed_at = coalesce(confirmed_at, now())
        WHERE uid = $1 AND last_step < $2";
    let taken = sqlx::query(TAKE).bind(uid).bind(step).execute(pool).await?;
    Ok(taken.rows_affected() == 1)
}

/// Ends the asking for codes.
pub(crate) async fn remove(pool: &PgPool, uid: &str) -> Result<(), pg::Error> {
    sqlx::query("DELETE FROM peerbook.totp WHERE uid = $1").bind(uid).execute(pool).await?;
    Ok(())
}

/// Counts one attempt before its code is looked at. `false` while the place is locked.
///
/// Attempts at once queue for the row, so that a thousand of them are still five.
pub(crate) async fn attempt(pool: &PgPool, uid: &str, place: &str) -> Result<bool, pg::Error> {
    // The attempt that reaches the limit is still looked at; what follows meets the lock.
    const ATTEMPT: &str = "
        INSERT INTO peerbook.guess AS g (uid, place, failures) VALUES ($1, $2, 1)
        ON CONFLICT (uid, place) DO UPDATE SET
            at = now(),
            failures = CASE WHEN g.failures + 1 >= $3 THEN 0 ELSE g.failures + 1 END,
            locks = CASE WHEN g.failures + 1 >= $3 THEN g.locks + 1 ELSE g.locks END,
            locked_until = CASE WHEN g.failures + 1 >= $3
                THEN now() + least($4 * power(2, least(g.locks, 20)), $5) * interval '1 second'
                ELSE g.locked_until END
        WHERE g.locked_until <= now()";
    let counted = sqlx::query(ATTEMPT)
        .bind(uid)
        .bind(place)
        .bind(MOST_FAILURES)
        .bind(FIRST_LOCK_S)
        .bind(LONGEST_LOCK_S)
        .execute(pool)
        .await?;
    Ok(counted.rows_affected() == 1)
}

/// Forgets the attempts at a place: a right code came.
pub(crate) async fn forgive(pool: &PgPool, uid: &str, place: &str) -> Result<(), pg::Error> {
    let forget = "DELETE FROM peerbook.guess WHERE uid = $1 AND place = $2";
    sqlx::query(forget).bind(uid).bind(place).execute(pool).await?;
    Ok(())
}

/// Forgets attempts nobody repeated for a week.
pub(crate) async fn sweep(pool: &PgPool) -> Result<u64, pg::Error> {
    const SWEEP: &str = "DELETE FROM peerbook.guess
        WHERE at < now() - interval '7 days' AND locked_until < now()";
    Ok(sqlx::query(SWEEP).execute(pool).await?.rows_affected())
}
