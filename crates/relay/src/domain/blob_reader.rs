//! Reading stored bytes, a piece at a time, at the pace of whoever takes them.

use std::ops::Range;

use bytes::Bytes;
use sqlx::PgPool;

use crate::error::Error;
use crate::store::blob_piece::{self, PIECE_BYTES};
use crate::store::blob_upload::{self, Chunk};
use crate::store::blob_uuid::PgUuid;

/// A position in a storage. Holds no connection between two pieces.
pub(crate) struct BlobReader {
    pool: PgPool,
    storage: PgUuid,
    drop_day: i32,
    /// Chunks not looked up yet.
    chunks: Range<i32>,
    /// Chunks looked up, the one being read last.
    page: Vec<Chunk>,
    /// Where in that chunk to read on.
    offset: u64,
    /// Bytes to leave out before the first, and to give after that.
    skip: u64,
    left: u64,
}

impl BlobReader {
    /// All bytes of the given chunks of a storage.
    pub(crate) fn new(
        pool: PgPool,
        (storage, drop_day): (PgUuid, i32),
        chunks: Range<i32>,
    ) -> Self {
        let (skip, left) = (0, u64::MAX);
        Self { pool, storage, drop_day, chunks, page: Vec::new(), offset: 0, skip, left }
    }

    /// Only the bytes of `range`.
    pub(crate) fn only(self, range: Range<u64>) -> Self {
        Self { skip: range.start, left: range.end - range.start, ..self }
    }

    /// The next bytes, at most a piece. `None`: that was all.
    ///
    /// # Errors
    /// When the database fails, and when pieces are gone: a chunk was replaced or expired.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        let Some(chunk) = self.chunk().await? else { return Ok(None) };
        let piece = self.offset / PIECE_BYTES as u64;
        let start = self.offset - piece * PIECE_BYTES as u64;
        let end = (PIECE_BYTES as u64).min(start + self.left);
        let part = (chunk.part, self.drop_day);
        let range = usize_of(start)..usize_of(end);
        let piece = i32::try_from(piece).unwrap_or(i32::MAX);
        let bytes = blob_piece::read(&self.pool, part, piece, range).await?;
        let bytes = bytes.filter(|bytes| !bytes.is_empty()).ok_or(Error::BlobNotFound)?;
        self.offset += bytes.len() as u64;
        self.left -= (bytes.len() as u64).min(self.left);
        Ok(Some(bytes))
    }

    /// The chunk that holds the next byte, with `offset` at that byte.
    async fn chunk(&mut self) -> Result<Option<Chunk>, Error> {
        loop {
            if let Some(chunk) = self.page.last() {
                let rest = chunk.size_bytes.saturating_sub(self.offset);
                if self.skip < rest {
                    self.offset += std::mem::take(&mut self.skip);
                    return Ok(Some(*chunk));
                }
                self.skip -= rest;
                self.offset = 0;
                self.page.pop();
                continue;
            }
            if self.chunks.is_empty() {
                return Ok(None);
            }
            let whole = (self.storage, self.drop_day);
            let page = blob_upload::chunks(&self.pool, whole, self.chunks.start).await?;
            self.page = page.into_iter().filter(|c| self.chunks.contains(&c.chunk)).rev().collect();
            self.chunks.start = match self.page.first() {
                Some(last) => last.chunk + 1,
                None => return Err(Error::BlobNotFound),
            };
        }
    }
}

/// Both ends of a range inside a piece fit.
fn usize_of(offset: u64) -> usize {
    usize::try_from(offset).expect("at most a piece")
}
