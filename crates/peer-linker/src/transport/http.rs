//! Plain HTTP: a page for people, and pads for programs that speak nothing else.
//!
//! ```text
//! PUT /pad/NAME   the body goes to whoever does GET; answered when that one has all of it
//! GET /pad/NAME   the body of the PUT, as it comes
//! ```
//! Either may come first. A body that was not sent to its end is cut off without the end that
//! HTTP requires, so that no client takes it for whole.

pub(super) mod forward;

use bytes::Bytes;
use edge::Body;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::domain::{
    meter::{Meter, Payer},
    transfers::{Failed, Row, Transfers},
};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const BYTES: HeaderValue = HeaderValue::from_static("application/octet-stream");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// Seconds after which a refused client may try again.
const RETRY_AFTER_S: u64 = 5;

/// What is at every path but the pads'.
const PAGE: &str = "peer-linker\n\
    WebSocket clients connect here with the subprotocol peer-linker.\n\
    PUT /pad/NAME sends to whoever does GET /pad/NAME.\n";

/// The pad a path names, if it names one; `Err` when the name cannot be read.
pub(crate) fn pad(path: &str) -> Option<Result<Vec<u8>, StatusCode>> {
    let segment = path.strip_prefix("/pad/")?;
    let name = proto::query::path_segment(segment).filter(|name| !name.is_empty());
    Some(name.map(|name| name.into_bytes().into_owned()).ok_or(StatusCode::BAD_REQUEST))
}

/// The page, for every method and path as in the original.
pub(crate) fn page() -> Response<Body> {
    say(StatusCode::OK, PAGE)
}

/// A status with a line of text.
pub(crate) fn say(status: StatusCode, text: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, TEXT);
    headers.insert(CACHE_CONTROL, NO_STORE);
    response
}

/// For who shows no certificate, or none that is accepted.
pub(crate) fn unauthorized() -> Response<Body> {
    let mut refusal = say(
        StatusCode::UNAUTHORIZED,
        "Authorization: Bearer and the certificate in base64 are needed\n",
    );
    refusal.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    refusal
}

/// One side of a transfer through the pad `name`.
pub(crate) async fn transfer(
    request: Request<Incoming>,
    name: &[u8],
    (transfers, meter): (&Transfers, &Meter),
    payer: Option<&Payer>,
    row: Option<Row>,
) -> Response<Body> {
    match *request.method() {
        Method::GET => read(transfers, name, row).await,
        Method::PUT => {
            let moved = send(request, name, transfers, meter, payer).await;
            drop(row);
            moved
                .map_or_else(refuse, |bytes| say(StatusCode::OK, format!("{bytes} bytes passed\n")))
        }
        _ => not_allowed(),
    }
}

/// Whether a request of that method is one side of a transfer.
pub(crate) fn moves(method: &Method) -> bool {
    [Method::GET, Method::PUT].contains(method)
}

/// For every other method.
pub(crate) fn not_allowed() -> Response<Body> {
    let mut refusal = say(StatusCode::METHOD_NOT_ALLOWED, "GET or PUT\n");
    refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, PUT"));
    refusal
}

async fn read(transfers: &Transfers, name: &[u8], row: Option<Row>) -> Response<Body> {
    let mut reading = match transfers.read(name).await {
        Ok(reading) => reading,
        Err(why) => return refuse(why.into()),
    };
    reading.keep(row);
    let announced = reading.announced();
    let mut response = Response::new(Body::stream(reading));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, BYTES);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, NO_STORE);
    if let Some(bytes) = announced {
        headers.insert(CONTENT_LENGTH, bytes.into());
    }
    response
}

/// For a pad that another process has, or had a moment ago.
pub(crate) fn gone() -> Response<Body> {
    let mut response = say(StatusCode::SERVICE_UNAVAILABLE, "the other side has just left\n");
    response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_S.into());
    response
}

/// Why a PUT did not end well.
#[derive(Clone, Copy, Debug)]
enum Broken {
    Failed(Failed),
    /// The sender's own connection broke, or it sent nothing for too long.
    Sender,
}

impl From<Failed> for Broken {
    fn from(why: Failed) -> Self {
        Self::Failed(why)
    }
}

async fn send(
    request: Request<Incoming>,
    name: &[u8],
    transfers: &Transfers,
    meter: &Meter,
    payer: Option<&Payer>,
) -> Result<u64, Broken> {
    let announced = hyper::body::Body::size_hint(request.body()).exact();
    let sending = transfers.send(name, announced).await?;
    // Nothing of the body is asked for before somebody reads it: a client that waits for
    // `100 Continue` waits for the reader.
    let mut body = request.into_body();
    let mut moved = 0;
    let ended = async {
        while let Some(chunk) = next(&mut body, sending.stall()).await? {
            if let Some(payer) = payer {
                meter.spend(payer, chunk.len()).await;
            }
            moved += chunk.len() as u64;
            sending.push(chunk).await?;
        }
        sending.finish().await?;
        Ok(())
    };
    let ended = ended.await;
    transfers.count(ended.is_ok());
    ended.map(|()| moved)
}

async fn next(body: &mut Incoming, stall: std::time::Duration) -> Result<Option<Bytes>, Broken> {
    loop {
        let Ok(frame) = timeout(stall, body.frame()).await else { return Err(Broken::Sender) };
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(Broken::Sender),
            Some(Ok(frame)) => {
                // Trailers are not passed on.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// Says why a transfer did not end well.
fn refuse(why: Broken) -> Response<Body> {
    let (status, text) = match why {
        Broken::Failed(Failed::Taken) => (StatusCode::CONFLICT, "this pad is in use\n"),
        Broken::Failed(Failed::Full) => (StatusCode::SERVICE_UNAVAILABLE, "too many pads\n"),
        Broken::Failed(Failed::Stopping) => (StatusCode::SERVICE_UNAVAILABLE, "restarting\n"),
        Broken::Failed(Failed::Unmet) => (StatusCode::GATEWAY_TIMEOUT, "nobody came\n"),
        Broken::Failed(Failed::Left) => (StatusCode::BAD_GATEWAY, "the reader left\n"),
        Broken::Failed(Failed::Stalled) => (StatusCode::GATEWAY_TIMEOUT, "the reader stalled\n"),
        Broken::Sender => (StatusCode::REQUEST_TIMEOUT, "the body did not arrive\n"),
    };
    let mut response = say(status, text);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_S.into());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_pad_or_none() {
        assert_eq!(pad("/"), None);
        assert_eq!(pad("/pads/x"), None);
        assert_eq!(pad("/pad/a%20b"), Some(Ok(b"a b".to_vec())));
        for wrong in ["/pad/", "/pad/%", "/pad/%ff"] {
            assert_eq!(pad(wrong), Some(Err(StatusCode::BAD_REQUEST)), "{wrong}");
        }
    }
}
