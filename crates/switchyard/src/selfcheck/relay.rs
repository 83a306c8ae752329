//! Store, fetch, acknowledge.

use std::net::SocketAddr;

use anyhow::{bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::STEP;
use super::identity::{Peer, message_id};
use crate::{clock, http};

const TTL_S: u64 = 86_400;

/// `from` leaves a message for `to`, who fetches and acknowledges it.
pub(super) async fn round_trip(relay: SocketAddr, from: &Peer, to: &Peer) -> anyhow::Result<()> {
    let (id, ts) = (message_id(), clock::now_ms());
    let content = b"{\"type\":\"selfcheck\"}";
    let signed = [format!("{id}|{}|{}|{ts}|{TTL_S}|", from.id, to.id).as_bytes(), content].concat();
    let payload = STANDARD.encode(content);
    let store = json!({
        "id": id, "from": from.id, "to": to.id, "ts": ts, "ttl": TTL_S, "payload": payload,
        "sig": from.sign(&signed), "signingPub": from.public_key(),
    });
    let stored = post(relay, "/relay/store", &store).await?;
    ensure!(stored["stored"] == true, "the message was not stored: {stored}");

    let page = fetch(relay, to).await?;
    let [message] = page.as_slice() else { bail!("fetched {} messages, not one", page.len()) };
    ensure!(
        message["id"] == id.as_str() && message["payload"] == payload.as_str(),
        "another message came back: {message}"
    );

    let signed = format!("{id}|{}|{}|{ts}", to.id, to.id);
    let ack = json!({
        "id": id, "from": to.id, "to": to.id, "ts": ts,
        "sig": to.sign(signed.as_bytes()), "signingPub": to.public_key(),
    });
    let acknowledged = post(relay, "/relay/ack", &ack).await?;
    ensure!(acknowledged["ok"] == true, "the acknowledgement was refused: {acknowledged}");
    ensure!(fetch(relay, to).await?.is_empty(), "an acknowledged message came back");
    Ok(())
}

async fn fetch(relay: SocketAddr, to: &Peer) -> anyhow::Result<Vec<Value>> {
    let path = format!("/relay/fetch?to={}&limit=10", to.id);
    let mut page = read("/relay/fetch", &http::get(relay, &path, STEP).await?)?;
    match page["messages"].take() {
        Value::Array(messages) => Ok(messages),
        _ => bail!("/relay/fetch answered without messages"),
    }
}

async fn post(relay: SocketAddr, path: &str, body: &Value) -> anyhow::Result<Value> {
    read(path, &http::post(relay, path, body.to_string().into_bytes(), STEP).await?)
}

fn read(path: &str, answer: &http::Answer) -> anyhow::Result<Value> {
    let text = String::from_utf8_lossy(&answer.body);
    ensure!(answer.status == 200, "{path} answered {}: {text}", answer.status);
    Ok(serde_json::from_slice(&answer.body)?)
}
