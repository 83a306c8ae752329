//! From an accepted connection to a pump: which of the protocols it speaks, and its handshake.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
};

use bytes::{Buf, BytesMut};
use edge::{Accepted, Body, Client as Peer, Listener, Stream, ws};
use futures_util::{FutureExt, future::OptionFuture};
use http::{HeaderValue, Request, Response, header::UPGRADE};
use hyper::body::Incoming;
use prometheus::IntGauge;
use proto::pad::cipher::{HANDSHAKE_BYTES, HANDSHAKE_HEADER, Nonces, Secret};
use service::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{
    Gate, PacketArgs, Service, Wire,
    args::Limits,
    metrics::Metrics,
    pump::{Session, pump},
    sockets::Sockets,
    wire::Codec,
};

/// What all connections of a service share.
pub(crate) struct Common {
    pub(crate) limits: Arc<Limits>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) sockets: Sockets,
    /// Connections that are open, by generation.
    pub(crate) open: [IntGauge; 2],
}

impl Common {
    /// For connections between processes: nobody is waited for there but the clients behind.
    pub(crate) fn between_siblings(&self) -> Self {
        let metrics = self.metrics.clone();
        let open = [metrics.siblings.clone(), metrics.siblings.clone()];
        let limits = Arc::new(self.limits.between_siblings());
        Self { limits, metrics, gate: self.gate.clone(), sockets: Sockets::default(), open }
    }
}

/// Serves both generations, and HTTP, on one port.
#[derive(Clone)]
pub struct Packets(Arc<Common>);

impl Packets {
    /// Reads the key and registers the metrics.
    ///
    /// # Errors
    /// When the key cannot be read, or this is the second in one process.
    pub fn new(args: &PacketArgs, cx: &Context) -> anyhow::Result<Self> {
        let metrics = Metrics::register(&cx.metrics)?;
        let gate = Arc::new(Gate::load(args, cx, metrics.clone())?);
        let limits = Arc::new(Limits::of(args));
        let open = metrics.open.clone();
        Ok(Self(Arc::new(Common { limits, metrics, gate, sockets: Sockets::default(), open })))
    }

    /// What checks certificates, for HTTP requests that carry one.
    pub fn gate(&self) -> &Gate {
        &self.0.gate
    }

    pub(crate) fn common(&self) -> &Common {
        &self.0
    }

    /// Accepts connections until asked to drain; then closes them over the first half of the
    /// grace.
    ///
    /// # Errors
    /// None today; what goes wrong with one connection ends that connection.
    pub async fn serve<S: Service>(
        &self,
        mut listener: Listener,
        service: S,
        cx: &Context,
    ) -> anyhow::Result<()> {
        loop {
            let next = cx.stop.draining().run_until_cancelled(listener.accept()).await;
            let Some(accepted) = next else { break };
            let port = Port { service: service.clone(), common: self.0.clone(), cx: cx.clone() };
            cx.spawn("connection", connection(accepted, port));
        }
        self.0.sockets.drain();
        Ok(())
    }
}

/// What a connection needs until its protocol is known; then the HTTP service.
#[derive(Clone)]
struct Port<S> {
    service: S,
    common: Arc<Common>,
    cx: Context,
}

async fn connection<S: Service>(accepted: Accepted, port: Port<S>) {
    let (edge_port, stop) = (accepted.port(), port.cx.stop.clone());
    let limit = edge_port.header_timeout();
    let opening = async {
        let (stream, peer) = accepted.establish().await.ok()?;
        let mut first = [0];
        let looked = timeout(limit, stream.peek(&mut first)).await.ok()?.ok()?;
        // What is inside TLS is HTTP.
        let first = match looked {
            Some(0) => return None,
            Some(_) => first[0],
            None => b'G',
        };
        Some((stream, peer, first))
    };
    let Some(opened) = stop.draining().run_until_cancelled(opening).await.flatten() else { return };
    let (mut stream, peer, first) = opened;
    if first == HANDSHAKE_HEADER[0] {
        let shaking = timeout(limit, shake_hands(&mut stream));
        let shaken = stop.draining().run_until_cancelled(shaking).await;
        let Some(Ok(Ok(codec))) = shaken else {
            port.common.metrics.handshakes_failed.inc();
            return;
        };
        let Port { service, common, cx } = port;
        // In a task of its own: this one has room for an HTTP connection.
        let session = Session::new(service, codec.wire(), peer, common);
        cx.spawn("encrypted", pump(stream, codec, session, &cx));
    } else if first.is_ascii_alphabetic() {
        edge::serve_connection(stream, peer, port, edge_port, stop).await;
    } else {
        port.common.metrics.strangers.inc();
        dismiss(&mut stream).await;
    }
}

/// The handshake of generation B.
async fn shake_hands(stream: &mut Stream) -> io::Result<Codec> {
    let mut buffer = BytesMut::with_capacity(HANDSHAKE_BYTES);
    let hello = loop {
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !HANDSHAKE_HEADER.starts_with(&buffer[..buffer.len().min(2)]) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if let Some(hello) = buffer.first_chunk::<HANDSHAKE_BYTES>() {
            break *hello;
        }
    };
    buffer.advance(HANDSHAKE_BYTES);
    let (mut secret, mut start) = ([0; 32], [0; 16]);
    getrandom::fill(&mut secret)
        .and_then(|()| getrandom::fill(&mut start))
        .map_err(io::Error::other)?;
    let secret = Secret::new(secret);
    let answer = secret.hello();
    let key = secret.agree(&hello).map_err(io::Error::other)?;
    stream.write_all(&answer).await?;
    let early = if buffer.is_empty() { BytesMut::new() } else { buffer };
    Ok(Codec::encrypted(key, Nonces::new(start), early))
}

/// Reads what is there, so that closing does not look like a broken connection.
async fn dismiss(stream: &mut Stream) {
    let mut unread = [0; 1024];
    let _ = stream.read(&mut unread).await; // it is closed either way
    let _ = stream.shutdown().await;
}

impl<S: Service> Port<S> {
    fn upgrade(&self, request: Request<Incoming>) -> Response<Body> {
        let Some(peer) = request.extensions().get::<Peer>().copied() else {
            let mut refusal = Response::new(Body::Empty);
            *refusal.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            return refusal;
        };
        let (answer, upgrading) = match ws::upgrade_to(request, S::SUBPROTOCOL) {
            Ok(accepted) => accepted,
            Err(refusal) => return refusal,
        };
        let Self { service, common, cx } = self.clone();
        let spawner = self.cx.clone();
        // Not an async block: what only the upgrade needs would keep its room beside the pump.
        let running = upgrading.socket().then(move |socket| {
            let running = socket.ok().map(|socket| {
                let (stream, early) = socket.into_parts();
                let session = Session::new(service, Wire::WebSocket, peer, common);
                pump(stream, Codec::websocket(early), session, &cx)
            });
            OptionFuture::from(running).map(drop)
        });
        spawner.spawn("websocket", running);
        answer
    }
}

impl<S: Service> tower::Service<Request<Incoming>> for Port<S> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        // Others, such as h2c, are offers that may be left alone.
        let wanted = request.headers().get(UPGRADE).map(HeaderValue::as_bytes);
        if wanted.is_some_and(|wanted| wanted.eq_ignore_ascii_case(b"websocket")) {
            let answer = self.upgrade(request);
            return Box::pin(std::future::ready(Ok(answer)));
        }
        let service = self.service.clone();
        Box::pin(async move { Ok(service.http(request).await) })
    }
}
