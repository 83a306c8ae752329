//! `relay.blob_garbage`: bytes nobody refers to any more, and how they go.
//!
//! Dropping a partition frees everything in it at once; this here frees earlier what could
//! stay long: an abandoned upload, a duplicate, a replaced blob.

use sqlx::{PgPool, PgTransaction, Row, query};

use super::blob_uuid::PgUuid;

/// Rows moved, or chunks deleted, in one transaction: short locks, little to lose.
const STEP: i64 = 64;

/// Gives a storage up.
pub(crate) async fn discard(
    tx: &mut PgTransaction<'_>,
    (storage, drop_day): (PgUuid, i32),
) -> sqlx::Result<()> {
    query("INSERT INTO relay.blob_garbage VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(storage)
        .bind(drop_day)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Removes a step of the uploads and blobs that expired; `true`: there may be more.
///
/// A blob's bytes are left to its partition's end when that is near, so that a download in
/// progress can finish.
pub(crate) async fn expire(pool: &PgPool) -> sqlx::Result<bool> {
    let uploads = query(
        "WITH gone AS (DELETE FROM relay.upload WHERE (id, sender, group_id) IN
                         (SELECT id, sender, group_id FROM relay.upload
                          WHERE expires_at <= clock_timestamp() LIMIT $1 FOR UPDATE SKIP LOCKED)
                       RETURNING storage, drop_day)
         INSERT INTO relay.blob_garbage SELECT * FROM gone ON CONFLICT DO NOTHING",
    )
    .bind(STEP)
    .execute(pool)
    .await?;
    let blobs = query(
        "WITH gone AS (DELETE FROM relay.blob WHERE id IN
                         (SELECT id FROM relay.blob WHERE expires_at <= clock_timestamp()
                          LIMIT $1 FOR UPDATE SKIP LOCKED)
                       RETURNING storage, drop_day),
              far AS (INSERT INTO relay.blob_garbage
                      SELECT * FROM gone
                      WHERE drop_day > switchyard.today() + 3
                      ON CONFLICT DO NOTHING)
         SELECT count(*) FROM gone",
    )
    .bind(STEP)
    .fetch_one(pool)
    .await?;
    Ok(uploads.rows_affected() == STEP.unsigned_abs() || blobs.try_get::<i64, _>(0)? == STEP)
}

/// Deletes a step of the pieces of garbage; `false`: there was none.
///
/// Several relays may do this at once; each takes a storage of its own.
pub(crate) async fn sweep(pool: &PgPool) -> sqlx::Result<bool> {
    let mut tx = pool.begin().await?;
    let row =
        query("SELECT storage, drop_day FROM relay.blob_garbage LIMIT 1 FOR UPDATE SKIP LOCKED")
            .fetch_optional(&mut *tx)
            .await?;
    let Some(row) = row else { return Ok(false) };
    let (storage, drop_day): (PgUuid, i32) = (row.try_get(0)?, row.try_get(1)?);
    let deleted = query(
        "WITH gone AS (DELETE FROM relay.blob_chunk WHERE drop_day = $2 AND (storage, chunk) IN
                         (SELECT storage, chunk FROM relay.blob_chunk
                          WHERE storage = $1 AND drop_day = $2 LIMIT $3)
                       RETURNING part),
              pieces AS (DELETE FROM relay.blob_piece
                         WHERE drop_day = $2 AND part IN (SELECT part FROM gone))
         SELECT count(*) FROM gone",
    )
    .bind(storage)
    .bind(drop_day)
    .bind(STEP)
    .fetch_one(&mut *tx)
    .await?;
    if deleted.try_get::<i64, _>(0)? < STEP {
        query("DELETE FROM relay.blob_garbage WHERE storage = $1")
            .bind(storage)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(true)
}
