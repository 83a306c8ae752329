//! Answers as bytes: the one place that knows the originals' shapes and status codes.

use std::time::Duration;

use edge::Body;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{
        ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
        ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
        CACHE_CONTROL, CONTENT_TYPE, ORIGIN, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
    },
};

use crate::error::Error;

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Paths that apps of other origins call. Nothing there looks at cookies; pages that a mailed
/// token opens are not among them.
const SHARED: [&str; 9] = [
    "/verify",
    "/ws",
    "/hitme",
    "/login",
    "/iceservers",
    "/turn",
    "/support",
    "/offer",
    "/candidates",
];

/// A line of text under any status, as Go's `http.Error` writes it.
pub(crate) fn text(status: StatusCode, line: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{line}\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, PLAIN);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// JSON under any status.
pub(crate) fn json(status: StatusCode, value: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(value.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// 429 with when to come back.
pub(crate) fn too_many(wait: Duration) -> Response<Body> {
    let mut response = text(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests");
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response.headers_mut().insert(RETRY_AFTER, seconds.max(1).into());
    response
}

/// The answer to a request that failed. Whose a fingerprint is stays ours.
pub(crate) fn error(why: &Error) -> Response<Body> {
    match why {
        Error::UnknownUser => text(StatusCode::NOT_FOUND, "User not found"),
        Error::UnknownPeer => text(StatusCode::NOT_FOUND, "Peer not found"),
        Error::Full => text(StatusCode::FORBIDDEN, "Failed to add peer: User has too many peers"),
        Error::OwnedElsewhere => {
            text(StatusCode::CONFLICT, "Fingerprint is associated to another user")
        }
        Error::TooMany { retry_after } => too_many(*retry_after),
        Error::Storage(cause) => {
            tracing::error!(error = cause as &dyn std::error::Error, "request failed in storage");
            let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "Storage unavailable");
            response.headers_mut().insert(RETRY_AFTER, 2.into());
            response
        }
    }
}

/// Whether apps of other origins may call a path.
pub(crate) fn is_shared(path: &str) -> bool {
    SHARED.iter().any(|shared| {
        path.strip_prefix(shared).is_some_and(|rest| {
            rest.is_empty() || (*shared == "/candidates" && rest.starts_with('/'))
        })
    })
}

/// Lets a page of any origin read the answer.
pub(crate) fn share(headers: &HeaderMap, response: &mut Response<Body>) {
    let answer = response.headers_mut();
    answer.append(VARY, HeaderValue::from_static("Origin"));
    if headers.contains_key(ORIGIN) {
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Location"));
    }
}

/// The answer to a CORS preflight.
pub(crate) fn preflight(headers: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    share(headers, &mut response);
    let answer = response.headers_mut();
    let methods = HeaderValue::from_static("GET, HEAD, POST, PATCH, DELETE");
    answer.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if let Some(asked) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        answer.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_apps_call_is_shared_with_other_origins() {
        for path in ["/verify", "/ws", "/candidates/7f", "/turn"] {
            assert!(is_shared(path), "{path}");
        }
        for path in ["/", "/pb/T", "/auth/T", "/list/T", "/verify/T", "/wsx", "/qr/T"] {
            assert!(!is_shared(path), "{path}");
        }
    }
}
