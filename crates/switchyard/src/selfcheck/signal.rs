//! Two registrations and a signal.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::STEP;
use super::identity::{Peer, message_id};
use crate::clock;

/// `from` and `to` register, then `from` signals `to`.
pub(super) async fn round_trip(signal: SocketAddr, from: &Peer, to: &Peer) -> anyhow::Result<()> {
    let mut sender = Client::register(signal, from).await?;
    let mut receiver = Client::register(signal, to).await?;
    let word = message_id();
    let payload = json!({
        "type": "offer", "from": from.id, "to": to.id, "data": { "selfcheck": word },
    });
    sender.send("signal", payload).await?;
    let received = receiver.wait("signal").await?;
    ensure!(
        received["data"]["selfcheck"] == word.as_str() && received["from"] == from.id.as_str(),
        "another signal arrived: {received}"
    );
    sender.close().await;
    receiver.close().await;
    Ok(())
}

struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn register(signal: SocketAddr, peer: &Peer) -> anyhow::Result<Self> {
        let connect = async {
            let stream = TcpStream::connect(signal).await?;
            stream.set_nodelay(true)?;
            anyhow::Ok(tokio_tungstenite::client_async(format!("ws://{signal}/"), stream).await?.0)
        };
        let socket = timeout(STEP, connect).await.context("no WebSocket in time")??;
        let mut this = Self(socket);
        let (timestamp_ms, nonce, public_key) = (clock::now_ms(), message_id(), peer.public_key());
        // The order of the members is part of what is signed; none of the values needs escaping.
        let signed = format!(
            r#"{{"purpose":"bootstrap-register","protocol":"1","peerId":"{}","timestampMs":{timestamp_ms},"nonce":"{nonce}","signingPublicKey":"{public_key}"}}"#,
            peer.id
        );
        let payload = json!({
            "peerId": peer.id,
            "client": { "name": "switchyard", "protocol": "1" },
            "auth": {
                "scheme": "peerlink-ed25519-v1", "peerId": peer.id, "timestampMs": timestamp_ms,
                "nonce": nonce, "signingPublicKey": public_key,
                "signature": peer.sign(signed.as_bytes()),
            },
        });
        this.send("register", payload).await?;
        this.wait("register_ack").await?;
        Ok(this)
    }

    async fn send(&mut self, kind: &str, payload: Value) -> anyhow::Result<()> {
        let frame = json!({ "v": "1", "id": message_id(), "type": kind, "payload": payload });
        timeout(STEP, self.0.send(Message::text(frame.to_string()))).await??;
        Ok(())
    }

    /// The payload of the next frame of this kind; others are presence and may pass.
    async fn wait(&mut self, kind: &str) -> anyhow::Result<Value> {
        let frames = async {
            while let Some(message) = self.0.next().await {
                let Message::Text(text) = message? else { continue };
                let mut frame: Value = serde_json::from_str(&text)?;
                let payload = frame["payload"].take();
                if frame["type"] == kind {
                    return Ok(payload);
                }
                ensure!(frame["type"] != "error", "refused: {payload}");
            }
            bail!("the connection was closed")
        };
        timeout(STEP, frames).await.with_context(|| format!("no {kind} in time"))?
    }

    /// Takes leave; the check is over whether or not the other side answers.
    async fn close(mut self) {
        let _ = timeout(STEP, self.0.close(None)).await;
    }
}
