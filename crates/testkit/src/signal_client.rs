//! A PeerLink client's side of the signal server.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

pub use crate::json_socket::FRAME_WITHIN;
use crate::json_socket::JsonSocket;
use crate::keys::Peer;
use crate::time::now_ms;

/// One WebSocket to a signal server. Frames that a call was not waiting for are kept, in
/// order, for later calls.
#[derive(Debug)]
pub struct SignalClient {
    socket: JsonSocket,
    sent: u64,
}

impl SignalClient {
    /// Connects without TLS.
    pub async fn plain(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self { socket: JsonSocket::plain(address, "/").await?, sent: 0 })
    }

    /// Connects with TLS and accepts any certificate.
    pub async fn tls(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self { socket: JsonSocket::tls(address, "/").await?, sent: 0 })
    }

    /// Connects without TLS and registers.
    pub async fn registered(address: SocketAddr, peer: &Peer) -> anyhow::Result<Self> {
        let mut client = Self::plain(address).await?;
        client.register(peer).await?;
        Ok(client)
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
        self.socket.send_text(text).await
    }

    /// The next frame of this type.
    pub async fn next_of(&mut self, kind: &str) -> anyhow::Result<Value> {
        self.wait_for(|frame| frame["type"] == kind)
            .await
            .with_context(|| format!("while waiting for {kind}"))
    }

    /// The oldest frame, kept or yet to come, that `wanted` accepts; others stay kept.
    pub async fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        self.socket.wait_for(wanted).await
    }

    /// As [`SignalClient::wait_for`], for at most `limit`.
    pub async fn wait_for_within(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        self.socket.wait_for_within(limit, wanted).await
    }

    /// Takes all frames that are kept and all that come within `limit`: for asserting that
    /// something does not come.
    pub async fn frames_within(&mut self, limit: Duration) -> Vec<Value> {
        self.socket.frames_within(limit).await
    }

    /// Waits until the server closes: the code and reason, or 1006 when it just hung up.
    pub async fn closed(&mut self) -> anyhow::Result<(u16, String)> {
        self.socket.closed().await
    }

    /// Closes in order and waits for the server's close.
    pub async fn close(self) -> anyhow::Result<()> {
        self.socket.close().await
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
