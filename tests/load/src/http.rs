//! HTTP/1.1 requests that were written out beforehand, driven over many connections.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use futures_util::future::try_join_all;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::meter::{Meter, Usage};
use crate::target::Target;

/// How a worker connects.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// One connection for all of its requests.
    KeepAlive,
    /// A connection for each, as today's app does.
    New,
    /// A connection with a full TLS handshake for each, as today's app does through a proxy.
    NewTls,
}

/// Requests to send and how.
pub(crate) struct Plan<'a> {
    pub(crate) mode: Mode,
    pub(crate) connections: usize,
    pub(crate) requests: &'a [Vec<u8>],
    /// Start over when all were sent.
    pub(crate) again: bool,
    pub(crate) limit: Duration,
    /// What every answer's status must be.
    pub(crate) status: u16,
    /// What every body must contain; empty for anything.
    pub(crate) expect: &'a str,
}

/// What became of a [`Plan`].
pub(crate) struct Outcome {
    pub(crate) done: u64,
    pub(crate) usage: Usage,
    /// Microseconds, connecting included.
    pub(crate) latencies: Vec<u32>,
}

/// Writes out a request with a JSON body.
pub(crate) fn post(path: &str, body: &serde_json::Value, mode: Mode) -> Vec<u8> {
    let body = body.to_string();
    let head = "Host: localhost\r\nContent-Type: application/json\r\n";
    if mode == Mode::KeepAlive {
        let length = body.len();
        return format!("POST {path} HTTP/1.1\r\n{head}Content-Length: {length}\r\n\r\n{body}")
            .into();
    }
    // The app's HTTP library never says a length beforehand.
    let chunked = format!("{head}Connection: close\r\nTransfer-Encoding: chunked");
    format!("POST {path} HTTP/1.1\r\n{chunked}\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
        .into()
}

/// Writes out a GET.
pub(crate) fn get(path: &str, mode: Mode) -> Vec<u8> {
    let close = if mode == Mode::KeepAlive { "" } else { "Connection: close\r\n" };
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{close}\r\n").into()
}

/// Sends the plan's requests, each worker its next one when the last is answered.
pub(crate) async fn drive(target: &Target, plan: &Plan<'_>) -> anyhow::Result<Outcome> {
    let mut tls = ClientConfig::clone(&testkit::tls::accept_any());
    tls.resumption = rustls::client::Resumption::disabled();
    let run = Run {
        target,
        plan,
        tls: Arc::new(tls),
        next: Cell::new(0),
        latencies: RefCell::new(Vec::with_capacity(plan.requests.len())),
        end: Instant::now() + plan.limit,
    };
    let meter = Meter::start(target);
    try_join_all((0..plan.connections).map(|nth| run.work(nth))).await?;
    let usage = meter.stop();
    let latencies = run.latencies.into_inner();
    Ok(Outcome { done: latencies.len() as u64, usage, latencies })
}

struct Run<'a> {
    target: &'a Target,
    plan: &'a Plan<'a>,
    tls: Arc<ClientConfig>,
    next: Cell<usize>,
    latencies: RefCell<Vec<u32>>,
    end: Instant,
}

impl Run<'_> {
    async fn work(&self, nth: usize) -> anyhow::Result<()> {
        if self.plan.mode != Mode::KeepAlive {
            return self.work_on_new_connections(nth).await;
        }
        let mut connection = Connection::new(self.target.connect(nth).await?);
        while let Some(request) = self.take() {
            let started = Instant::now();
            self.exchange(&mut connection, request).await?;
            self.note(started);
        }
        Ok(())
    }

    async fn work_on_new_connections(&self, mut nth: usize) -> anyhow::Result<()> {
        while let Some(request) = self.take() {
            let started = Instant::now();
            nth += self.plan.connections;
            let stream = self.target.connect(nth).await?;
            if self.plan.mode == Mode::NewTls {
                let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
                let name = self.target.target.ip().into();
                let stream = connector.connect(name, stream).await.context("TLS handshake")?;
                self.exchange(&mut Connection::new(stream), request).await?;
            } else {
                self.exchange(&mut Connection::new(stream), request).await?;
            }
            self.note(started);
        }
        Ok(())
    }

    async fn exchange<S>(
        &self,
        connection: &mut Connection<S>,
        request: &[u8],
    ) -> anyhow::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (status, body) = connection.exchange(request).await?;
        let expect = self.plan.expect.as_bytes();
        let fits = expect.is_empty() || body.windows(expect.len()).any(|part| part == expect);
        ensure!(status == self.plan.status && fits, "{status}: {}", String::from_utf8_lossy(body));
        Ok(())
    }

    fn take(&self) -> Option<&[u8]> {
        let nth = self.next.get();
        self.next.set(nth + 1);
        if Instant::now() >= self.end {
            return None;
        }
        let requests = self.plan.requests;
        if self.plan.again { requests.get(nth % requests.len()) } else { requests.get(nth) }
            .map(Vec::as_slice)
    }

    fn note(&self, started: Instant) {
        let took = started.elapsed().as_micros().try_into().unwrap_or(u32::MAX);
        self.latencies.borrow_mut().push(took);
    }
}

/// One connection and what was read from it but belongs to the next answer.
pub(crate) struct Connection<S> {
    stream: S,
    buffer: Vec<u8>,
    answered: usize,
}

/// The start of an answer.
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Bytes of the head itself.
    pub(crate) length: usize,
    /// Bytes of the body; `None` when it comes in chunks.
    pub(crate) content: Option<usize>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::with_capacity(1024), answered: 0 }
    }

    /// Sends a request and reads the whole answer: its status and its body as it is on the wire.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<(u16, &[u8])> {
        self.stream.write_all(request).await?;
        let head = self.head().await?;
        let end = match head.content {
            Some(content) => head.length + content,
            None => usize::MAX,
        };
        while self.buffer.len() < end
            && !(end == usize::MAX && self.buffer.ends_with(b"\r\n0\r\n\r\n"))
        {
            self.read().await?;
        }
        self.answered = self.buffer.len().min(end);
        Ok((head.status, &self.buffer[head.length..self.answered]))
    }

    /// Sends a request and reads the head of its answer; the body is left to
    /// [`Connection::body_part`].
    pub(crate) async fn start(&mut self, request: &[u8]) -> anyhow::Result<Head> {
        self.stream.write_all(request).await?;
        let head = self.head().await?;
        self.answered = head.length;
        Ok(head)
    }

    /// The next bytes of a body begun with [`Connection::start`], at most `most` of them.
    pub(crate) async fn body_part(&mut self, most: usize) -> anyhow::Result<&[u8]> {
        if self.answered == self.buffer.len() {
            self.buffer.clear();
            self.answered = 0;
            self.read().await?;
        }
        let from = self.answered;
        self.answered = self.buffer.len().min(from.saturating_add(most));
        Ok(&self.buffer[from..self.answered])
    }

    async fn head(&mut self) -> anyhow::Result<Head> {
        self.buffer.drain(..self.answered);
        self.answered = 0;
        loop {
            if let Some(head) = parse_head(&self.buffer)? {
                return Ok(head);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        if self.buffer.capacity() - self.buffer.len() < 4096 {
            self.buffer.reserve(64 * 1024);
        }
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("closed in the middle of an answer: {}", String::from_utf8_lossy(&self.buffer));
        }
        Ok(())
    }
}

fn parse_head(bytes: &[u8]) -> anyhow::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut answer = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = answer.parse(bytes)? else { return Ok(None) };
    let status = answer.code.context("a whole head has a status")?;
    let value = |name: &str| {
        let found = answer.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let content = match (value("content-length"), value("transfer-encoding")) {
        (Some(text), _) => Some(text.parse()?),
        (None, Some(_)) => None,
        (None, None) => Some(0),
    };
    Ok(Some(Head { status, length, content }))
}
