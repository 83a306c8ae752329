//! A WebSocket client that may break every rule.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// A connection with or without TLS.
pub(crate) type Stream = Either<TcpStream, TlsStream<TcpStream>>;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer that RFC 6455 computes for this very key.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What a client sees.
#[derive(Debug, PartialEq)]
pub(crate) enum Event {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close {
        code: u16,
        reason: String,
    },
    /// The connection ended without (or after) a close frame.
    End,
    /// A frame no server should send.
    Strange(u8),
}

/// An open connection.
pub(crate) struct Client {
    stream: Stream,
    buffer: Vec<u8>,
    /// Answers the server's close frame, as an honest client does.
    closes: bool,
    /// Answers pings unseen, as an honest client does.
    pub(crate) pongs: bool,
}

/// A handshake's end: a connection or the status of a refusal, and the answer's head.
pub(crate) struct Opened {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) client: Option<Client>,
}

/// Shakes hands. `headers` come beside the usual ones, or instead of those of the same name.
pub(crate) async fn open(
    address: SocketAddr,
    path: &str,
    headers: &[(String, String)],
    closes: bool,
) -> anyhow::Result<Opened> {
    let stream = TcpStream::connect(address).await.context("connecting")?;
    stream.set_nodelay(true)?;
    open_over(Either::Left(stream), &address.to_string(), path, headers, closes).await
}

/// As [`open`], over a connection that is there.
pub(crate) async fn open_over(
    mut stream: Stream,
    host: &str,
    path: &str,
    headers: &[(String, String)],
    closes: bool,
) -> anyhow::Result<Opened> {
    let mut request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n");
    let usual = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", KEY),
        ("Sec-WebSocket-Version", "13"),
    ];
    let replaced = |name: &str| headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    for (name, value) in usual.into_iter().filter(|(name, _)| !replaced(name)) {
        request += &format!("{name}: {value}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all((request + "\r\n").as_bytes()).await?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut buffer = Vec::new();
    let end = loop {
        if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        let read =
            timeout_at(deadline, stream.read_buf(&mut buffer)).await.context("no answer")??;
        ensure!(read > 0, "the connection ended in the handshake");
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end);
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    if status == 101 && !replaced("Sec-WebSocket-Key") {
        ensure!(head.contains(ACCEPT), "the key is not accepted: {head}");
    }
    let client = Client { stream, buffer, closes, pongs: true };
    Ok(Opened { status, head, client: (status == 101).then_some(client) })
}

impl Client {
    pub(crate) async fn text(&mut self, text: &str) -> anyhow::Result<()> {
        self.frame(0x81, text.as_bytes(), true).await
    }

    /// One frame with any first byte. A connection that is gone swallows it.
    pub(crate) async fn frame(
        &mut self,
        first: u8,
        payload: &[u8],
        masked: bool,
    ) -> anyhow::Result<()> {
        let mut wire = header(first, payload.len() as u64, masked);
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        if masked {
            wire.extend(mask);
            wire.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        } else {
            wire.extend(payload);
        }
        self.stream.write_all(&wire).await.ok();
        Ok(())
    }

    /// Only the header of a frame, promising `length` bytes.
    pub(crate) async fn header_only(&mut self, length: u64) -> anyhow::Result<()> {
        let mut wire = header(0x81, length, true);
        wire.extend([0; 4]);
        self.stream.write_all(&wire).await.ok();
        Ok(())
    }

    pub(crate) async fn close(&mut self, code: u16, reason: &str) -> anyhow::Result<()> {
        self.frame(0x88, &[&code.to_be_bytes(), reason.as_bytes()].concat(), true).await
    }

    /// Resets the connection.
    pub(crate) fn abort(self) -> anyhow::Result<()> {
        match &self.stream {
            Either::Left(stream) => stream.set_zero_linger()?,
            Either::Right(stream) => stream.get_ref().0.set_zero_linger()?,
        }
        Ok(())
    }

    /// The next thing to see; `None` when nothing comes in time. Pings are answered unseen.
    pub(crate) async fn next(&mut self, deadline: Instant) -> anyhow::Result<Option<Event>> {
        loop {
            if let Some((first, payload)) = self.take_frame()? {
                match first & 0x0f {
                    1 => return Ok(Some(Event::Text(payload))),
                    8 => return self.closed(&payload).await.map(Some),
                    2 => return Ok(Some(Event::Binary(payload))),
                    9 if self.pongs => self.frame(0x8a, &payload, true).await?,
                    9 => return Ok(Some(Event::Ping(payload))),
                    10 => return Ok(Some(Event::Pong(payload))),
                    _ => return Ok(Some(Event::Strange(first))),
                }
                continue;
            }
            match timeout_at(deadline, self.stream.read_buf(&mut self.buffer)).await {
                Err(_) => return Ok(None),
                Ok(Ok(0) | Err(_)) => return Ok(Some(Event::End)),
                Ok(Ok(_)) => {}
            }
        }
    }

    async fn closed(&mut self, payload: &[u8]) -> anyhow::Result<Event> {
        if self.closes {
            self.frame(0x88, payload, true).await?;
        }
        Ok(match payload {
            [high, low, reason @ ..] => Event::Close {
                code: u16::from_be_bytes([*high, *low]),
                reason: String::from_utf8_lossy(reason).into_owned(),
            },
            // What RFC 6455 lets a close without a code stand for.
            _ => Event::Close { code: 1005, reason: String::new() },
        })
    }

    fn take_frame(&mut self) -> anyhow::Result<Option<(u8, Vec<u8>)>> {
        let [first, second, rest @ ..] = self.buffer.as_slice() else { return Ok(None) };
        if second & 0x80 != 0 || first & 0x70 != 0 || first & 0x80 == 0 {
            bail!(
                "a server's frames are whole, unmasked and without extensions: {first:x} {second:x}"
            );
        }
        let (length, start) = match (second & 0x7f, rest) {
            (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 4),
            (127, [a, b, c, d, e, f, g, h, ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 10)
            }
            (126 | 127, _) => return Ok(None),
            (short, _) => (u64::from(short), 2),
        };
        let end = start + usize::try_from(length)?;
        let first = *first;
        if self.buffer.len() < end {
            return Ok(None);
        }
        let payload = self.buffer[start..end].to_vec();
        self.buffer.drain(..end);
        Ok(Some((first, payload)))
    }
}

/// The bytes before the mask.
pub(crate) fn header(first: u8, length: u64, masked: bool) -> Vec<u8> {
    let mask = if masked { 0x80 } else { 0 };
    let mut wire = vec![first];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ 0..126), _) => wire.push(mask | length),
        (_, Ok(length)) => {
            wire.push(mask | 126);
            wire.extend(length.to_be_bytes());
        }
        _ => {
            wire.push(mask | 127);
            wire.extend(length.to_be_bytes());
        }
    }
    wire
}
