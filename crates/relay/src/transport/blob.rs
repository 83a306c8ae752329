//! The blob endpoints that speak JSON: three to upload, one to download.

use edge::{Body, Client, LimitKey};
use http::header::{CONTENT_LENGTH, ETAG, HeaderName, HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, Method, Response, StatusCode};
use proto::base64;
use proto::js::{self, Str};
use proto::relay::Fields;
use proto::relay_blob::{Chunk, Complete, DOCUMENT_END, Upload, document_start};

use super::blob_body::{document, encoded_bytes};
use super::{Call, respond};
use crate::domain::blob::Blob;
use crate::domain::blob_upload::{Place, upload_in_motion};
use crate::error::{Error, Http};
use crate::protocol;
use crate::protocol::blob::{check, described, may_name, upload_key, verbatim};

/// Times a completion is checked again because chunks were replaced while it was.
const ATTEMPTS: usize = 3;

/// `POST /relay/blob/upload`: a signed blob in one request.
pub(super) async fn upload(mut call: Call) -> Result<Response<Body>, Error> {
    let body = call.json().await?;
    let text = protocol::text(&body);
    let parsed = protocol::parse(&text)?;
    let app = &call.app;
    let request = Upload::read(Fields::new(&parsed))?;
    let common = &request.common;
    check(common, &app.rules, app.clock.now_ms())?;
    app.rules.payload(request.payload)?;
    let bytes = base64::decode_lenient(request.payload);
    let key = app.proofs.verify(request.proof, &[&common.signature_text(), &bytes])?;
    app.proofs.claim(common.from, &key).await?;
    may_name(common.id, common.from, common.group_id, &app.rules)?;
    app.check_blob_member(common.group_id, common.from).await?;
    let which = upload_key(common.id, common.from, common.group_id);
    let text = verbatim(request.payload);
    let duplicate = app.blobs.put_whole(which, described(common), &bytes, text.as_deref()).await?;
    Ok(stored(common.id, duplicate))
}

/// `POST /relay/blob/upload/chunk`: an unsigned part of a blob.
pub(super) async fn chunk(mut call: Call) -> Result<Response<Body>, Error> {
    let body = call.json().await?;
    let text = protocol::text(&body);
    let parsed = protocol::parse(&text)?;
    let app = &call.app;
    let request = Chunk::read(Fields::new(&parsed))?;
    let common = &request.common;
    check(common, &app.rules, app.clock.now_ms())?;
    app.rules.payload(request.payload)?;
    may_name(common.id, common.from, common.group_id, &app.rules)?;
    app.check_blob_member(common.group_id, common.from).await?;
    let place = Place {
        upload: upload_key(common.id, common.from, common.group_id),
        index: request.index,
        total_chunks: request.total_chunks,
        ttl: common.ttl,
        address: &address(call.client()),
    };
    let received = app.blobs.put_chunk(place, request.payload).await?;
    Ok(chunk_stored(common.id, place, received))
}

/// `POST /relay/blob/upload/complete`: the signature over all chunks.
pub(super) async fn complete(mut call: Call) -> Result<Response<Body>, Error> {
    let body = call.json().await?;
    let text = protocol::text(&body);
    let parsed = protocol::parse(&text)?;
    let app = &call.app;
    let request = Complete::read(Fields::new(&parsed))?;
    let common = &request.common;
    check(common, &app.rules, app.clock.now_ms())?;
    let which = upload_key(common.id, common.from, common.group_id);
    for _ in 0..ATTEMPTS {
        let upload = app.blobs.completable(which, request.total_chunks).await?;
        let (key, signature) = app.proofs.decode(request.proof.ok_or(Error::BadSignature)?)?;
        let mut verifier = key.verify_stream(&signature).ok_or(Error::BadSignature)?;
        verifier.update(&common.signature_text());
        let size_bytes = match app.blobs.verify(upload, request.total_chunks, verifier).await {
            Err(Error::BlobNotFound) => continue, // a chunk was replaced while it was read
            checked => checked?,
        };
        app.proofs.claim(common.from, &(*key.as_bytes()).into()).await?;
        may_name(common.id, common.from, common.group_id, &app.rules)?;
        app.check_blob_member(common.group_id, common.from).await?;
        let size = (request.total_chunks, size_bytes);
        let done = app.blobs.complete(which, described(common), upload, size).await?;
        if let Some(duplicate) = done {
            return Ok(stored(common.id, duplicate));
        }
    }
    Err(upload_in_motion())
}

/// `GET /relay/blob/:id`: the blob as a JSON document, its payload in base64.
pub(super) async fn get(call: Call, segment: &str) -> Result<Response<Body>, Error> {
    let (app, headers) = (&call.app, &call.parts.headers);
    let (id, blob) = find(&call, segment).await?;
    let etag = format!("W/{}", etag(&blob));
    if matches(headers, IF_NONE_MATCH, &etag) {
        return Ok(not_modified(&etag));
    }
    let group_id = Str::from_wtf8(&blob.group_id);
    let file_name = Str::from_wtf8(&blob.file_name);
    let mime_type = blob.mime_type.as_deref().map(Str::from_wtf8);
    let start = document_start(&id, &group_id, &file_name, mime_type.as_ref(), blob.size_bytes);
    let payload_bytes = blob.text_bytes.unwrap_or_else(|| encoded_bytes(blob.size_bytes));
    let length = start.len() as u64 + payload_bytes + DOCUMENT_END.len() as u64;
    let is_head = call.parts.method == Method::HEAD;
    let body = if is_head { Body::Empty } else { document(&app.blobs, start, &blob) };
    let mut response = respond::json(body);
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    put(&mut response, ETAG, &etag);
    Ok(response)
}

/// Looks a blob up by the segment of its path; misses are counted against the client.
pub(super) async fn find<'s>(call: &Call, segment: &'s str) -> Result<(Str<'s>, Blob), Error> {
    let app = &call.app;
    let id = proto::query::path_segment(segment).ok_or(Error::Http(Http::BadRequest))?;
    let address = limit_key(call.client());
    app.blobs.misses.allow(address).inspect_err(|_| app.blobs.count_refused("misses"))?;
    if let Some(blob) = app.blobs.find(id.as_bytes()).await? {
        return Ok((id, blob));
    }
    app.blobs.metrics.misses.inc();
    app.blobs.misses.missed(address).inspect_err(|_| app.blobs.count_refused("misses"))?;
    Err(Error::BlobNotFound)
}

/// The blob's bytes never change under the same storage; quoted as in a header.
pub(super) fn etag(blob: &Blob) -> String {
    format!("\"{}\"", blob.storage.0.simple())
}

/// Whether a header lists `etag` or everything. Weak and strong are the same here.
pub(super) fn matches(headers: &HeaderMap, name: HeaderName, etag: &str) -> bool {
    let strong = |tag: &str| tag.trim_start_matches("W/").to_owned();
    let lists = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || strong(tag) == strong(etag))
}

/// A 304.
pub(super) fn not_modified(etag: &str) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    put(&mut response, ETAG, etag);
    response
}

/// Sets a header to text that is known to be visible ASCII.
pub(super) fn put(response: &mut Response<Body>, name: HeaderName, text: &str) {
    let value = HeaderValue::from_str(text).expect("only visible ASCII goes into our headers");
    response.headers_mut().insert(name, value);
}

/// Whose limits a request counts against.
fn limit_key(client: Option<&Client>) -> LimitKey {
    // The listener always says who connected; requests that did not come by it share a place.
    client.map_or(LimitKey::V4([0; 4]), Client::limit_key)
}

/// The key under which a client's unsigned bytes are counted.
pub(super) fn address(client: Option<&Client>) -> Vec<u8> {
    match limit_key(client) {
        LimitKey::V4(octets) => octets.to_vec(),
        LimitKey::V6(octets) => octets.to_vec(),
    }
}

/// The answer to a chunk.
pub(super) fn chunk_stored(id: &Str<'_>, place: Place<'_>, received: i32) -> Response<Body> {
    let mut out = b"{\"ok\":true,\"id\":".to_vec();
    js::string(id, &mut out);
    let (index, total) = (place.index, place.total_chunks);
    let rest = format!(",\"chunkIndex\":{index},\"totalChunks\":{total},\"received\":{received}}}");
    out.extend_from_slice(rest.as_bytes());
    respond::json(out)
}

fn stored(id: &Str<'_>, duplicate: bool) -> Response<Body> {
    let mut out = b"{\"ok\":true,\"blobId\":".to_vec();
    js::string(id, &mut out);
    out.extend_from_slice(format!(",\"duplicate\":{duplicate}}}").as_bytes());
    respond::json(out)
}
