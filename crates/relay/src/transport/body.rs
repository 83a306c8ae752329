//! Request bodies: read once, inside the limit and the deadline, whatever their encoding
//! (spec 2.2).

use std::io::Read;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, TRANSFER_ENCODING};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::body_memory::{BodyMemory, LARGE_BYTES, LargeBody};
use crate::error::{Error, Http};

/// Bytes of a refused body that are still read.
const DISCARD_MAX_BYTES: usize = 32 << 20;

/// Bytes inflated at once.
const STRETCH_BYTES: usize = 32 << 10;

/// How long a refused body is still read.
const DISCARD_DEADLINE: Duration = Duration::from_secs(3);

/// What a body may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    /// Bytes, as sent and after inflating.
    pub(crate) bytes: usize,
    /// How long it may take to arrive as a whole.
    pub(crate) deadline: Duration,
}

/// Reads a JSON body: its text, inflated, byte order mark and bad UTF-8 still in it.
///
/// A body of no bytes that says so stands for an empty object.
pub(crate) async fn read_json(
    headers: &HeaderMap,
    body: &mut Incoming,
    limits: BodyLimits,
    memory: &BodyMemory,
) -> Result<Bytes, Error> {
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    let declared = headers.get(CONTENT_LENGTH);
    if (!chunked && declared.is_none()) || !is_json(headers)? {
        return Err(Error::NoBody);
    }
    let coding = Coding::of(headers)?;
    if !chunked && declared.is_some_and(|length| length.as_bytes() == b"0") {
        return Ok(Bytes::from_static(b"{}"));
    }
    let text = read(headers, body, limits, memory).await?;
    match coding {
        Coding::Identity => Ok(text),
        coding => inflate(coding, &text, limits.bytes, memory).await,
    }
}

/// Reads any body as it was sent.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: &mut Incoming,
    limits: BodyLimits,
    memory: &BodyMemory,
) -> Result<Bytes, Error> {
    // A length beside a transfer encoding says nothing.
    let declared = match headers.contains_key(TRANSFER_ENCODING) {
        true => None,
        false => headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()),
    };
    if declared.is_some_and(|length: usize| length > limits.bytes) {
        if !headers.contains_key(EXPECT) {
            discard(body).await;
        }
        return Err(Error::Http(Http::TooLarge));
    }
    let collected = timeout(limits.deadline, collect(body, limits.bytes, declared, memory));
    collected.await.map_err(|_| Error::Http(Http::Timeout))?
}

async fn collect(
    body: &mut Incoming,
    limit: usize,
    declared: Option<usize>,
    memory: &BodyMemory,
) -> Result<Bytes, Error> {
    let mut gathered = Gathered::default();
    if let Some(length) = declared.filter(|&length| length > LARGE_BYTES) {
        gathered = Gathered::Large(memory.begin(length).await?);
    }
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Error::Http(Http::BadRequest))?.into_data() else {
            continue; // trailers
        };
        if gathered.len() + data.len() > limit {
            discard(body).await;
            return Err(Error::Http(Http::TooLarge));
        }
        if let Err(busy) = gathered.push(data, declared.unwrap_or(limit), memory).await {
            discard(body).await;
            return Err(busy);
        }
    }
    Ok(gathered.freeze())
}

/// A body as far as it has come: most are one buffer of the connection's, which is passed on.
enum Gathered {
    One(Bytes),
    Joined(BytesMut),
    Large(LargeBody),
}

impl Default for Gathered {
    fn default() -> Self {
        Self::One(Bytes::new())
    }
}

impl Gathered {
    fn len(&self) -> usize {
        match self {
            Self::One(bytes) => bytes.len(),
            Self::Joined(bytes) => bytes.len(),
            Self::Large(body) => body.len(),
        }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::One(bytes) => bytes,
            Self::Joined(bytes) => bytes,
            Self::Large(body) => body.as_ref(),
        }
    }

    /// Appends `data` to a body that has `most` bytes in the end, or fewer.
    async fn push(&mut self, data: Bytes, most: usize, memory: &BodyMemory) -> Result<(), Error> {
        let length = self.len() + data.len();
        match self {
            Self::One(bytes) if bytes.is_empty() => *self = Self::One(data),
            Self::Large(body) => body.append(memory, &data)?,
            _ if length > LARGE_BYTES => {
                let mut body = memory.begin(most.max(length)).await?;
                body.append(memory, self.as_slice())?;
                body.append(memory, &data)?;
                *self = Self::Large(body);
            }
            Self::Joined(joined) => joined.extend_from_slice(&data),
            Self::One(bytes) => {
                let mut joined = BytesMut::with_capacity((2 * length).min(most.max(length)));
                joined.extend_from_slice(bytes);
                joined.extend_from_slice(&data);
                *self = Self::Joined(joined);
            }
        }
        Ok(())
    }

    fn freeze(self) -> Bytes {
        match self {
            Self::One(bytes) => bytes,
            Self::Joined(bytes) => bytes.freeze(),
            Self::Large(body) => body.freeze(),
        }
    }
}

/// Reads on for a moment without keeping anything: closing at once would reset the connection of a
/// client that is still sending, before it sees why.
async fn discard(body: &mut Incoming) {
    let reading = async {
        let mut left = DISCARD_MAX_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    };
    let _ = timeout(DISCARD_DEADLINE, reading).await; // either way we are done with it
}

/// Whether the body says it is JSON, in a character set that is Unicode.
fn is_json(headers: &HeaderMap) -> Result<bool, Error> {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return Ok(false);
    };
    let (kind, parameters) = value.split_once(';').unwrap_or((value, ""));
    if !kind.trim().eq_ignore_ascii_case("application/json") {
        return Ok(false);
    }
    let charset =
        parameters.split(';').filter_map(|pair| pair.split_once('=')).find_map(|(name, value)| {
            name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
        });
    match charset {
        Some(name) if !name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("utf-")) => {
            Err(Error::Http(Http::UnsupportedMediaType))
        }
        _ => Ok(true),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    Deflate,
}

impl Coding {
    fn of(headers: &HeaderMap) -> Result<Self, Error> {
        let Some(value) = headers.get(CONTENT_ENCODING) else { return Ok(Self::Identity) };
        match value.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "identity" | "" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            _ => Err(Error::Http(Http::UnsupportedMediaType)),
        }
    }
}

/// Inflates at most `limit` bytes: a small body that grows past it is refused on the way.
async fn inflate(
    coding: Coding,
    packed: &[u8],
    limit: usize,
    memory: &BodyMemory,
) -> Result<Bytes, Error> {
    let mut reader: Box<dyn Read + Send + '_> = match coding {
        Coding::Gzip => Box::new(MultiGzDecoder::new(packed)),
        // The name means zlib, but some senders leave its header out.
        Coding::Deflate if packed.first().is_some_and(|first| first & 0x0f == 8) => {
            Box::new(ZlibDecoder::new(packed))
        }
        Coding::Deflate | Coding::Identity => Box::new(DeflateDecoder::new(packed)),
    };
    let mut text = Gathered::default();
    loop {
        let mut stretch = Vec::new();
        let room = u64::try_from(STRETCH_BYTES).unwrap_or(u64::MAX);
        let read = reader.by_ref().take(room).read_to_end(&mut stretch);
        read.map_err(|_| Error::Http(Http::BadRequest))?;
        if stretch.is_empty() {
            return Ok(text.freeze());
        }
        if text.len() + stretch.len() > limit {
            return Err(Error::Http(Http::TooLarge));
        }
        text.push(stretch.into(), limit, memory).await?;
    }
}
