//! A PeerLink client's side of the signal server.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::keys::Peer;
use crate::time::now_ms;

/// How long an expected frame may take; generous, because tests share a machine.
pub const FRAME_WITHIN: Duration = Duration::from_secs(10);

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// One WebSocket to a signal server. Frames that a call was not waiting for are kept, in
/// order, for later calls.
pub struct SignalClient {
    socket: WebSocketStream<Box<dyn Stream>>,
    kept: VecDeque<Value>,
    sent: u64,
}

impl std::fmt::Debug for SignalClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignalClient").field("kept", &self.kept).finish_non_exhaustive()
    }
}

impl SignalClient {
    /// Connects without TLS.
    pub async fn plain(address: SocketAddr) -> anyhow::Result<Self> {
        Self::over(Box::new(TcpStream::connect(address).await?), address).await
    }

    /// Connects with TLS and accepts any certificate.
    pub async fn tls(address: SocketAddr) -> anyhow::Result<Self> {
        let connector = tokio_rustls::TlsConnector::from(crate::tls::accept_any());
        let stream = TcpStream::connect(address).await?;
        Self::over(Box::new(connector.connect(address.ip().into(), stream).await?), address).await
    }

    /// Connects without TLS and registers.
    pub async fn registered(address: SocketAddr, peer: &Peer) -> anyhow::Result<Self> {
        let mut client = Self::plain(address).await?;
        client.register(peer).await?;
        Ok(client)
    }

    async fn over(stream: Box<dyn Stream>, address: SocketAddr) -> anyhow::Result<Self> {
        let request = format!("ws://{address}/").into_client_request()?;
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
        Ok(Self { socket, kept: VecDeque::new(), sent: 0 })
    }

    /// Registers `peer` and waits for the acknowledgement, which it returns.
    pub async fn register(&mut self, peer: &Peer) -> anyhow::Result<Value> {
        self.register_with(peer, &json!({})).await
    }

    /// As [`SignalClient::register`], with more members in the payload.
    pub async fn register_with(&mut self, peer: &Peer, more: &Value) -> anyhow::Result<Value> {
        let mut payload = register_payload(peer, now_ms(), &uuid::Uuid::new_v4().to_string());
        for (name, value) in more.as_object().into_iter().flatten() {
            payload[name] = value.clone();
        }
        let id = self.send_frame("register", &payload).await?;
        // An error answers with the request's id, the acknowledgement with one of its own.
        let answer =
            self.wait_for(|f| f["type"] == "register_ack" || f["id"] == id.as_str()).await?;
        ensure!(answer["type"] == "register_ack", "register refused: {answer}");
        Ok(answer)
    }

    /// Sends `data` to another peer as an `offer`.
    pub async fn signal(&mut self, from: &Peer, to: &str, data: &Value) -> anyhow::Result<String> {
        let payload = json!({"type": "offer", "from": from.id, "to": to, "data": data});
        self.send_frame("signal", &payload).await
    }

    /// Asks who is online: the ids in the server's order.
    pub async fn peers(&mut self) -> anyhow::Result<Vec<String>> {
        self.send_frame("peers_request", &json!({})).await?;
        let frame = self.next_of("peers").await?;
        let peers = frame["payload"]["peers"].as_array().context("peers is a list")?;
        Ok(peers.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// Sends a frame of any type and returns the id it was given.
    pub async fn send_frame(&mut self, kind: &str, payload: &Value) -> anyhow::Result<String> {
        self.sent += 1;
        let id = format!("c{}", self.sent);
        let frame = json!({"v": "1", "id": id, "type": kind, "payload": payload});
        self.send_text(frame.to_string()).await?;
        Ok(id)
    }

    /// Sends a text message as it is.
    pub async fn send_text(&mut self, text: impl Into<String>) -> anyhow::Result<()> {
        Ok(self.socket.send(Message::text(text.into())).await?)
    }

    /// The next frame of this type.
    pub async fn next_of(&mut self, kind: &str) -> anyhow::Result<Value> {
        self.wait_for(|frame| frame["type"] == kind)
            .await
            .with_context(|| format!("while waiting for {kind}"))
    }

    /// The oldest frame, kept or yet to come, that `wanted` accepts; others stay kept.
    pub async fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        self.wait_for_within(FRAME_WITHIN, wanted).await
    }

    /// As [`SignalClient::wait_for`], for at most `limit`.
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

/// The payload of `register` in its second form (spec section 3.3), the way the app builds it.
pub fn register_payload(peer: &Peer, timestamp_ms: i64, nonce: &str) -> Value {
    let profile = json!({"schemaVersion": 2, "stableUserId": peer.id, "publicKey": peer.public()});
    let canonical = json_in_order(&[
        ("purpose", json!("bootstrap-register")),
        ("protocol", json!("1")),
        ("peerId", json!(peer.id)),
        ("timestampMs", json!(timestamp_ms)),
        ("nonce", json!(nonce)),
        ("signingPublicKey", json!(peer.public())),
        ("identityProfile", profile.clone()),
    ]);
    json!({
        "peerId": peer.id,
        "client": {"name": "peerlink", "protocol": "1"},
        "capabilities": ["webrtc", "signal-relay"],
        "auth": {
            "scheme": "peerlink-ed25519-v1",
            "peerId": peer.id,
            "timestampMs": timestamp_ms,
            "nonce": nonce,
            "signingPublicKey": peer.public(),
            "signature": peer.sign(canonical.as_bytes()),
            "identityProfile": profile,
        },
    })
}

/// JSON text of an object whose members keep this order, which `Value` does not promise.
fn json_in_order(members: &[(&str, Value)]) -> String {
    let members: Vec<String> =
        members.iter().map(|(name, value)| format!("{}:{value}", Value::from(*name))).collect();
    format!("{{{}}}", members.join(","))
}
