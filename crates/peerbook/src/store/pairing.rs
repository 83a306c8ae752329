//! Table `peerbook.pairing`: codes that stand for a waiting peer.

use proto::book::{Fingerprint, Label, Name};
use sqlx::{PgPool, PgTransaction, Row};

use super::peer::Introduction;

/// Notes a code for a waiting peer, in place of the one it had.
pub(crate) async fn offer(
    pool: &PgPool,
    hash: &[u8],
    who: &Introduction,
    seconds: f64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO peerbook.pairing AS p (code_hash, fp, name, kind, expires_at)
         VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))
         ON CONFLICT (fp) DO UPDATE
         SET code_hash = $1, name = $3, kind = $4, expires_at = excluded.expires_at",
    )
    .bind(hash)
    .bind(who.fp.as_str())
    .bind(who.name.as_ref().map_or("", Name::as_str))
    .bind(who.kind.as_ref().map_or("", Label::as_str))
    .bind(seconds)
    .execute(pool)
    .await
    .map(drop)
}

/// Takes a code: whose it was, if it was good.
pub(crate) async fn take(
    tx: &mut PgTransaction<'_>,
    hash: &[u8],
) -> Result<Option<Introduction>, sqlx::Error> {
    let row = sqlx::query(
        "DELETE FROM peerbook.pairing WHERE code_hash = $1 AND expires_at > clock_timestamp()
         RETURNING fp, name, kind",
    )
    .bind(hash)
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let (fp, name, kind): (String, String, String) =
        (row.try_get("fp")?, row.try_get("name")?, row.try_get("kind")?);
    Ok(Fingerprint::new(&fp).map(|fp| Introduction {
        fp,
        name: Some(Name::lenient(&name)),
        kind: Some(Label::lenient(&kind)),
        properties: None,
    }))
}

/// Forgets codes whose time is over.
pub(crate) async fn sweep(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let swept = sqlx::query("DELETE FROM peerbook.pairing WHERE expires_at < clock_timestamp()")
        .execute(pool)
        .await?;
    Ok(swept.rows_affected())
}
