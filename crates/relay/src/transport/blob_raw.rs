//! Blobs without base64: downloads with ranges, chunks as they are.
//!
//! The bytes are a stranger's. They are served as a download of no type, in a sandbox, so that
//! a browser never runs them with the rights of whatever else lives on this host.

use std::fmt::Write as _;
use std::ops::Range;
use std::time::Duration;

use edge::Body;
use http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH, IF_RANGE, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use proto::js::Str;
use proto::query::{Param, get as parameter};
use proto::relay::Refusal;
use proto::relay_blob::{INVALID_NAMES, place};
use tokio::time::timeout;

use super::blob::{address, chunk_stored, etag, find, matches, not_modified, put};
use super::{Call, blob_body};
use crate::app::App;
use crate::domain::blob_upload::{Place, upload_in_motion};
use crate::error::{Error, Http};
use crate::protocol::blob::{check_names, may_name, upload_key};

/// Life of a blob's bytes when the chunk does not say, in seconds: what clients ask for.
const TTL_DEFAULT_SECONDS: f64 = 86_400.0;

/// Longest silence within a body that is written while it arrives.
const PAUSE_MAX: Duration = Duration::from_secs(30);

const OCTETS: &str = "application/octet-stream";

/// `GET /relay/blob/:id/raw`: the bytes, or one range of them.
pub(super) async fn get(call: Call, segment: &str) -> Result<Response<Body>, Error> {
    let (app, headers) = (&call.app, &call.parts.headers);
    let (_, blob) = find(&call, segment).await?;
    let etag = etag(&blob);
    if matches(headers, IF_NONE_MATCH, &etag) {
        return Ok(not_modified(&etag));
    }
    let wanted = match headers.get(IF_RANGE) {
        Some(known) if known.as_bytes() != etag.as_bytes() => Wanted::All,
        _ => wanted(headers, blob.size_bytes),
    };
    let mut response = Response::new(Body::Empty);
    let range = match wanted {
        Wanted::All => 0..blob.size_bytes,
        Wanted::Range(range) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let (first, last) = (range.start, range.end - 1);
            let text = format!("bytes {first}-{last}/{}", blob.size_bytes);
            put(&mut response, CONTENT_RANGE, &text);
            range
        }
        Wanted::Nothing => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            put(&mut response, CONTENT_RANGE, &format!("bytes */{}", blob.size_bytes));
            return Ok(response);
        }
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, (range.end - range.start).into());
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(OCTETS));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let sandbox = HeaderValue::from_static("sandbox; default-src 'none'");
    headers.insert(CONTENT_SECURITY_POLICY, sandbox);
    put(&mut response, CONTENT_DISPOSITION, &disposition(&blob.file_name));
    put(&mut response, ETAG, &etag);
    if call.parts.method != Method::HEAD {
        let reader = app.blobs.read(&blob).only(range);
        *response.body_mut() = blob_body::raw(reader, app.blobs.metrics.bytes_out.clone());
    }
    Ok(response)
}

/// `PUT /relay/blob/upload/chunk?id=&from=&groupId=&chunkIndex=&totalChunks=[&ttl=]`: a chunk as
/// `application/octet-stream`, of any length up to the largest blob's, written while it arrives.
pub(super) async fn put_chunk(call: Call) -> Result<Response<Body>, Error> {
    let Call { app, parts, mut body } = call;
    let (headers, query) = (&parts.headers, parts.uri.query().unwrap_or_default());
    let text = |name| match parameter(query, name) {
        Param::One(text) => Ok(text),
        Param::Missing => Err(Refusal::Missing(name)),
        Param::Repeated(_) => Err(Refusal::Invalid(INVALID_NAMES)),
    };
    let (id, from, group_id) = (text("id")?, text("from")?, text("groupId")?);
    let (index, total_chunks) = (text("chunkIndex")?, text("totalChunks")?);
    check_names(&id, &from, &group_id, &app.rules)?;
    let (index, total_chunks) = place(number(&index), number(&total_chunks))?;
    let ttl = match parameter(query, "ttl") {
        Param::Missing => TTL_DEFAULT_SECONDS,
        Param::One(text) => number(&text).ok_or(Refusal::Invalid("invalid ts/ttl"))?,
        Param::Repeated(_) => return Err(Refusal::Invalid("invalid ts/ttl").into()),
    };
    let kind = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if !kind.eq_ignore_ascii_case(OCTETS.as_bytes()) {
        return Err(Error::Http(Http::UnsupportedMediaType));
    }
    may_name(&id, &from, &group_id, &app.rules)?;
    app.check_blob_member(&group_id, &from).await?;
    let upload = upload_key(&id, &from, &group_id);
    let place =
        Place { upload, index, total_chunks, ttl, address: &address(parts.extensions.get()) };
    let received = take(&app, place, declared(headers), &mut body).await?;
    Ok(chunk_stored(&id, place, received))
}

/// Writes a body as the chunk at `place`.
async fn take(
    app: &App,
    place: Place<'_>,
    declared: u64,
    body: &mut Incoming,
) -> Result<i32, Error> {
    let (upload, mut part) = app.blobs.begin_chunk(place, declared).await?;
    loop {
        let frame = timeout(PAUSE_MAX, body.frame()).await;
        let Some(frame) = frame.map_err(|_| Error::Http(Http::Timeout))? else { break };
        let Ok(data) = frame.map_err(|_| Error::Http(Http::BadRequest))?.into_data() else {
            continue; // trailers
        };
        app.blobs.check_size(upload.size_bytes + part.size_bytes() + data.len() as u64)?;
        part.write(&data).await?;
    }
    app.blobs.end_chunk(place, upload, part).await?.ok_or_else(upload_in_motion)
}

fn declared(headers: &HeaderMap) -> u64 {
    headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// A decimal number without sign or blanks.
fn number(text: &Str<'_>) -> Option<f64> {
    let text = text.as_str()?;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    All,
    Range(Range<u64>),
    /// A range of which no byte exists.
    Nothing,
}

/// The one range a request asks for; several at once, or what is no range, mean everything.
fn wanted(headers: &HeaderMap, size: u64) -> Wanted {
    let text = headers.get(RANGE).and_then(|value| value.to_str().ok());
    let Some((first, last)) = text
        .and_then(|text| text.trim().strip_prefix("bytes="))
        .and_then(|range| range.split_once('-'))
    else {
        return Wanted::All;
    };
    let number = |text: &str| match text.trim() {
        "" => Some(None),
        text if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(Some(text.parse::<u64>().unwrap_or(u64::MAX)))
        }
        _ => None,
    };
    let range = match (number(first), number(last)) {
        (Some(Some(first)), Some(None)) => first..size,
        (Some(Some(first)), Some(Some(last))) if first <= last => {
            first..last.saturating_add(1).min(size)
        }
        (Some(None), Some(Some(count))) => size.saturating_sub(count)..size,
        _ => return Wanted::All,
    };
    if range.start < range.end { Wanted::Range(range) } else { Wanted::Nothing }
}

/// The download's name (RFC 6266): a plain form with doubtful characters replaced, and the
/// exact one, percent-encoded.
fn disposition(file_name: &[u8]) -> String {
    let name = String::from_utf8_lossy(file_name);
    let name: String =
        name.rsplit(['/', '\\']).next().unwrap_or_default().chars().take(200).collect();
    let mut text = String::from("attachment; filename=\"");
    text.extend(name.chars().map(|character| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_' | ' ' => character,
        _ => '_',
    }));
    text.push_str("\"; filename*=UTF-8''");
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => text.push(byte.into()),
            _ => write!(text, "%{byte:02X}").expect("strings take everything"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str, size: u64) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, text.parse().unwrap());
        wanted(&headers, size)
    }

    #[test]
    fn one_range_is_cut_to_the_blob() {
        assert_eq!(range("bytes=0-0", 10), Wanted::Range(0..1));
        assert_eq!(range("bytes=2-", 10), Wanted::Range(2..10));
        assert_eq!(range("bytes=-3", 10), Wanted::Range(7..10));
        assert_eq!(range("bytes=-30", 10), Wanted::Range(0..10));
        assert_eq!(range("bytes=5-99999999999999999999", 10), Wanted::Range(5..10));
    }

    #[test]
    fn ranges_outside_are_refused_and_odd_ones_ignored() {
        for text in ["bytes=10-", "bytes=10-20", "bytes=-0"] {
            assert_eq!(range(text, 10), Wanted::Nothing, "{text}");
        }
        assert_eq!(range("bytes=0-", 0), Wanted::Nothing);
        for text in
            ["bytes=5-2", "bytes=1-2,4-5", "octets=1-2", "bytes=-", "bytes=+1-2", "bytes=a-"]
        {
            assert_eq!(range(text, 10), Wanted::All, "{text}");
        }
    }

    #[test]
    fn a_file_name_cannot_leave_its_quotes_or_its_folder() {
        assert_eq!(
            disposition("../x\"\r\né.html".as_bytes()),
            "attachment; filename=\"x____.html\"; filename*=UTF-8''x%22%0D%0A%C3%A9.html"
        );
    }
}
