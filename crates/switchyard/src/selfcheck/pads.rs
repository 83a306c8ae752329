//! Two pads, a link, and a word through it.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use super::STEP;
use super::identity::message_id;

const SUCCESS: u16 = 0;
const ERROR: u16 = 1;
const ACTIVATE: u16 = 2;
const REGISTER: u16 = 3;
const LINK: u16 = 5;
const LINK_SUCCESS: u16 = 7;
const LINK_AUTH: u16 = 10;
const LINK_AUTH_RESPONSE: u16 = 11;
/// A type without a meaning to the server, which passes it on.
const WORD: u16 = 12;

/// One pad links to another, and what it sends arrives as it was. `false` when the service wants
/// a certificate, which this check has none of.
pub(super) async fn round_trip(linker: SocketAddr) -> anyhow::Result<bool> {
    let (mut one, mut other) = (Client::connect(linker).await?, Client::connect(linker).await?);
    for client in [&mut one, &mut other] {
        client.send(ACTIVATE, 1, b"").await?;
        if client.next().await?.0 == ERROR {
            return Ok(false);
        }
    }
    let (asking, asked) = (message_id(), message_id());
    one.send(REGISTER, 2, asking.as_bytes()).await?;
    one.expect(SUCCESS).await?;
    other.send(REGISTER, 2, asked.as_bytes()).await?;
    other.expect(SUCCESS).await?;
    let length = u16::try_from(asked.len()).context("a name is short")?.to_le_bytes();
    let link = [&length[..], &[0, 0], asked.as_bytes()].concat();
    one.send(LINK, 3, &link).await?;
    one.expect(SUCCESS).await?;
    other.expect(LINK_AUTH).await?;
    other.send(LINK_AUTH_RESPONSE, 3, &[&[1, 0], asking.as_bytes()].concat()).await?;
    other.expect(SUCCESS).await?;
    one.expect(LINK_SUCCESS).await?;
    let word = message_id();
    one.send(WORD, 4, word.as_bytes()).await?;
    let arrived = other.expect(WORD).await?;
    ensure!(arrived == word.as_bytes(), "something else arrived");
    one.close().await;
    other.close().await;
    Ok(true)
}

struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn connect(linker: SocketAddr) -> anyhow::Result<Self> {
        let connect = async {
            let stream = TcpStream::connect(linker).await?;
            stream.set_nodelay(true)?;
            let mut request = format!("ws://{linker}/").into_client_request()?;
            let subprotocol = HeaderValue::from_static("peer-linker");
            request.headers_mut().insert("sec-websocket-protocol", subprotocol);
            anyhow::Ok(tokio_tungstenite::client_async(request, stream).await?.0)
        };
        Ok(Self(timeout(STEP, connect).await.context("no WebSocket in time")??))
    }

    /// Sends `u16 size, u16 type, u32 id, body`.
    async fn send(&mut self, kind: u16, id: u32, body: &[u8]) -> anyhow::Result<()> {
        let size = u16::try_from(8 + body.len()).context("a packet is short")?;
        let header = [&size.to_le_bytes()[..], &kind.to_le_bytes(), &id.to_le_bytes()].concat();
        let packet = Message::binary([&header, body].concat());
        timeout(STEP, self.0.send(packet)).await??;
        Ok(())
    }

    /// The next packet's type and body.
    async fn next(&mut self) -> anyhow::Result<(u16, Bytes)> {
        let packets = async {
            while let Some(message) = self.0.next().await {
                let Message::Binary(packet) = message? else { continue };
                ensure!(packet.len() >= 8, "a packet without a header");
                return Ok((u16::from_le_bytes([packet[2], packet[3]]), packet.slice(8..)));
            }
            bail!("the connection was closed")
        };
        timeout(STEP, packets).await.context("no packet in time")?
    }

    async fn expect(&mut self, kind: u16) -> anyhow::Result<Bytes> {
        let (found, body) = self.next().await?;
        ensure!(found == kind, "packet type {found} instead of {kind}");
        Ok(body)
    }

    /// Takes leave; the check is over whether or not the other side answers.
    async fn close(mut self) {
        let _ = timeout(STEP, self.0.close(None)).await;
    }
}
