//! Bodies of downloads: produced while they are sent, a piece at a time.

use bytes::Bytes;
use edge::Body;
use futures_util::stream;
use prometheus::IntCounter;
use proto::base64::Encoder;
use proto::relay_blob::DOCUMENT_END;

use crate::domain::blob::{Blob, Blobs};
use crate::domain::blob_reader::BlobReader;
use crate::error::Error;

/// Length of `bytes` bytes in base64.
pub(super) fn encoded_bytes(bytes: u64) -> u64 {
    bytes.div_ceil(3) * 4
}

/// A document: what stands before the payload, the payload, and the end.
pub(super) fn document(blobs: &Blobs, start: Vec<u8>, blob: &Blob) -> Body {
    let (reader, encoder) = match blob.text_bytes {
        Some(_) => (blobs.read_text(blob), None),
        None => (blobs.read(blob), Some(Encoder::new())),
    };
    let sent = blobs.metrics.bytes_out.clone();
    let state = Document { start: Some(start.into()), reader, encoder, sent, ended: false };
    Body::stream(stream::try_unfold(state, |mut document| async move {
        Ok::<_, Error>(document.next().await?.map(|bytes| (bytes, document)))
    }))
}

struct Document {
    start: Option<Bytes>,
    reader: BlobReader,
    /// `None`: the stored bytes are the payload's text.
    encoder: Option<Encoder>,
    sent: IntCounter,
    ended: bool,
}

impl Document {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(start) = self.start.take() {
            return Ok(Some(start));
        }
        if self.ended {
            return Ok(None);
        }
        let Some(piece) = self.reader.next().await? else {
            self.ended = true;
            let mut end = Vec::with_capacity(8);
            if let Some(encoder) = self.encoder.take() {
                encoder.finish(&mut end);
            }
            end.extend_from_slice(DOCUMENT_END);
            return Ok(Some(end.into()));
        };
        self.sent.inc_by(piece.len() as u64);
        let Some(encoder) = &mut self.encoder else { return Ok(Some(piece)) };
        let mut text = Vec::with_capacity(piece.len().div_ceil(3) * 4 + 4);
        encoder.feed(&piece, &mut text);
        Ok(Some(text.into()))
    }
}

/// The bytes themselves.
pub(super) fn raw(reader: BlobReader, sent: IntCounter) -> Body {
    Body::stream(stream::try_unfold((reader, sent), |(mut reader, sent)| async move {
        let Some(piece) = reader.next().await? else { return Ok::<_, Error>(None) };
        sent.inc_by(piece.len() as u64);
        Ok(Some((piece, (reader, sent))))
    }))
}
