//! `relay.blob_piece`: the bytes, in pieces of [`PIECE_BYTES`].

use std::ops::Range;

use bytes::Bytes;
use sqlx::{PgExecutor, PgPool, Row, query};

use super::blob_uuid::PgUuid;

/// Length of every piece of a part but the last. Statements carry one piece at a time, so this
/// also bounds what a connection buffers.
pub(crate) const PIECE_BYTES: usize = 128 * 1024;

/// Writes one piece at once, without waiting for the disk: what makes the part count is a later
/// transaction, whose commit waits for all that was written before it.
pub(crate) async fn insert_early(
    pool: &PgPool,
    (part, drop_day): (PgUuid, i32),
    piece: i32,
    bytes: &[u8],
) -> sqlx::Result<()> {
    let mut connection = pool.acquire().await?;
    let done = query(
        "WITH eager AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true) AS off)
         INSERT INTO relay.blob_piece (part, piece, drop_day, bytes)
         SELECT $1, $2, $3, $4 FROM eager",
    )
    .bind(part)
    .bind(piece)
    .bind(drop_day)
    .bind(bytes)
    .execute(&mut *connection)
    .await;
    shrink(&mut connection);
    done.map(drop)
}

/// Gives back what a connection grew for large values; it would keep it for its lifetime.
pub(crate) fn shrink(connection: &mut sqlx::PgConnection) {
    sqlx::Connection::shrink_buffers(connection);
}

/// Reads bytes of one piece. `None`: there is no such piece (any more).
pub(crate) async fn read(
    pool: &PgPool,
    (part, drop_day): (PgUuid, i32),
    piece: i32,
    range: Range<usize>,
) -> sqlx::Result<Option<Bytes>> {
    let (from, count) = (int4(range.start), int4(range.len()));
    let mut connection = pool.acquire().await?;
    let row = query(
        "SELECT substring(bytes FROM $4 + 1 FOR $5) FROM relay.blob_piece
         WHERE part = $1 AND piece = $2 AND drop_day = $3",
    )
    .bind(part)
    .bind(piece)
    .bind(drop_day)
    .bind(from)
    .bind(count)
    .fetch_optional(&mut *connection)
    .await?;
    let bytes = row.map(|row| row.try_get::<&[u8], _>(0).map(Bytes::copy_from_slice)).transpose();
    shrink(&mut connection);
    bytes
}

fn int4(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

/// Deletes a part's pieces.
pub(crate) async fn delete(
    db: impl PgExecutor<'_>,
    (part, drop_day): (PgUuid, i32),
) -> sqlx::Result<()> {
    query("DELETE FROM relay.blob_piece WHERE part = $1 AND drop_day = $2")
        .bind(part)
        .bind(drop_day)
        .execute(db)
        .await?;
    Ok(())
}
