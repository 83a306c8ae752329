//! Answers and errors as bytes: the one place that knows status codes.

use edge::Body;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};
use proto::js::{self, Str};
use proto::relay::Refusal;

use crate::error::{Error, Http};

/// Seconds a client is told to wait while the database is away or memory is short.
const UNAVAILABLE_RETRY_AFTER_S: u64 = 2;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// A 200 with JSON text.
pub(crate) fn json(text: impl Into<Body>) -> Response<Body> {
    json_status(StatusCode::OK, text)
}

/// JSON text under any status.
pub(crate) fn json_status(status: StatusCode, text: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// The answer to a request that failed.
pub(crate) fn error(error: &Error) -> Response<Body> {
    let status = status(error);
    if let Error::Storage(cause) = error {
        tracing::error!(error = cause as &dyn std::error::Error, "request failed in storage");
    }
    if let Error::Http(_) = error {
        return page(status);
    }
    let mut text = Vec::with_capacity(64);
    text.extend_from_slice(b"{\"error\":");
    js::string(&Str::from(error.to_string()), &mut text);
    details(error, &mut text);
    text.push(b'}');
    let mut response = json_status(status, text);
    if let Some(seconds) = retry_after_s(error) {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// The short page of an error below the protocol.
pub(crate) fn page(status: StatusCode) -> Response<Body> {
    let reason = status.canonical_reason().unwrap_or_default();
    let text = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>Error</title>\n</head>\n\
         <body>\n<pre>{reason}</pre>\n</body>\n</html>\n"
    );
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HTML);
    headers.insert("content-security-policy", HeaderValue::from_static("default-src 'none'"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

fn status(error: &Error) -> StatusCode {
    match error {
        Error::NoBody
        | Error::Refused(Refusal::Missing(_) | Refusal::Invalid(_))
        | Error::Http(Http::BadRequest) => StatusCode::BAD_REQUEST,
        Error::BadSignature | Error::NotOwnKey | Error::Unauthenticated => StatusCode::UNAUTHORIZED,
        Error::Refused(Refusal::Forbidden(_))
        | Error::SenderNotMember
        | Error::RecipientsNotMembers(_)
        | Error::ClaimByStranger => StatusCode::FORBIDDEN,
        Error::BlobNotFound | Error::SessionNotFound | Error::Http(Http::NotFound) => {
            StatusCode::NOT_FOUND
        }
        Error::Http(Http::Timeout) => StatusCode::REQUEST_TIMEOUT,
        Error::OwnerMismatch
        | Error::StaleUpdate
        | Error::TotalMismatch
        | Error::MissingChunks { .. }
        | Error::MissingChunk(_) => StatusCode::CONFLICT,
        Error::TooLarge(_) | Error::Http(Http::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
        Error::Http(Http::UnsupportedMediaType) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Error::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
        Error::Busy | Error::Storage(_) | Error::StorageAway => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Members some errors have besides `error`.
fn details(error: &Error, text: &mut Vec<u8>) {
    match error {
        Error::RecipientsNotMembers(ids) => {
            text.extend_from_slice(b",\"unauthorizedRecipients\":[");
            for (place, id) in ids.iter().enumerate() {
                if place > 0 {
                    text.push(b',');
                }
                js::string(&Str::from_wtf8(id), text);
            }
            text.push(b']');
        }
        Error::MissingChunks { expected, received } => {
            text.extend_from_slice(
                format!(",\"expected\":{expected},\"received\":{received}").as_bytes(),
            );
        }
        _ => {}
    }
}

/// Whole seconds, rounded up, for `Retry-After`.
fn retry_after_s(error: &Error) -> Option<u64> {
    match error {
        Error::TooMany { retry_after, .. } => {
            Some(retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0))
                .map(|s| s.max(1))
        }
        Error::Busy | Error::Storage(_) | Error::StorageAway => Some(UNAVAILABLE_RETRY_AFTER_S),
        _ => None,
    }
}
