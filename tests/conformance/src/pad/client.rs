//! A client of either generation that says exactly what it is told to.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;

use super::cipher::{Cipher, Handshake};
use super::vectors::hex;
use crate::websocket::{self, Event};

/// A connection.
pub(crate) enum Client {
    WebSocket(Box<websocket::Client>),
    Encrypted(Box<Encrypted>),
}

/// What comes from the server.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    Packet(Vec<u8>),
    /// The server hung up; the code of its close frame, if there was one.
    End(Option<u16>),
}

/// A connection of generation B.
pub(crate) struct Encrypted {
    stream: TcpStream,
    buffer: Vec<u8>,
    cipher: Option<Cipher>,
}

impl Client {
    /// Opens a WebSocket with the subprotocol of a program.
    pub(crate) async fn websocket(
        address: SocketAddr,
        program: &str,
        tls: bool,
    ) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        let stream = if tls {
            let connector = TlsConnector::from(Arc::clone(&testkit::tls::accept_any()));
            let name = ServerName::try_from("localhost")?;
            Either::Right(connector.connect(name, stream).await.context("TLS")?)
        } else {
            Either::Left(stream)
        };
        let headers = [("Sec-WebSocket-Protocol".to_owned(), program.to_owned())];
        let opened = websocket::open_over(stream, "localhost", "/", &headers, true).await?;
        let wanted = format!("\r\nsec-websocket-protocol: {program}\r\n");
        ensure!(opened.head.to_lowercase().contains(&wanted), "{}", opened.head);
        Ok(Self::WebSocket(Box::new(opened.client.with_context(|| opened.head.clone())?)))
    }

    /// Connects; the handshake is the scenario's to do.
    pub(crate) async fn encrypted(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("connecting")?;
        stream.set_nodelay(true)?;
        Ok(Self::Encrypted(Box::new(Encrypted { stream, buffer: Vec::new(), cipher: None })))
    }

    /// Sends a packet as one binary message, or in one frame.
    pub(crate) async fn packet(&mut self, packet: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::WebSocket(client) => client.frame(0x82, packet, true).await,
            Self::Encrypted(client) => client.packet(packet).await,
        }
    }

    /// Sends a packet as a WebSocket message in fragments, or of text.
    pub(crate) async fn message(
        &mut self,
        packet: &[u8],
        text: bool,
        fragment: usize,
    ) -> anyhow::Result<()> {
        let Self::WebSocket(client) = self else { bail!("only WebSockets have messages") };
        let mut opcode = if text { 1 } else { 2 };
        let mut pieces = packet.chunks(fragment).peekable();
        while let Some(piece) = pieces.next() {
            let last = if pieces.peek().is_none() { 0x80 } else { 0 };
            client.frame(last | opcode, piece, true).await?;
            opcode = 0;
        }
        Ok(())
    }

    /// The next packet or the end; `None` when nothing comes in time.
    pub(crate) async fn hear(&mut self, deadline: Instant) -> anyhow::Result<Option<Heard>> {
        match self {
            Self::WebSocket(client) => Ok(match client.next(deadline).await? {
                None => None,
                Some(Event::Binary(packet)) => Some(Heard::Packet(packet)),
                Some(Event::Close { code, .. }) => Some(Heard::End(Some(code))),
                Some(Event::End) => Some(Heard::End(None)),
                Some(other) => bail!("no server says {other:?}"),
            }),
            Self::Encrypted(client) => client.hear(deadline).await,
        }
    }

    /// Hangs up as an honest client does.
    pub(crate) async fn hang_up(&mut self) -> anyhow::Result<()> {
        match self {
            Self::WebSocket(client) => client.close(1000, "").await,
            Self::Encrypted(client) => {
                // The server may have hung up first.
                client.stream.shutdown().await.ok();
                Ok(())
            }
        }
    }

    /// Resets the connection.
    pub(crate) fn abort(self) -> anyhow::Result<()> {
        match self {
            Self::WebSocket(client) => client.abort(),
            Self::Encrypted(client) => Ok(client.stream.set_zero_linger()?),
        }
    }

    /// Reads what is left until the server has hung up as well.
    pub(crate) async fn until_end(&mut self, deadline: Instant) -> anyhow::Result<()> {
        loop {
            match self.hear(deadline).await? {
                None => bail!("the server does not hang up"),
                Some(Heard::End(None)) => return Ok(()),
                Some(Heard::Packet(_) | Heard::End(Some(_))) => {}
            }
        }
    }

    /// The connection of generation B.
    pub(crate) fn bare(&mut self) -> anyhow::Result<&mut Encrypted> {
        match self {
            Self::WebSocket(_) => bail!("not of generation B"),
            Self::Encrypted(client) => Ok(client),
        }
    }
}

impl Encrypted {
    /// Whether keys were exchanged.
    pub(crate) fn is_open(&self) -> bool {
        self.cipher.is_some()
    }

    /// Sends these very bytes.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        // A connection that is gone swallows them, as that of a WebSocket does.
        self.stream.write_all(bytes).await.ok();
        Ok(())
    }

    /// Exchanges keys.
    pub(crate) async fn shake_hands(&mut self, deadline: Instant) -> anyhow::Result<()> {
        let handshake = Handshake::begin()?;
        self.raw(&[&[32, 0], &handshake.public[..]].concat()).await?;
        let answer = self.frame(deadline).await?.context("no key came")?;
        let answer = answer.context("the server hung up in the handshake")?;
        ensure!(answer.len() == 32, "a key of {} bytes", answer.len());
        self.cipher = Some(handshake.finish(&answer)?);
        Ok(())
    }

    pub(crate) async fn packet(&mut self, packet: &[u8]) -> anyhow::Result<()> {
        let cipher = self.cipher.as_mut().context("no keys yet")?;
        let sealed = cipher.seal(packet)?;
        let length = u16::try_from(sealed.len())?.to_le_bytes();
        self.raw(&[&length[..], &sealed].concat()).await
    }

    async fn hear(&mut self, deadline: Instant) -> anyhow::Result<Option<Heard>> {
        Ok(match self.frame(deadline).await? {
            None => None,
            Some(None) => Some(Heard::End(None)),
            Some(Some(frame)) => {
                let cipher = self.cipher.as_mut().context("a frame before the keys")?;
                let packet = cipher.open(&frame).with_context(|| hex(&frame))?;
                Some(Heard::Packet(packet))
            }
        })
    }

    /// The next frame without its length; the inner `None` is the end.
    async fn frame(&mut self, deadline: Instant) -> anyhow::Result<Option<Option<Vec<u8>>>> {
        loop {
            if let [low, high, rest @ ..] = self.buffer.as_slice() {
                let length = usize::from(u16::from_le_bytes([*low, *high]));
                if rest.len() >= length {
                    let frame = rest[..length].to_vec();
                    self.buffer.drain(..2 + length);
                    return Ok(Some(Some(frame)));
                }
            }
            match timeout_at(deadline, self.stream.read_buf(&mut self.buffer)).await {
                Err(_) => return Ok(None),
                Ok(Ok(0) | Err(_)) => {
                    ensure!(self.buffer.is_empty(), "the server hung up inside a frame");
                    return Ok(Some(None));
                }
                Ok(Ok(_)) => {}
            }
        }
    }
}
