//! `relay.upload` and `relay.blob_chunk`: uploads in progress, and which part is which chunk.

use sqlx::{PgExecutor, PgPool, PgTransaction, Row, query};

use super::blob::{int8, key, length};
use super::blob_uuid::PgUuid;

/// Chunks read in one statement.
const CHUNKS_A_PAGE: i64 = 1024;

/// Which upload: chunks of one file by one sender to one group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UploadKey<'a> {
    pub(crate) id: &'a [u8],
    pub(crate) sender: &'a [u8],
    pub(crate) group_id: &'a [u8],
}

/// An upload somebody began and nobody completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Upload {
    pub(crate) storage: PgUuid,
    pub(crate) drop_day: i32,
    pub(crate) total_chunks: i32,
    /// Distinct chunks that are there.
    pub(crate) received: i32,
    pub(crate) size_bytes: u64,
    /// Differs whenever a chunk was added or replaced.
    pub(crate) revision: i64,
}

/// Where a chunk's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) chunk: i32,
    pub(crate) part: PgUuid,
    pub(crate) size_bytes: u64,
}

/// Unfinished uploads of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unsigned {
    pub(crate) uploads: u64,
    pub(crate) bytes: u64,
}

fn upload(row: &sqlx::postgres::PgRow) -> sqlx::Result<Upload> {
    Ok(Upload {
        storage: row.try_get(0)?,
        drop_day: row.try_get(1)?,
        total_chunks: row.try_get(2)?,
        received: row.try_get(3)?,
        size_bytes: length(row.try_get(4)?),
        revision: row.try_get(5)?,
    })
}

/// The upload, unless it expired.
pub(crate) async fn find(pool: &PgPool, which: UploadKey<'_>) -> sqlx::Result<Option<Upload>> {
    let row = query(
        "SELECT storage, drop_day, total_chunks, received, size_bytes, revision FROM relay.upload
         WHERE id = $1 AND sender = $2 AND group_id = $3 AND expires_at > clock_timestamp()",
    )
    .bind(key(which.id))
    .bind(key(which.sender))
    .bind(key(which.group_id))
    .fetch_optional(pool)
    .await?;
    row.as_ref().map(upload).transpose()
}

/// As [`find`], and nobody else changes it until the transaction ends.
pub(crate) async fn lock(
    tx: &mut PgTransaction<'_>,
    which: UploadKey<'_>,
) -> sqlx::Result<Option<Upload>> {
    let row = query(
        "SELECT storage, drop_day, total_chunks, received, size_bytes, revision FROM relay.upload
         WHERE id = $1 AND sender = $2 AND group_id = $3 AND expires_at > clock_timestamp()
         FOR UPDATE",
    )
    .bind(key(which.id))
    .bind(key(which.sender))
    .bind(key(which.group_id))
    .fetch_optional(&mut **tx)
    .await?;
    row.as_ref().map(upload).transpose()
}

/// Begins an upload; when another request did so first, that one stands.
///
/// It lasts `ttl_seconds` from now, however many chunks follow. An expired one gives way and
/// its storage becomes garbage.
pub(crate) async fn begin(
    tx: &mut PgTransaction<'_>,
    which: UploadKey<'_>,
    drop_day: i32,
    total_chunks: i32,
    address: &[u8],
    ttl_seconds: f64,
) -> sqlx::Result<()> {
    query(
        "WITH gone AS (DELETE FROM relay.upload WHERE id = $1 AND sender = $2 AND group_id = $3
                       AND expires_at <= clock_timestamp() RETURNING storage, drop_day)
         INSERT INTO relay.blob_garbage SELECT * FROM gone ON CONFLICT DO NOTHING",
    )
    .bind(key(which.id))
    .bind(key(which.sender))
    .bind(key(which.group_id))
    .execute(&mut **tx)
    .await?;
    query(
        "INSERT INTO relay.upload (id, sender, group_id, storage, drop_day, total_chunks, address,
                                   expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp() + make_interval(secs => $8))
         ON CONFLICT DO NOTHING",
    )
    .bind(key(which.id))
    .bind(key(which.sender))
    .bind(key(which.group_id))
    .bind(PgUuid::random())
    .bind(drop_day)
    .bind(total_chunks)
    .bind(address)
    .bind(ttl_seconds)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What the unfinished uploads of an address take, counting up to `most_uploads` of them.
pub(crate) async fn unsigned(
    db: impl PgExecutor<'_>,
    address: &[u8],
    most_uploads: u64,
) -> sqlx::Result<Unsigned> {
    let row = query(
        "SELECT count(*), coalesce(sum(size_bytes), 0)::int8 FROM
           (SELECT size_bytes FROM relay.upload
            WHERE address = $1 AND expires_at > clock_timestamp() LIMIT $2) AS held",
    )
    .bind(address)
    .bind(int8(most_uploads))
    .fetch_one(db)
    .await?;
    Ok(Unsigned { uploads: length(row.try_get(0)?), bytes: length(row.try_get(1)?) })
}

/// Puts a chunk in place in a storage; returns the part it replaced.
///
/// The caller holds the upload's lock, or nobody else knows the storage yet.
pub(crate) async fn put_chunk(
    tx: &mut PgTransaction<'_>,
    (storage, drop_day): (PgUuid, i32),
    new: Chunk,
) -> sqlx::Result<Option<Chunk>> {
    let row = query(
        "SELECT chunk, part, size_bytes FROM relay.blob_chunk
         WHERE storage = $1 AND chunk = $2 AND drop_day = $3",
    )
    .bind(storage)
    .bind(new.chunk)
    .bind(drop_day)
    .fetch_optional(&mut **tx)
    .await?;
    query(
        "INSERT INTO relay.blob_chunk (storage, chunk, drop_day, part, size_bytes)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (storage, chunk, drop_day)
         DO UPDATE SET part = excluded.part, size_bytes = excluded.size_bytes",
    )
    .bind(storage)
    .bind(new.chunk)
    .bind(drop_day)
    .bind(new.part)
    .bind(int8(new.size_bytes))
    .execute(&mut **tx)
    .await?;
    row.as_ref().map(chunk).transpose()
}

fn chunk(row: &sqlx::postgres::PgRow) -> sqlx::Result<Chunk> {
    Ok(Chunk { chunk: row.try_get(0)?, part: row.try_get(1)?, size_bytes: length(row.try_get(2)?) })
}

/// Writes the counts of an upload after [`put_chunk`]; the caller holds its lock.
pub(crate) async fn count(
    tx: &mut PgTransaction<'_>,
    which: UploadKey<'_>,
    received: i32,
    size_bytes: u64,
) -> sqlx::Result<()> {
    query(
        "UPDATE relay.upload SET received = $4, size_bytes = $5, revision = revision + 1
         WHERE id = $1 AND sender = $2 AND group_id = $3",
    )
    .bind(key(which.id))
    .bind(key(which.sender))
    .bind(key(which.group_id))
    .bind(received)
    .bind(int8(size_bytes))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Ends an upload: its storage belongs to a blob now, or is garbage.
pub(crate) async fn end(tx: &mut PgTransaction<'_>, which: UploadKey<'_>) -> sqlx::Result<()> {
    query("DELETE FROM relay.upload WHERE id = $1 AND sender = $2 AND group_id = $3")
        .bind(key(which.id))
        .bind(key(which.sender))
        .bind(key(which.group_id))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The chunks of a storage from `first` on, in order; at most a page of them.
pub(crate) async fn chunks(
    db: impl PgExecutor<'_>,
    (storage, drop_day): (PgUuid, i32),
    first: i32,
) -> sqlx::Result<Vec<Chunk>> {
    let rows = query(
        "SELECT chunk, part, size_bytes FROM relay.blob_chunk
         WHERE storage = $1 AND drop_day = $2 AND chunk >= $3 ORDER BY chunk LIMIT $4",
    )
    .bind(storage)
    .bind(drop_day)
    .bind(first)
    .bind(CHUNKS_A_PAGE)
    .fetch_all(db)
    .await?;
    rows.iter().map(chunk).collect()
}

/// Moves a storage to a partition that is dropped later. This copies the bytes, inside
/// Postgres; it happens when the completing request asks for a longer life than the chunks did.
pub(crate) async fn keep_until(
    tx: &mut PgTransaction<'_>,
    (storage, drop_day): (PgUuid, i32),
    later_day: i32,
) -> sqlx::Result<()> {
    query("SET LOCAL statement_timeout = 0").execute(&mut **tx).await?;
    query(
        "UPDATE relay.blob_piece SET drop_day = $3 WHERE drop_day = $2 AND part IN
           (SELECT part FROM relay.blob_chunk WHERE storage = $1 AND drop_day = $2)",
    )
    .bind(storage)
    .bind(drop_day)
    .bind(later_day)
    .execute(&mut **tx)
    .await?;
    query("UPDATE relay.blob_chunk SET drop_day = $3 WHERE storage = $1 AND drop_day = $2")
        .bind(storage)
        .bind(drop_day)
        .bind(later_day)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
