//! `relay.blob`: what can be downloaded, by id.

use std::borrow::Cow;

use sha2::{Digest, Sha256};
use sqlx::{PgExecutor, PgPool, PgTransaction, Row, query};

use super::blob_uuid::PgUuid;

/// Texts up to this many bytes are keys themselves; three of them fit an index entry.
const KEY_TEXT_MAX_BYTES: usize = 255;

/// Days between the day of expiry and the last on which the pieces are there: downloads in
/// progress end undisturbed.
const DROP_MARGIN_DAYS: i32 = 1;

/// Retentions beyond this many days share partitions of [`COARSE_DAYS`], to keep them few.
const FINE_DAYS: i32 = 15;

const COARSE_DAYS: i32 = 28;

/// The form in which a client's text is looked up: itself, or `ff` and its SHA-256 when long.
pub(crate) fn key(text: &[u8]) -> Cow<'_, [u8]> {
    if text.len() <= KEY_TEXT_MAX_BYTES {
        return Cow::Borrowed(text);
    }
    let mut key = vec![0xff];
    key.extend_from_slice(&Sha256::digest(text));
    Cow::Owned(key)
}

/// A blob as the download needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) group_id: Vec<u8>,
    pub(crate) file_name: Vec<u8>,
    pub(crate) mime_type: Option<Vec<u8>>,
    /// Decoded length.
    pub(crate) size_bytes: u64,
    /// Chunks `0..chunks` of the storage are the blob; later ones are not part of it.
    pub(crate) chunks: i32,
    /// See the migration: the text of chunk -1 replaces the encoding of the bytes.
    pub(crate) text_bytes: Option<u64>,
    pub(crate) storage: PgUuid,
    pub(crate) drop_day: i32,
}

/// What a signed request says about a blob that becomes readable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewBlob<'a> {
    pub(crate) id: &'a [u8],
    pub(crate) sender: &'a [u8],
    pub(crate) group_id: &'a [u8],
    pub(crate) file_name: &'a [u8],
    pub(crate) mime_type: Option<&'a [u8]>,
    pub(crate) size_bytes: u64,
    pub(crate) chunks: i32,
    pub(crate) text_bytes: Option<u64>,
    pub(crate) storage: PgUuid,
    pub(crate) drop_day: i32,
    /// Seconds; zero or less makes a blob nobody can read.
    pub(crate) ttl_seconds: f64,
}

/// What a sender has stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) blobs: u64,
    pub(crate) bytes: u64,
}

/// A length as Postgres takes it. Lengths here are bounded by settings far below the limit.
pub(super) fn int8(length: u64) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

/// A length or count as it comes back; the tables hold none below zero.
pub(super) fn length(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

/// The blob of this id, unless it expired.
pub(crate) async fn find(pool: &PgPool, id: &[u8]) -> sqlx::Result<Option<Blob>> {
    let row = query(
        "SELECT group_id, file_name, mime_type, size_bytes, chunks, text_bytes, storage, drop_day
         FROM relay.blob WHERE id = $1 AND expires_at > clock_timestamp()",
    )
    .bind(key(id))
    .fetch_optional(pool)
    .await?;
    row.map(|row| {
        Ok(Blob {
            group_id: row.try_get(0)?,
            file_name: row.try_get(1)?,
            mime_type: row.try_get(2)?,
            size_bytes: length(row.try_get(3)?),
            chunks: row.try_get(4)?,
            text_bytes: row.try_get::<Option<i64>, _>(5)?.map(length),
            storage: row.try_get(6)?,
            drop_day: row.try_get(7)?,
        })
    })
    .transpose()
}

/// Whether an upload under this id would be a duplicate. With `expired_count`, blobs that
/// expired but are still there count, as in the original.
pub(crate) async fn exists(pool: &PgPool, id: &[u8], expired_count: bool) -> sqlx::Result<bool> {
    let found =
        query("SELECT 1 FROM relay.blob WHERE id = $1 AND ($2 OR expires_at > clock_timestamp())")
            .bind(key(id))
            .bind(expired_count)
            .fetch_optional(pool)
            .await?;
    Ok(found.is_some())
}

/// Makes a blob readable. `false`: the id is taken, nothing was changed.
///
/// An expired blob gives way, its storage becomes garbage; with `expired_count` it does not.
pub(crate) async fn insert(
    tx: &mut PgTransaction<'_>,
    blob: &NewBlob<'_>,
    expired_count: bool,
) -> sqlx::Result<bool> {
    if !expired_count {
        delete_expired(&mut **tx, blob.id).await?;
    }
    let inserted = query(
        "INSERT INTO relay.blob (id, sender, group_id, file_name, mime_type, size_bytes, chunks,
                                 text_bytes, storage, drop_day, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10,
                 clock_timestamp() + make_interval(secs => $11))
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(key(blob.id))
    .bind(key(blob.sender))
    .bind(blob.group_id)
    .bind(blob.file_name)
    .bind(blob.mime_type)
    .bind(int8(blob.size_bytes))
    .bind(blob.chunks)
    .bind(blob.text_bytes.map(int8))
    .bind(blob.storage)
    .bind(blob.drop_day)
    .bind(blob.ttl_seconds)
    .execute(&mut **tx)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Removes the blob of this id when it expired.
pub(crate) async fn delete_expired(db: impl PgExecutor<'_>, id: &[u8]) -> sqlx::Result<bool> {
    let gone = query(
        "WITH gone AS (DELETE FROM relay.blob WHERE id = $1 AND expires_at <= clock_timestamp()
                       RETURNING storage, drop_day)
         INSERT INTO relay.blob_garbage SELECT * FROM gone ON CONFLICT DO NOTHING",
    )
    .bind(key(id))
    .execute(db)
    .await?;
    Ok(gone.rows_affected() == 1)
}

/// What the blobs of a sender take, counting up to `most_blobs` of them.
pub(crate) async fn used(
    db: impl PgExecutor<'_>,
    sender: &[u8],
    most_blobs: u64,
) -> sqlx::Result<Used> {
    let row = query(
        "SELECT count(*), coalesce(sum(size_bytes), 0)::int8 FROM
           (SELECT size_bytes FROM relay.blob
            WHERE sender = $1 AND expires_at > clock_timestamp() LIMIT $2) AS held",
    )
    .bind(key(sender))
    .bind(int8(most_blobs))
    .fetch_one(db)
    .await?;
    Ok(Used { blobs: length(row.try_get(0)?), bytes: length(row.try_get(1)?) })
}

/// The last day of bytes that must last `seconds` from now; they go when it is over.
pub(crate) async fn drop_day(db: impl PgExecutor<'_>, seconds: f64) -> sqlx::Result<i32> {
    let row = query("SELECT switchyard.today()").fetch_one(db).await?;
    Ok(drop_day_from(row.try_get(0)?, seconds))
}

#[expect(clippy::cast_possible_truncation, reason = "a float cast saturates, which is meant")]
fn drop_day_from(today: i32, seconds: f64) -> i32 {
    let days = (seconds.max(0.0) / 86_400.0).ceil() as i32;
    let day = today.saturating_add(days).saturating_add(DROP_MARGIN_DAYS);
    if days <= FINE_DAYS { day } else { day.div_euclid(COARSE_DAYS) * COARSE_DAYS + COARSE_DAYS }
}

/// Bytes the pieces take on disk, indexes and dead rows included.
pub(crate) async fn disk_bytes(pool: &PgPool) -> sqlx::Result<u64> {
    let row = query(
        "SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::int8
         FROM pg_inherits WHERE inhparent = 'relay.blob_piece'::regclass",
    )
    .fetch_one(pool)
    .await?;
    Ok(length(row.try_get(0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_become_short_keys_that_no_text_equals() {
        assert_eq!(*key(b"blob:1"), *b"blob:1");
        let long = vec![b'x'; 256];
        assert_eq!(key(&long).len(), 33);
        assert_eq!(key(&long)[0], 0xff);
    }

    #[test]
    fn pieces_outlive_their_blob_by_a_day_and_long_ones_share_partitions() {
        assert_eq!(drop_day_from(20_000, -5.0), 20_001);
        assert_eq!(drop_day_from(20_000, 86_400.0), 20_002);
        let year = drop_day_from(20_000, 365.0 * 86_400.0);
        assert!(year >= 20_000 + 366 && year % COARSE_DAYS == 0, "{year}");
    }
}
