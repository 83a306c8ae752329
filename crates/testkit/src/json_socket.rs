//! A WebSocket whose messages are JSON, and which forgets none of them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};

/// How long an expected frame may take; generous, because tests share a machine.
pub const FRAME_WITHIN: Duration = Duration::from_secs(10);

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// One WebSocket. Frames that a call was not waiting for are kept, in order, for later calls.
pub struct JsonSocket {
    socket: WebSocketStream<Box<dyn Stream>>,
    kept: VecDeque<Value>,
}

impl std::fmt::Debug for JsonSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JsonSocket").field("kept", &self.kept).finish_non_exhaustive()
    }
}

/// What came of an attempt to open one.
#[derive(Debug)]
pub enum Opened {
    /// It is open.
    Socket(Box<JsonSocket>),
    /// The server answered without an upgrade.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The whole body.
        body: String,
    },
}

impl JsonSocket {
    /// Opens one at `path` (with its query) without TLS.
    pub async fn plain(address: SocketAddr, path: &str) -> anyhow::Result<Self> {
        match Self::attempt(address, path).await? {
            Opened::Socket(socket) => Ok(*socket),
            Opened::Refused { status, body } => bail!("{path} is refused: {status} {body}"),
        }
    }

    /// Opens one at `path` with TLS and accepts any certificate.
    pub async fn tls(address: SocketAddr, path: &str) -> anyhow::Result<Self> {
        let connector = tokio_rustls::TlsConnector::from(crate::tls::accept_any());
        let stream = TcpStream::connect(address).await?;
        let stream = Box::new(connector.connect(address.ip().into(), stream).await?);
        match Self::over(stream, address, path).await? {
            Opened::Socket(socket) => Ok(*socket),
            Opened::Refused { status, body } => bail!("{path} is refused: {status} {body}"),
        }
    }

    /// Tries to open one at `path` without TLS; a refusal is no error.
    pub async fn attempt(address: SocketAddr, path: &str) -> anyhow::Result<Opened> {
        Self::over(Box::new(TcpStream::connect(address).await?), address, path).await
    }

    async fn over(
        stream: Box<dyn Stream>,
        address: SocketAddr,
        path: &str,
    ) -> anyhow::Result<Opened> {
        let request = format!("ws://{address}{path}").into_client_request()?;
        match tokio_tungstenite::client_async(request, stream).await {
            Ok((socket, _)) => Ok(Opened::Socket(Box::new(Self { socket, kept: VecDeque::new() }))),
            Err(Error::Http(answer)) => {
                let body = answer.body().as_deref().unwrap_or_default();
                let body = String::from_utf8_lossy(body).into_owned();
                Ok(Opened::Refused { status: answer.status().as_u16(), body })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Sends `value` as text.
    pub async fn send(&mut self, value: &Value) -> anyhow::Result<()> {
        self.send_text(value.to_string()).await
    }

    /// Sends a text message as it is.
    pub async fn send_text(&mut self, text: impl Into<String>) -> anyhow::Result<()> {
        Ok(self.socket.send(Message::text(text.into())).await?)
    }

    /// Sends a binary message.
    pub async fn send_binary(&mut self, bytes: impl Into<Vec<u8>>) -> anyhow::Result<()> {
        Ok(self.socket.send(Message::binary(bytes.into())).await?)
    }

    /// The oldest frame, kept or yet to come.
    pub async fn next(&mut self) -> anyhow::Result<Value> {
        self.wait_for(|_| true).await
    }

    /// The oldest frame, kept or yet to come, that `wanted` accepts; others stay kept.
    pub async fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        self.wait_for_within(FRAME_WITHIN, wanted).await
    }

    /// As [`JsonSocket::wait_for`], for at most `limit`.
    pub async fn wait_for_within(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        if let Some(at) = self.kept.iter().position(&wanted) {
            return self.kept.remove(at).context("found just now");
        }
        let end = Instant::now() + limit;
        loop {
            let Ok(next) = timeout_at(end, self.socket.next()).await else {
                bail!("nothing of the kind within {limit:?}; kept: {:?}", self.kept);
            };
            match next.context("the connection ended")?? {
                Message::Text(text) => {
                    let frame: Value = serde_json::from_str(&text)?;
                    if wanted(&frame) {
                        return Ok(frame);
                    }
                    self.kept.push_back(frame);
                }
                Message::Close(close) => bail!("the server closed: {close:?}"),
                _ => {}
            }
        }
    }

    /// Takes all frames that are kept and all that come within `limit`: for asserting that
    /// something does not come.
    pub async fn frames_within(&mut self, limit: Duration) -> Vec<Value> {
        // Fails at the deadline or at the end of the connection, whichever is first.
        let _ = self.wait_for_within(limit, |_| false).await;
        self.kept.drain(..).collect()
    }

    /// As [`JsonSocket::frames_within`]; and whether the connection is still open.
    pub async fn read_within(&mut self, limit: Duration) -> (Vec<Value>, bool) {
        let end = Instant::now() + limit;
        let open = loop {
            match timeout_at(end, self.socket.next()).await {
                Err(_) => break true,
                Ok(Some(Ok(Message::Text(text)))) => {
                    self.kept.extend(serde_json::from_str::<Value>(&text));
                }
                Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => break false,
                Ok(Some(Ok(_))) => {}
            }
        };
        (self.kept.drain(..).collect(), open)
    }

    /// Waits until the server closes: the code and reason, or 1006 when it just hung up.
    pub async fn closed(&mut self) -> anyhow::Result<(u16, String)> {
        let end = Instant::now() + FRAME_WITHIN;
        loop {
            match timeout_at(end, self.socket.next()).await.context("not closed in time")? {
                Some(Ok(Message::Close(Some(close)))) => {
                    return Ok((close.code.into(), close.reason.to_string()));
                }
                Some(Ok(Message::Close(None))) => return Ok((1005, String::new())),
                Some(Ok(Message::Text(text))) => self.kept.push_back(serde_json::from_str(&text)?),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Ok((1006, String::new())),
            }
        }
    }

    /// Closes in order and waits for the server's close.
    pub async fn close(mut self) -> anyhow::Result<()> {
        self.socket.close(None).await?;
        while let Some(Ok(_)) = self.socket.next().await {}
        Ok(())
    }
}
