//! Writing a part, piece by piece, in bounded memory.

use bytes::BytesMut;
use proto::base64::Decoder;
use proto::js::Str;
use service::Context;
use sqlx::PgPool;

use super::blob::Blobs;
use crate::error::Error;
use crate::store::blob_piece::{self, PIECE_BYTES};
use crate::store::blob_uuid::PgUuid;

/// Characters of base64 decoded at once.
const STRETCH: usize = 64 * 1024;

/// A part being written. Dropped before [`PartWriter::finish`], its pieces are deleted.
pub(crate) struct PartWriter<'a> {
    blobs: &'a Blobs,
    part: Part,
    pieces: i32,
    /// Less than a piece.
    rest: BytesMut,
}

/// A part whose pieces are all written, and which nothing refers to until [`Part::keep`].
pub(crate) struct Part {
    id: PgUuid,
    drop_day: i32,
    size_bytes: u64,
    pool: PgPool,
    cx: Context,
    kept: bool,
}

impl<'a> PartWriter<'a> {
    pub(super) fn new(blobs: &'a Blobs, drop_day: i32) -> Self {
        let (pool, cx) = (blobs.pool.clone(), blobs.cx.clone());
        let part = Part { id: PgUuid::random(), drop_day, size_bytes: 0, pool, cx, kept: false };
        Self { blobs, part, pieces: 0, rest: BytesMut::new() }
    }

    /// Appends bytes; whole pieces go to the database.
    pub(crate) async fn write(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let room = PIECE_BYTES - self.rest.len();
            if self.rest.is_empty() && bytes.len() >= PIECE_BYTES {
                let (piece, tail) = bytes.split_at(PIECE_BYTES);
                self.flush(piece).await?;
                bytes = tail;
                continue;
            }
            let (head, tail) = bytes.split_at(room.min(bytes.len()));
            self.rest.extend_from_slice(head);
            bytes = tail;
            if self.rest.len() == PIECE_BYTES {
                let piece = self.rest.split().freeze();
                self.flush(&piece).await?;
            }
        }
        Ok(())
    }

    /// Appends what a base64 text says, decoded a stretch at a time: the bytes never stand beside
    /// their text as a whole.
    pub(crate) async fn write_base64(&mut self, text: &Str<'_>) -> Result<(), Error> {
        let mut decoder = Decoder::new();
        let mut bytes = Vec::with_capacity(STRETCH / 4 * 3 + 3);
        for stretch in text.as_bytes().chunks(STRETCH) {
            decoder.feed(stretch, &mut bytes);
            self.write(&bytes).await?;
            bytes.clear();
        }
        decoder.finish(&mut bytes);
        self.write(&bytes).await
    }

    /// Bytes written so far.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.part.size_bytes + self.rest.len() as u64
    }

    /// Writes what is left.
    pub(crate) async fn finish(mut self) -> Result<Part, Error> {
        let rest = std::mem::take(&mut self.rest).freeze();
        if !rest.is_empty() {
            self.flush(&rest).await?;
        }
        Ok(self.part)
    }

    async fn flush(&mut self, piece: &[u8]) -> Result<(), Error> {
        let _lane = self.blobs.lane().await;
        let place = (self.part.id, self.part.drop_day);
        // Counted first: a failed write may have happened all the same, and is then deleted.
        self.part.size_bytes += piece.len() as u64;
        blob_piece::insert_early(&self.part.pool, place, self.pieces, piece).await?;
        self.pieces += 1;
        Ok(())
    }
}

impl Part {
    /// Its name.
    pub(crate) fn id(&self) -> PgUuid {
        self.id
    }

    /// Its length.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Declares that a committed row refers to it.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.kept || self.size_bytes == 0 {
            return;
        }
        let (pool, place) = (self.pool.clone(), (self.id, self.drop_day));
        self.cx.spawn("blob part clean-up", async move {
            // Also when this fails the pieces go, with their partition.
            if let Err(why) = blob_piece::delete(&pool, place).await {
                tracing::debug!(error = %why, "pieces of an abandoned part remain");
            }
        });
    }
}
