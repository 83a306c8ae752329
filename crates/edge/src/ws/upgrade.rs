//! The opening handshake (RFC 6455, section 4.2).

use std::{io, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::BytesMut;
use futures_util::{FutureExt, future::OptionFuture};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
        SEC_WEBSOCKET_VERSION, UPGRADE,
    },
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};

use service::Context;

use super::{Limits, Outbox, Session, pump};
use crate::{
    body::Body,
    http::{Port, Watched},
    listener::Shared,
    stream::Stream,
};

/// The constant every accept key is made with.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A handshake that was accepted; becomes the socket once the answer is sent.
pub struct Upgrading {
    on: OnUpgrade,
    port: Arc<Shared>,
}

/// An open WebSocket, to be given to [`super::pump()`].
pub struct Socket {
    pub(super) stream: Stream,
    /// What the client sent right behind its handshake.
    pub(super) early: BytesMut,
    pub(super) port: Arc<Shared>,
}

impl Socket {
    /// The connection, and what the client sent right behind its handshake; for pumps of a
    /// service's own.
    pub fn into_parts(self) -> (Stream, BytesMut) {
        (self.stream, self.early)
    }
}

/// Checks the handshake. Gives the 101 answer and the socket-to-be, or the refusal.
///
/// Takes versions 13 and 8, echoes the first subprotocol offered, declines every extension.
/// The request has to come from [`crate::serve`].
///
/// # Errors
/// The refusal to send: 426 when this is no WebSocket handshake at all, 405 for another method
/// than GET, 400 for a bad key, version or subprotocol list.
#[expect(clippy::result_large_err, reason = "both sides are a response that is sent at once")]
pub fn upgrade<B>(request: Request<B>) -> Result<(Response<Body>, Upgrading), Response<Body>> {
    let protocol = match request.headers().get(SEC_WEBSOCKET_PROTOCOL).map(first_protocol) {
        Some(None) => Err(refuse(StatusCode::BAD_REQUEST, "Invalid Sec-WebSocket-Protocol header")),
        offered => Ok(offered.flatten()),
    };
    shake_hands(request, protocol)
}

/// As [`upgrade`], for a service that speaks `protocol` only, compared byte for byte.
///
/// # Errors
/// As [`upgrade`], and 400 when the client does not offer `protocol`.
#[expect(clippy::result_large_err, reason = "both sides are a response that is sent at once")]
pub fn upgrade_to<B>(
    request: Request<B>,
    protocol: &'static str,
) -> Result<(Response<Body>, Upgrading), Response<Body>> {
    let offers = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    let mut offered = offers.flat_map(|list| list.as_bytes().split(|byte| *byte == b','));
    let protocol = match offered.any(|name| name.trim_ascii() == protocol.as_bytes()) {
        true => Ok(Some(HeaderValue::from_static(protocol))),
        false => Err(refuse(StatusCode::BAD_REQUEST, "Unknown subprotocol")),
    };
    shake_hands(request, protocol)
}

#[expect(clippy::result_large_err, reason = "both sides are a response that is sent at once")]
fn shake_hands<B>(
    mut request: Request<B>,
    protocol: Result<Option<HeaderValue>, Response<Body>>,
) -> Result<(Response<Body>, Upgrading), Response<Body>> {
    let headers = request.headers();
    if !names(headers, UPGRADE.as_str(), "websocket") || !names(headers, "connection", "upgrade") {
        let mut refusal = refuse(StatusCode::UPGRADE_REQUIRED, "Upgrade Required");
        refusal.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        return Err(refusal);
    }
    if request.method() != Method::GET {
        return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "Invalid HTTP method"));
    }
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY).filter(|key| is_key(key.as_bytes())) else {
        return Err(refuse(StatusCode::BAD_REQUEST, "Missing or invalid Sec-WebSocket-Key header"));
    };
    let version = headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
    if !matches!(version, Some(b"13" | b"8")) {
        let mut refusal =
            refuse(StatusCode::BAD_REQUEST, "Missing or invalid Sec-WebSocket-Version header");
        let known = HeaderValue::from_static("13, 8");
        refusal.headers_mut().insert(SEC_WEBSOCKET_VERSION, known);
        return Err(refusal);
    }
    let protocol = protocol?;
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let answer = response.headers_mut();
    answer.insert(SEC_WEBSOCKET_ACCEPT, accept(key.as_bytes()));
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Some(protocol) = protocol {
        answer.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    let Some(Port(port)) = request.extensions().get::<Port>() else {
        return Err(refuse(StatusCode::UPGRADE_REQUIRED, "Upgrade Required"));
    };
    let port = port.clone();
    Ok((response, Upgrading { on: hyper::upgrade::on(&mut request), port }))
}

impl Upgrading {
    /// Runs `session` on the socket once the answer is sent, as [`super::pump()`] does, in the
    /// least memory. Made to be spawned; does nothing when the connection ended before.
    pub fn pump<S, F>(
        self,
        limits: Arc<Limits>,
        session: F,
        cx: &Context,
    ) -> impl Future<Output = ()> + use<S, F>
    where
        S: Session,
        F: FnOnce(Outbox) -> S,
    {
        let cx = cx.clone();
        // Not an async block: what only the upgrade needs would keep its room beside the pump.
        self.socket().then(move |socket| {
            let running = socket.ok().map(|socket| pump(socket, limits, session, &cx));
            OptionFuture::from(running).map(drop)
        })
    }

    /// The socket, once the answer is sent. Frees everything HTTP needed.
    ///
    /// # Errors
    /// When the connection ends before the answer is out.
    pub async fn socket(self) -> io::Result<Socket> {
        let upgraded = self.on.await.map_err(io::Error::other)?;
        let parts = upgraded.downcast::<TokioIo<Watched>>().map_err(|_| {
            io::Error::new(io::ErrorKind::Unsupported, "not a connection of edge::serve")
        })?;
        let stream = parts.io.into_inner().into_stream()?;
        // A copy, so that hyper's read buffer is freed.
        Ok(Socket { stream, early: BytesMut::from(&parts.read_buf[..]), port: self.port })
    }
}

fn refuse(status: StatusCode, reason: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(reason));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Whether one of the comma-separated values of `header` is `token`, in any case.
fn names(headers: &HeaderMap, header: &str, token: &str) -> bool {
    let values = headers.get_all(header).iter();
    values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|value| value.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Sixteen bytes in base64.
fn is_key(key: &[u8]) -> bool {
    key.len() == 24
        && key.ends_with(b"==")
        && key[..22].iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

fn accept(key: &[u8]) -> HeaderValue {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    HeaderValue::try_from(STANDARD.encode(digest)).expect("base64 fits a header")
}

/// The first of the subprotocols offered; `None` when the list is not one of tokens.
fn first_protocol(offered: &HeaderValue) -> Option<HeaderValue> {
    let is_token = |name: &[u8]| {
        !name.is_empty()
            && name
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
    };
    let mut names = offered.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let first = names.next().filter(|name| is_token(name))?;
    names.all(is_token).then(|| HeaderValue::from_bytes(first).ok())?
}
