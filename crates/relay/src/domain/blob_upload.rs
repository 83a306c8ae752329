//! Uploads: chunks in any order, then one signature over all of them; or a whole blob at once.

use std::time::Duration;

use proto::js::Str;
use proto::sign::Verifier;

use super::blob::Blobs;
use super::blob_part::{Part, PartWriter};
use super::blob_reader::BlobReader;
use crate::error::Error;
use crate::store::blob::{self, NewBlob};
pub(crate) use crate::store::blob_upload::UploadKey;
use crate::store::blob_upload::{self, Chunk, Upload};
use crate::store::blob_uuid::PgUuid;
use crate::store::{blob_garbage, blob_piece};

/// Times a chunk starts over because the upload was ended meanwhile.
const ATTEMPTS: usize = 3;

/// A signed request's words about its blob; which blob it is, is in the [`UploadKey`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Described<'a> {
    pub(crate) file_name: &'a [u8],
    pub(crate) mime_type: Option<&'a [u8]>,
    /// Seconds, as received.
    pub(crate) ttl: f64,
}

/// Where a chunk belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) upload: UploadKey<'a>,
    pub(crate) index: i32,
    pub(crate) total_chunks: i32,
    /// Seconds, as received; a hint for where the bytes are put.
    pub(crate) ttl: f64,
    /// Whose quota pays until the upload is signed for.
    pub(crate) address: &'a [u8],
}

impl Blobs {
    /// Stores one chunk whose base64 text is in memory; returns how many distinct ones there are
    /// now.
    pub(crate) async fn put_chunk(&self, place: Place<'_>, text: &Str<'_>) -> Result<i32, Error> {
        let padding = text.as_bytes().iter().rev().take_while(|&&last| last == b'=').count();
        let about_bytes = (text.as_bytes().len() - padding) as u64 * 3 / 4;
        for _ in 0..ATTEMPTS {
            let (upload, mut part) = self.begin_chunk(place, about_bytes).await?;
            part.write_base64(text).await?;
            if let Some(received) = self.end_chunk(place, upload, part).await? {
                return Ok(received);
            }
        }
        Err(upload_in_motion())
    }

    /// Gets ready to take a chunk of about `expected_bytes`.
    pub(crate) async fn begin_chunk(
        &self,
        place: Place<'_>,
        expected_bytes: u64,
    ) -> Result<(Upload, PartWriter<'_>), Error> {
        self.check_disk(expected_bytes).await?;
        let upload = match blob_upload::find(&self.pool, place.upload).await? {
            Some(upload) => upload,
            None => self.begin_upload(place).await?,
        };
        if upload.total_chunks != place.total_chunks {
            return Err(Error::TotalMismatch);
        }
        self.check_size(upload.size_bytes.saturating_add(expected_bytes))?;
        let part = PartWriter::new(self, upload.drop_day);
        Ok((upload, part))
    }

    async fn begin_upload(&self, place: Place<'_>) -> Result<Upload, Error> {
        let most = self.args.blob_unsigned_count;
        let held = blob_upload::unsigned(&self.pool, place.address, most.saturating_add(1)).await?;
        if most > 0 && held.uploads >= most {
            return Err(self.over_quota("address", "too many unfinished uploads"));
        }
        let lasts = self.upload_ttl_seconds + self.ttl_seconds(place.ttl).max(0.0);
        let drop_day = blob::drop_day(&self.pool, lasts).await?;
        self.ensure_day(drop_day).await?;
        let mut tx = self.pool.begin().await?;
        let (total, ttl) = (place.total_chunks, self.upload_ttl_seconds);
        blob_upload::begin(&mut tx, place.upload, drop_day, total, place.address, ttl).await?;
        let upload = blob_upload::lock(&mut tx, place.upload).await?;
        tx.commit().await?;
        self.metrics.uploads_begun.inc();
        upload.ok_or_else(upload_in_motion)
    }

    /// Puts a written chunk in place of the one there was. `None`: the upload is not the one any
    /// more that the chunk was begun for.
    pub(crate) async fn end_chunk(
        &self,
        place: Place<'_>,
        upload: Upload,
        part: PartWriter<'_>,
    ) -> Result<Option<i32>, Error> {
        let part = part.finish().await?;
        let mut tx = self.pool.begin().await?;
        let now = match blob_upload::lock(&mut tx, place.upload).await? {
            Some(now) if now.storage == upload.storage => now,
            _ => return Ok(None),
        };
        let new = Chunk { chunk: place.index, part: part.id(), size_bytes: part.size_bytes() };
        let old = blob_upload::put_chunk(&mut tx, (now.storage, now.drop_day), new).await?;
        let old_bytes = old.map_or(0, |old| old.size_bytes);
        let size_bytes = now.size_bytes.saturating_sub(old_bytes) + part.size_bytes();
        self.check_size(size_bytes)?;
        let received = now.received + i32::from(old.is_none());
        blob_upload::count(&mut tx, place.upload, received, size_bytes).await?;
        self.check_unsigned(&mut tx, place.address).await?;
        if let Some(old) = old {
            blob_piece::delete(&mut *tx, (old.part, now.drop_day)).await?;
        }
        tx.commit().await?;
        self.metrics.bytes_in.inc_by(part.size_bytes());
        part.keep();
        Ok(Some(received))
    }

    /// The upload a completion speaks of, when its chunks are all there.
    pub(crate) async fn completable(
        &self,
        which: UploadKey<'_>,
        total_chunks: i32,
    ) -> Result<Upload, Error> {
        let upload = blob_upload::find(&self.pool, which).await?.ok_or(Error::SessionNotFound)?;
        if upload.total_chunks != total_chunks && !self.is_open() {
            return Err(Error::TotalMismatch);
        }
        if upload.received != total_chunks {
            let count = |chunks: i32| u64::try_from(chunks).unwrap_or(0);
            return Err(Error::MissingChunks {
                expected: count(total_chunks),
                received: count(upload.received),
            });
        }
        let whole = (upload.storage, upload.drop_day);
        let mut expected = 0;
        while expected < total_chunks {
            let page = blob_upload::chunks(&self.pool, whole, expected).await?;
            let in_order = page.iter().zip(expected..).take_while(|(c, at)| c.chunk == *at).count();
            expected += i32::try_from(in_order).unwrap_or(i32::MAX);
            if in_order < page.len() || page.is_empty() {
                break;
            }
        }
        if expected < total_chunks {
            return Err(Error::MissingChunk(u64::try_from(expected).unwrap_or(0)));
        }
        Ok(upload)
    }

    /// Whether `verifier`, fed with the bytes of the first `total_chunks` chunks, is content.
    /// Returns their length.
    pub(crate) async fn verify(
        &self,
        upload: Upload,
        total_chunks: i32,
        mut verifier: Verifier,
    ) -> Result<u64, Error> {
        let _turn = self.verifications.acquire().await.expect("the semaphore is never closed");
        let whole = (upload.storage, upload.drop_day);
        let mut reader = BlobReader::new(self.pool.clone(), whole, 0..total_chunks);
        let mut size_bytes = 0;
        while let Some(bytes) = reader.next().await? {
            size_bytes += bytes.len() as u64;
            verifier.update(&bytes);
        }
        if verifier.finish() { Ok(size_bytes) } else { Err(Error::BadSignature) }
    }

    /// Makes a verified upload readable. `true`: the id was taken, the upload is given up.
    /// `None`: the upload changed since it was verified.
    pub(crate) async fn complete(
        &self,
        which: UploadKey<'_>,
        described: Described<'_>,
        verified: Upload,
        (total_chunks, size_bytes): (i32, u64),
    ) -> Result<Option<bool>, Error> {
        let ttl_seconds = self.ttl_seconds(described.ttl);
        let drop_day = blob::drop_day(&self.pool, ttl_seconds).await?.max(verified.drop_day);
        self.ensure_day(drop_day).await?;
        let mut tx = self.pool.begin().await?;
        match blob_upload::lock(&mut tx, which).await? {
            Some(now) if (now.storage, now.revision) == (verified.storage, verified.revision) => {}
            _ => return Ok(None),
        }
        let was = (verified.storage, verified.drop_day);
        let new = NewBlob {
            id: which.id,
            sender: which.sender,
            group_id: which.group_id,
            file_name: described.file_name,
            mime_type: described.mime_type,
            size_bytes,
            chunks: total_chunks,
            text_bytes: None,
            storage: verified.storage,
            drop_day,
            ttl_seconds,
        };
        let stored = blob::insert(&mut tx, &new, self.is_open()).await?;
        if stored {
            self.check_sender(&mut tx, which.sender).await?;
            if drop_day != verified.drop_day {
                blob_upload::keep_until(&mut tx, was, drop_day).await?;
            }
        } else {
            blob_garbage::discard(&mut tx, was).await?;
        }
        blob_upload::end(&mut tx, which).await?;
        tx.commit().await?;
        self.count_stored(stored);
        Ok(Some(!stored))
    }

    /// Stores a whole blob that is in memory. `text` is its payload's text, escaped as in JSON,
    /// when that has to be given back as it came. `true`: the id was taken.
    pub(crate) async fn put_whole(
        &self,
        which: UploadKey<'_>,
        described: Described<'_>,
        bytes: &[u8],
        text: Option<&[u8]>,
    ) -> Result<bool, Error> {
        let size = bytes.len() as u64;
        if blob::exists(&self.pool, which.id, self.is_open()).await? {
            self.count_stored(false);
            return Ok(true);
        }
        self.check_size(size)?;
        self.check_disk(size).await?;
        let ttl_seconds = self.ttl_seconds(described.ttl);
        let drop_day = blob::drop_day(&self.pool, ttl_seconds).await?;
        self.ensure_day(drop_day).await?;
        let mut part = PartWriter::new(self, drop_day);
        part.write(bytes).await?;
        let part = part.finish().await?;
        let mut verbatim = None;
        if let Some(text) = text {
            let mut writer = PartWriter::new(self, drop_day);
            writer.write(text).await?;
            verbatim = Some(writer.finish().await?);
        }
        let storage = PgUuid::random();
        let mut tx = self.pool.begin().await?;
        let mut parts = vec![(0, &part)];
        parts.extend(verbatim.as_ref().map(|part| (-1, part)));
        for (chunk, part) in parts {
            let new = Chunk { chunk, part: part.id(), size_bytes: part.size_bytes() };
            blob_upload::put_chunk(&mut tx, (storage, drop_day), new).await?;
        }
        let new = NewBlob {
            id: which.id,
            sender: which.sender,
            group_id: which.group_id,
            file_name: described.file_name,
            mime_type: described.mime_type,
            size_bytes: size,
            chunks: 1,
            text_bytes: text.map(|text| text.len() as u64),
            storage,
            drop_day,
            ttl_seconds,
        };
        let stored = blob::insert(&mut tx, &new, self.is_open()).await?;
        if stored {
            self.check_sender(&mut tx, which.sender).await?;
            tx.commit().await?;
            part.keep();
            verbatim.into_iter().for_each(Part::keep);
            self.metrics.bytes_in.inc_by(size);
        }
        self.count_stored(stored);
        Ok(!stored)
    }
}

/// Somebody else keeps changing the same upload.
pub(crate) fn upload_in_motion() -> Error {
    Error::TooMany { what: "upload changed meanwhile", retry_after: Duration::from_secs(1) }
}
