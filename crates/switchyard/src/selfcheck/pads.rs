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

pub(super) const SUCCESS: u16 = 0;
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
    let (mut one, mut other) = (
        Client::connect(linker, "peer-linker").await?,
        Client::connect(linker, "peer-linker").await?,
    );
    for client in [&mut one, &mut other] {
        if !client.activate().await? {
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

/// A client of peer-linker or channel-hub, over WebSocket.
pub(super) struct Client(WebSocketStream<TcpStream>);

impl Client {
    pub(super) async fn connect(
        address: SocketAddr,
        subprotocol: &'static str,
    ) -> anyhow::Result<Self> {
        let connect = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut request = format!("ws://{address}/").into_client_request()?;
            let subprotocol = HeaderValue::from_static(subprotocol);
            request.headers_mut().insert("sec-websocket-protocol", subprotocol);
            anyhow::Ok(tokio_tungstenite::client_async(request, stream).await?.0)
        };
        Ok(Self(timeout(STEP, connect).await.context("no WebSocket in time")??))
    }

    /// Opens a session; `false` when a certificate is wanted.
    pub(super) async fn activate(&mut self) -> anyhow::Result<bool> {
        self.send(ACTIVATE, 1, b"").await?;
        Ok(self.next().await?.0 != ERROR)
    }

    /// Sends `u16 size, u16 type, u32 id, body`.
    pub(super) async fn send(&mut self, kind: u16, id: u32, body: &[u8]) -> anyhow::Result<()> {
        let size = u16::try_from(8 + body.len()).context("a packet is short")?;
        let header = [&size.to_le_bytes()[..], &kind.to_le_bytes(), &id.to_le_bytes()].concat();
        let packet = Message::binary([&header, body].concat());
        timeout(STEP, self.0.send(packet)).await??;
        Ok(())
    }

    /// The next packet's type, id and body.
    pub(super) async fn next(&mut self) -> anyhow::Result<(u16, u32, Bytes)> {
        let packets = async {
            while let Some(message) = self.0.next().await {
                let Message::Binary(packet) = message? else { continue };
                ensure!(packet.len() >= 8, "a packet without a header");
                let kind = u16::from_le_bytes([packet[2], packet[3]]);
                let id = u32::from_le_bytes([packet[4], packet[5], packet[6], packet[7]]);
                return Ok((kind, id, packet.slice(8..)));
            }
            bail!("the connection was closed")
        };
        timeout(STEP, packets).await.context("no packet in time")?
    }

    pub(super) async fn expect(&mut self, kind: u16) -> anyhow::Result<Bytes> {
        let (found, _, body) = self.next().await?;
        ensure!(found == kind, "packet type {found} instead of {kind}");
        Ok(body)
    }

    /// Takes leave; the check is over whether or not the other side answers.
    pub(super) async fn close(mut self) {
        let _ = timeout(STEP, self.0.close(None)).await;
    }
}
