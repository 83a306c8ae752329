//! Answers and errors as bytes: the one place that knows headers and status codes.

use edge::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, VARY};
use http::{HeaderMap, Response, StatusCode};
use proto::mesh::price;
use serde_json::{Value, json};

use super::negotiate::Format;
use crate::domain::node::Quote;
use crate::error::Error;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:44rem;padding:0 1rem;\
color-scheme:light dark}dt{font-weight:600}dd{margin:0 0 .5rem;overflow-wrap:anywhere}pre{overflow:auto;padding:1rem;\
border:1px solid #8886;border-radius:.5rem}";

/// What every answer carries: open to every origin, never kept unless it says so.
pub(crate) fn common(headers: &mut HeaderMap, height: u8) {
    let set: [(HeaderName, &'static str); 3] = [
        (HeaderName::from_static("access-control-allow-origin"), "*"),
        (HeaderName::from_static("access-control-expose-headers"), "X-Mesh-Height, Retry-After"),
        (VARY, "Accept, Content-Type"),
    ];
    for (name, value) in set {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert("x-mesh-height", u16::from(height).into());
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// The answer to a browser that asks what it may ask.
pub(crate) fn preflight() -> Response<Body> {
    let mut response = bare(StatusCode::NO_CONTENT);
    let headers = response.headers_mut();
    let set = [
        ("access-control-allow-methods", "GET, POST, OPTIONS"),
        ("access-control-allow-headers", "Content-Type, Accept, Last-Event-ID, Cache-Control"),
        ("access-control-max-age", "86400"),
    ];
    for (name, value) in set {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// No body.
pub(crate) fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response
}

/// A value as JSON, or as a page that shows the same.
pub(crate) fn show(status: StatusCode, value: &Value, format: Format) -> Response<Body> {
    let (kind, body) = match format {
        Format::Json => ("application/json", value.to_string()),
        Format::Html | Format::Events => ("text/html; charset=utf-8", page(value)),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if format != Format::Json {
        let policy = "default-src 'none'; style-src 'unsafe-inline'";
        headers.insert("content-security-policy", HeaderValue::from_static(policy));
    }
    response
}

/// What went wrong, with the price of another try or with `others` to go to where that helps. Who
/// wanted a stream reads JSON.
pub(crate) fn error(
    error: &Error,
    quoted: Option<&Quote>,
    others: Option<Vec<String>>,
    format: Format,
) -> Response<Body> {
    let format = if format == Format::Events { Format::Json } else { format };
    let (code, status) = error.code();
    let mut value = json!({ "error": code, "message": error.to_string() });
    match error {
        Error::PowTooLow { got, need } => {
            (value["got"], value["need"]) = (json!(got), json!(need));
        }
        Error::SeqTooOld(seq) => value["seq"] = json!(seq),
        Error::DhtNotFound { seq: Some(seq) } => value["seq"] = json!(seq),
        _ => {}
    }
    if let Some(others) = others {
        value["nodes"] = json!(others);
    }
    if let Some(quoted) = quoted {
        value["pow"] = quote(quoted);
    }
    let mut response = show(status, &value, format);
    if let Some(seconds) = error.retry_after_s() {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// A price with the token to pay it with.
pub(crate) fn quote(quote: &Quote) -> Value {
    json!({
        "token": quote.token,
        "height": price::height(quote.work),
        "target": target(quote.work),
        "work": quote.work,
        "expires": quote.expires_s,
    })
}

/// 16 hexadecimal digits.
pub(crate) fn target(work: u64) -> String {
    format!("{:016x}", price::target(work))
}

fn page(value: &Value) -> String {
    let mut fields = String::new();
    for (name, field) in value.as_object().into_iter().flatten() {
        let shown = field.as_str().map_or_else(|| field.to_string(), str::to_owned);
        fields += &format!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(&shown));
    }
    let whole = serde_json::to_string_pretty(value).unwrap_or_default();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Signaling mesh node</title>\
         <style>{STYLE}</style></head>\n<body><h1>Signaling mesh node</h1>\n<dl>\n{fields}</dl>\n\
         <pre>{}</pre>\n<p><a href=\"/\">node</a> · <a href=\"/nodes\">nodes</a> · \
         <a href=\"/ip\">ip</a> · <a href=\"/token\">token</a> · \
         <a href=\"/demo\">demo</a> · <a href=\"/client.js\">client.js</a></p>\n</body></html>\n",
        escape(&whole)
    )
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
