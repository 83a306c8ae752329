//! The two directions of a connection, each generation's own way of carrying packets.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use proto::pad::cipher::{FRAME_HEADER_BYTES, HANDSHAKE_BYTES, Key, Nonces, Secret, split_frame};
use proto::pad::{tcp, ws};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use super::{Packet, Program, linker::PAYLOAD};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

type Socket = WebSocketStream<Box<dyn Stream>>;

/// The sending direction.
pub struct PadSender(Sending);

enum Sending {
    WebSocket(SplitSink<Socket, Message>),
    Encrypted { stream: OwnedWriteHalf, key: Arc<Key>, nonces: Nonces, frame: Vec<u8> },
}

/// The receiving direction.
pub struct PadReceiver(Receiving);

enum Receiving {
    WebSocket { socket: SplitStream<Socket>, close_code: Option<u16> },
    Encrypted { stream: OwnedReadHalf, key: Arc<Key>, buffer: BytesMut },
}

impl std::fmt::Debug for PadSender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PadSender").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PadReceiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PadReceiver").finish_non_exhaustive()
    }
}

pub(super) async fn websocket(
    program: Program,
    address: SocketAddr,
) -> anyhow::Result<(PadSender, PadReceiver)> {
    upgrade(program, address, Box::new(connect(address).await?)).await
}

pub(super) async fn websocket_tls(
    program: Program,
    address: SocketAddr,
) -> anyhow::Result<(PadSender, PadReceiver)> {
    let connector = tokio_rustls::TlsConnector::from(crate::tls::accept_any());
    let stream = connector.connect(address.ip().into(), connect(address).await?).await?;
    upgrade(program, address, Box::new(stream)).await
}

async fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn upgrade(
    program: Program,
    address: SocketAddr,
    stream: Box<dyn Stream>,
) -> anyhow::Result<(PadSender, PadReceiver)> {
    let mut request = format!("ws://{address}/").into_client_request()?;
    let subprotocol = program.subprotocol().parse()?;
    request.headers_mut().insert("sec-websocket-protocol", subprotocol);
    let (socket, answer) = tokio_tungstenite::client_async(request, stream).await?;
    let chosen = answer.headers().get("sec-websocket-protocol");
    ensure!(
        chosen.is_some_and(|chosen| chosen.as_bytes() == program.subprotocol().as_bytes()),
        "another subprotocol: {chosen:?}"
    );
    let (sink, socket) = socket.split();
    let receiving = Receiving::WebSocket { socket, close_code: None };
    Ok((PadSender(Sending::WebSocket(sink)), PadReceiver(receiving)))
}

pub(super) async fn encrypted(address: SocketAddr) -> anyhow::Result<(PadSender, PadReceiver)> {
    let mut stream = connect(address).await?;
    let secret = Secret::new(rand::random());
    stream.write_all(&secret.hello()).await?;
    let mut hello = [0; HANDSHAKE_BYTES];
    stream.read_exact(&mut hello).await.context("no key from the server")?;
    let key = Arc::new(secret.agree(&hello)?);
    let (reading, writing) = stream.into_split();
    let nonces = Nonces::new(rand::random());
    let frame = Vec::new();
    let sending = Sending::Encrypted { stream: writing, key: key.clone(), nonces, frame };
    let buffer = BytesMut::new();
    Ok((PadSender(sending), PadReceiver(Receiving::Encrypted { stream: reading, key, buffer })))
}

impl PadSender {
    /// Sends one packet.
    pub async fn send(&mut self, kind: u16, id: u32, body: &[u8]) -> anyhow::Result<()> {
        match &mut self.0 {
            Sending::WebSocket(socket) => {
                let mut message = Vec::with_capacity(ws::HEADER_BYTES + body.len());
                ws::Packet { kind, id, body }.encode(&mut message)?;
                Ok(socket.send(Message::binary(message)).await?)
            }
            Sending::Encrypted { stream, key, nonces, frame } => {
                let (kind, id) = (u8::try_from(kind)?, u8::try_from(id)?);
                frame.clear();
                frame.resize(FRAME_HEADER_BYTES, 0);
                tcp::Packet { kind, id, body }.encode(frame)?;
                key.seal(nonces, frame)?;
                Ok(stream.write_all(frame).await?)
            }
        }
    }

    /// Sends bytes to the linked pad.
    pub async fn send_payload(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        self.send(PAYLOAD, 0, payload).await
    }

    /// Sends these bytes as one WebSocket message, or encrypted as one frame.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match &mut self.0 {
            Sending::WebSocket(socket) => Ok(socket.send(Message::binary(bytes.to_vec())).await?),
            Sending::Encrypted { stream, key, nonces, frame } => {
                frame.clear();
                frame.resize(FRAME_HEADER_BYTES, 0);
                frame.extend_from_slice(bytes);
                key.seal(nonces, frame)?;
                Ok(stream.write_all(frame).await?)
            }
        }
    }

    /// Sends these bytes to the socket as they are, in the encrypted generation.
    pub async fn send_wire(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        match &mut self.0 {
            Sending::WebSocket(_) => bail!("a WebSocket's bytes are its library's"),
            Sending::Encrypted { stream, .. } => Ok(stream.write_all(bytes).await?),
        }
    }

    /// Says goodbye: a close frame, then the end of the stream.
    pub async fn close(mut self) -> anyhow::Result<()> {
        match &mut self.0 {
            Sending::WebSocket(socket) => Ok(socket.close().await?),
            Sending::Encrypted { stream, .. } => Ok(stream.shutdown().await?),
        }
    }
}

impl PadReceiver {
    /// The next packet; `None` at the end of the connection. Waits as long as it takes.
    pub async fn next(&mut self) -> anyhow::Result<Option<Packet>> {
        match &mut self.0 {
            Receiving::WebSocket { socket, close_code } => {
                while let Some(message) = socket.next().await {
                    match message? {
                        Message::Binary(bytes) => return read_websocket(&bytes).map(Some),
                        Message::Text(text) => bail!("a text message: {text:?}"),
                        Message::Close(frame) => {
                            *close_code = frame.map(|frame| frame.code.into());
                        }
                        _ => {}
                    }
                }
                Ok(None)
            }
            Receiving::Encrypted { stream, key, buffer } => loop {
                if let Some(frame) = split_frame(buffer) {
                    return read_encrypted(key, frame).map(Some);
                }
                buffer.reserve(64 << 10);
                if stream.read_buf(buffer).await? == 0 {
                    ensure!(buffer.is_empty(), "the connection ended inside a frame");
                    return Ok(None);
                }
            },
        }
    }

    /// What a linked pad sent next; other packets are dropped. `None` at the end of the connection.
    pub async fn next_payload(&mut self) -> anyhow::Result<Option<Bytes>> {
        while let Some(packet) = self.next().await? {
            if packet.kind == PAYLOAD {
                return Ok(Some(packet.body));
            }
        }
        Ok(None)
    }

    pub(super) fn close_code(&self) -> Option<u16> {
        match &self.0 {
            Receiving::WebSocket { close_code, .. } => *close_code,
            Receiving::Encrypted { .. } => None,
        }
    }
}

fn read_websocket(message: &Bytes) -> anyhow::Result<Packet> {
    let ws::Packet { kind, id, .. } = ws::Packet::parse(message)?;
    Ok(Packet { kind, id, body: message.slice(ws::HEADER_BYTES..) })
}

fn read_encrypted(key: &Key, mut frame: BytesMut) -> anyhow::Result<Packet> {
    key.open(&mut frame)?;
    let plain = frame.split_off(FRAME_HEADER_BYTES).freeze();
    let tcp::Packet { kind, id, body } = tcp::Packet::parse(&plain)?;
    // Upstream does not look at the size when it reads, but writes it correctly.
    let written = usize::from(u16::from_le_bytes([plain[2], plain[3]]));
    ensure!(written == body.len(), "the size says {written}, the body has {}", body.len());
    Ok(Packet { kind: kind.into(), id: id.into(), body: plain.slice(tcp::HEADER_BYTES..) })
}
