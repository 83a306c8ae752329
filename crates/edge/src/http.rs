//! HTTP/1.1 over hyper: one task per connection, deadlines for heads and pauses, a clean drain.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context as Task, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::rt::TokioIo;
use service::Context;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};
use tower::Service;

use crate::{
    body::{Body, BoxError},
    client::Client,
    establish::Accepted,
    listener::{Listener, Shared},
    raw::Handover,
    stream::Stream,
};

/// Longest request head; more is answered 431, like the originals do.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Most hyper buffers of one connection, body bytes included.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// Serves HTTP/1.1 with upgrades until asked to drain, then lets requests in flight finish.
///
/// Every request carries its [`Client`] in its extensions. The service is cloned per
/// request and must always be ready.
///
/// # Errors
/// None today; what goes wrong with one connection ends that connection.
pub async fn serve<S>(mut listener: Listener, service: S, cx: &Context) -> anyhow::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    loop {
        let next = cx.stop.draining().run_until_cancelled(listener.accept()).await;
        let Some(accepted) = next else { break };
        let (service, stop) = (service.clone(), cx.stop.clone());
        cx.spawn("http", connection(accepted, service, stop));
    }
    listener.shared().sockets.drain();
    Ok(())
}

async fn connection<S>(accepted: Accepted, service: S, stop: service::Stop)
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let port = accepted.port();
    let established = stop.draining().run_until_cancelled(accepted.establish()).await;
    let Some(Ok((stream, client))) = established else { return };
    serve_connection(stream, client, service, port, stop).await;
}

/// Serves HTTP/1.1 on one established connection of `port`, as [`serve`] does on each; for ports
/// that carry other protocols too.
pub async fn serve_connection<S>(
    stream: Stream,
    client: Client,
    service: S,
    Port(shared): Port,
    stop: service::Stop,
) where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let pace = Arc::new(Pace::begin());
    let handler = Handler { service, client, shared: shared.clone(), pace: pace.clone() };
    let watched = TokioIo::new(Watched { stream: Some(stream), pace: pace.clone() });
    let mut builder = http1::Builder::new();
    builder
        .header_read_timeout(None)
        .max_buf_size(MAX_BUFFER_BYTES)
        .max_header_size(MAX_HEAD_BYTES)
        .half_close(true);
    let mut conn = pin!(builder.serve_connection(watched, handler).with_upgrades());
    let mut draining = pin!(stop.draining().cancelled());
    let mut drained = false;
    let mut timer = pin!(tokio::time::sleep(shared.header_timeout));
    poll_fn(|task| {
        if !drained && draining.as_mut().poll(task).is_ready() {
            drained = true;
            conn.as_mut().graceful_shutdown();
        }
        let over = conn.as_mut().poll(task).is_ready() || pace.is_handed_over();
        if over || (drained && stop.killed().is_cancelled()) {
            return Poll::Ready(());
        }
        while timer.as_mut().poll(task).is_ready() {
            match pace.deadline(&shared) {
                Some(deadline) if deadline <= Instant::now() => {
                    pace.count_timeout(&shared);
                    return Poll::Ready(());
                }
                deadline => {
                    let recheck =
                        Instant::now() + shared.header_timeout.min(shared.keep_alive_timeout);
                    timer.as_mut().reset(deadline.unwrap_or(recheck));
                }
            }
        }
        Poll::Pending
    })
    .await;
}

/// What a connection is doing, since when. The timer asks; nothing is reset per request.
///
/// One word: milliseconds since `epoch`, then two bits of phase.
struct Pace {
    epoch: Instant,
    word: AtomicU64,
    handover: Handover,
}

const IDLE: u64 = 0;
const HEAD: u64 = 1;
const BUSY: u64 = 2;
/// The connection is to leave HTTP.
const LEAVING: u64 = 3;

impl Pace {
    /// A fresh connection owes us a request head.
    fn begin() -> Self {
        let handover = Handover::default();
        Self { epoch: Instant::now(), word: AtomicU64::new(HEAD), handover }
    }

    fn enter(&self, phase: u64) {
        let since_ms = u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX >> 2);
        self.word.store(since_ms << 2 | phase, Ordering::Relaxed);
    }

    fn phase(&self) -> u64 {
        self.word.load(Ordering::Relaxed) & 3
    }

    fn is_handed_over(&self) -> bool {
        self.phase() == LEAVING && !self.handover.is_due()
    }

    /// When the present phase has lasted too long; `None` while a request is being answered.
    fn deadline(&self, shared: &Shared) -> Option<Instant> {
        let word = self.word.load(Ordering::Relaxed);
        let since = self.epoch + Duration::from_millis(word >> 2);
        match word & 3 {
            IDLE => Some(since + shared.keep_alive_timeout),
            HEAD => Some(since + shared.header_timeout),
            _ => None,
        }
    }

    fn count_timeout(&self, shared: &Shared) {
        if self.phase() == HEAD {
            shared.metrics.head_timeouts.inc();
        }
    }
}

/// The stream hyper reads; notices the first byte of a request head.
pub(crate) struct Watched {
    /// Nothing once it has left HTTP.
    stream: Option<Stream>,
    pace: Arc<Pace>,
}

impl Watched {
    pub(crate) fn into_stream(self) -> io::Result<Stream> {
        self.stream.ok_or_else(gone)
    }

    fn stream(&mut self) -> io::Result<Pin<&mut Stream>> {
        self.stream.as_mut().map(Pin::new).ok_or_else(gone)
    }
}

fn gone() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Task<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.stream()?.poll_read(cx, buffer))?;
        if this.pace.phase() == IDLE {
            this.pace.enter(HEAD);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Task<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().stream()?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Task<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().stream()?.poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.stream()?.poll_flush(cx))?;
        // hyper flushes when it has written all it had.
        if this.pace.phase() == LEAVING
            && let Some(stream) = this.stream.take()
        {
            this.pace.handover.give(stream);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream()?.poll_shutdown(cx)
    }
}

/// hyper's view of the service.
struct Handler<S> {
    service: S,
    client: Client,
    shared: Arc<Shared>,
    pace: Arc<Pace>,
}

impl<S> hyper::service::Service<Request<Incoming>> for Handler<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible> + Clone,
{
    type Response = Response<Paced>;
    type Error = Infallible;
    type Future = Answering<S::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.pace.enter(BUSY);
        self.shared.metrics.requests.inc();
        let client = self.client.behind(request.headers(), &self.shared.trusted);
        let extensions = request.extensions_mut();
        extensions.insert(client);
        if request.headers().contains_key(http::header::UPGRADE) {
            request.extensions_mut().insert(Port(self.shared.clone()));
        }
        Answering { answer: self.service.clone().call(request), pace: Some(self.pace.clone()) }
    }
}

/// What belongs to one public port. Requests to upgrade carry it, for [`crate::ws::upgrade`].
#[derive(Clone)]
pub struct Port(pub(crate) Arc<Shared>);

impl Port {
    /// Time a client has for its PROXY header, TLS handshake and for each request's head.
    pub fn header_timeout(&self) -> Duration {
        self.0.header_timeout
    }
}

pin_project_lite::pin_project! {
    /// The service's future; hands the pace on to the body.
    struct Answering<F> {
        #[pin]
        answer: F,
        pace: Option<Arc<Pace>>,
    }
}

impl<F> Future for Answering<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = Result<Response<Paced>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Task<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.pace.is_none() {
            return Poll::Pending; // the answer is not HTTP's to send
        }
        let Ok(response) = ready!(this.answer.poll(cx));
        let pace = this.pace.take();
        let (head, body) = response.into_parts();
        match (body, &pace) {
            (Body::Raw(waiting), Some(pace)) => {
                pace.handover.ask(Response::from_parts(head, ()), waiting);
                pace.enter(LEAVING);
                Poll::Pending
            }
            (body, _) => Poll::Ready(Ok(Response::from_parts(head, Paced { body, pace }))),
        }
    }
}

/// A response body that tells when hyper is done with it.
struct Paced {
    body: Body,
    pace: Option<Arc<Pace>>,
}

impl Drop for Paced {
    fn drop(&mut self) {
        if let Some(pace) = &self.pace {
            pace.enter(IDLE);
        }
    }
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
