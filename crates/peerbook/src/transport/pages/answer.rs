//! Answers of the pages, with the headers that keep them to themselves.

use std::sync::LazyLock;

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use edge::Body;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION, REFERRER_POLICY,
    RETRY_AFTER, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{Response, StatusCode};
use sha2::{Digest, Sha256};

/// The one style sheet, inside every page.
pub(super) const STYLE: &str = include_str!("../../../templates/style.css");

/// Nothing is loaded but the style sheet that is in the page; nothing runs; nobody frames it.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    let text = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(text).expect("base64 and letters")
});

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A page.
pub(super) fn page(status: StatusCode, page: &impl Template) -> Response<Body> {
    match page.render() {
        Ok(text) => with(status, HTML, text),
        Err(why) => {
            tracing::error!(error = &why as &dyn std::error::Error, "page not rendered");
            text(StatusCode::INTERNAL_SERVER_ERROR, "Page not available")
        }
    }
}

/// A line of text, ended as the original ends it.
pub(super) fn text(status: StatusCode, line: &str) -> Response<Body> {
    with(status, TEXT, format!("{line}\n"))
}

/// JSON text.
pub(super) fn json(status: StatusCode, text: impl Into<Body>) -> Response<Body> {
    with(status, JSON, text)
}

/// "Look there", with GET.
pub(super) fn see_other(path: &str) -> Response<Body> {
    let mut response = with(StatusCode::SEE_OTHER, TEXT, Body::Empty);
    // Paths are made here of tokens and escaped texts.
    let path = HeaderValue::try_from(path).unwrap_or(HeaderValue::from_static("/"));
    response.headers_mut().insert(LOCATION, path);
    response
}

/// Tells when to try again.
pub(super) fn retry_after(
    mut response: Response<Body>,
    wait: std::time::Duration,
) -> Response<Body> {
    response.headers_mut().insert(RETRY_AFTER, (wait.as_secs() + 1).into());
    response
}

fn with(status: StatusCode, kind: HeaderValue, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}
