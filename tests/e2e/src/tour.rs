//! What two PeerLink clients do, from the first handshake to a file.
//!
//! The servers are whatever listens at the addresses: the services themselves, or what stands in front of them.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testkit::keys::Peer;
use testkit::relay_client::{RelayClient, body::Blob};
use testkit::signal_client::SignalClient;
use testkit::time::now_ms;

/// Two new peers meet, call, write and share.
///
/// # Errors
/// At the first thing that goes otherwise than a client expects.
pub async fn two_clients(
    signal: SocketAddr,
    relay: SocketAddr,
    by_tls: bool,
) -> anyhow::Result<()> {
    let (alice, bob) = (Peer::random(), Peer::random());
    meet_and_call(signal, by_tls, &alice, &bob).await.context("signal")?;
    let client = match by_tls {
        true => RelayClient::tls(relay),
        false => RelayClient::plain(relay),
    };
    // As today's app: a connection for every request.
    let client = client.new_connections();
    write_while_away(&client, &alice, &bob).await.context("messages")?;
    write_to_a_group(&client, &alice, &bob).await.context("group")?;
    share_a_file(&client, &alice, &bob).await.context("file")
}

async fn connect(address: SocketAddr, by_tls: bool) -> anyhow::Result<SignalClient> {
    if by_tls { SignalClient::tls(address).await } else { SignalClient::plain(address).await }
}

/// Register, presence, offer, answer, candidates, and leaving.
async fn meet_and_call(
    signal: SocketAddr,
    by_tls: bool,
    alice: &Peer,
    bob: &Peer,
) -> anyhow::Result<()> {
    let mut a = connect(signal, by_tls).await?;
    a.register(alice).await?;
    let mut b = connect(signal, by_tls).await?;
    b.register(bob).await?;
    a.wait_for(|frame| presence(frame, bob, "online")).await?;
    let here = a.peers().await?;
    ensure!(here.contains(&alice.id) && here.contains(&bob.id), "{here:?}");

    for (kind, from_alice, data) in [
        ("offer", true, json!({"sdp": "v=0 offer"})),
        ("answer", false, json!({"sdp": "v=0 answer"})),
        ("ice", true, json!({"candidate": "candidate:1 1 udp 1 192.0.2.1 9 typ host"})),
        ("ice", false, json!({"candidate": "candidate:2 1 udp 1 192.0.2.2 9 typ relay"})),
    ] {
        let (from, to) = if from_alice { (alice, bob) } else { (bob, alice) };
        let (sender, receiver) = if from_alice { (&mut a, &mut b) } else { (&mut b, &mut a) };
        let payload = json!({"type": kind, "from": from.id, "to": to.id, "data": data});
        sender.send_frame("signal", &payload).await?;
        let frame = receiver.next_of("signal").await?;
        ensure!(frame["payload"] == payload, "{frame}");
    }
    b.close().await?;
    a.wait_for(|frame| presence(frame, bob, "offline")).await?;
    ensure!(!a.peers().await?.contains(&bob.id), "who left is not listed");
    a.close().await
}

fn presence(frame: &Value, peer: &Peer, status: &str) -> bool {
    let payload = &frame["payload"];
    frame["type"] == "presence_update"
        && payload["peerId"] == peer.id.as_str()
        && payload["status"] == status
}

/// Store while the recipient is away, fetch, acknowledge.
async fn write_while_away(client: &RelayClient, alice: &Peer, bob: &Peer) -> anyhow::Result<()> {
    let payload = br#"{"id":"m1","type":"text","ts":1,"payload":"hello"}"#;
    let stored = client.store(alice, "m1", &bob.id, payload).await?.ok()?;
    ensure!(stored == json!({"ok": true, "stored": true, "duplicate": false}), "{stored}");
    let again = client.store(alice, "m1", &bob.id, payload).await?.ok()?;
    ensure!(again["duplicate"] == true, "{again}");
    client.store(alice, "m2", &bob.id, payload).await?.ok()?;
    let page = client.fetch(&bob.id, "&limit=1").await?.ok()?;
    let message = &page["messages"][0];
    ensure!(message["from"] == alice.id.as_str() && message["id"] == "m1", "{page}");
    ensure!(page["cursor"] == "m1");
    ensure!(client.fetch_ids(&bob.id, "&cursor=m1").await? == ["m2"]);
    client.ack(bob, "m1").await?.ok()?;
    client.ack(bob, "m2").await?.ok()?;
    ensure!(client.fetch_ids(&bob.id, "").await?.is_empty());
    let late = client.store(alice, "m1", &bob.id, payload).await?.ok()?;
    ensure!(late["stored"] == false, "a copy that comes after the acknowledgement is swallowed");
    Ok(())
}

/// The owner names the members; a member writes to all; a stranger cannot.
async fn write_to_a_group(client: &RelayClient, alice: &Peer, bob: &Peer) -> anyhow::Result<()> {
    let (carol, group) = (Peer::random(), format!("group:{}", now_ms()));
    let members = [&*alice.id, &bob.id, &carol.id];
    client.members_update(alice, "members:1", &group, &members).await?.ok()?;
    let sent = client.group_store(alice, "g1", &group, &members, b"{}").await?.ok()?;
    ensure!(sent["stored"] == 2, "the sender is not a recipient: {sent}");
    for member in [bob, &carol] {
        ensure!(client.fetch_ids(&member.id, "").await? == ["g1"]);
        client.ack(member, "g1").await?.ok()?;
    }
    let stranger = Peer::random();
    let refused = client.group_store(&stranger, "g2", &group, &[&bob.id], b"{}").await?;
    ensure!(refused.status == 403, "{}", refused.text());
    ensure!(client.fetch_ids(&bob.id, "").await?.is_empty());
    Ok(())
}

/// A file in chunks, and the same bytes at the other end.
async fn share_a_file(client: &RelayClient, alice: &Peer, bob: &Peer) -> anyhow::Result<()> {
    let mut pair = [&*alice.id, &bob.id];
    pair.sort_unstable();
    let (id, group) = (format!("blob:{}", now_ms()), format!("dm:{}", pair.join("|")));
    let (file_name, mime_type) = ("holiday.jpg", "image/jpeg");
    let blob = Blob { id: &id, group: &group, file_name, mime_type, ts: now_ms() };
    let content: Vec<u8> = (0..700_000_u32).flat_map(u32::to_be_bytes).collect();
    let done = client.upload_in_chunks(alice, &blob, &content, 1 << 20).await?.ok()?;
    ensure!(done == json!({"ok": true, "blobId": id, "duplicate": false}), "{done}");
    let document = client.blob(&id).await?.ok()?;
    ensure!(document["fileName"] == file_name && document["mimeType"] == mime_type);
    ensure!(document["sizeBytes"] == content.len());
    let payload = document["payload"].as_str().context("payload is text")?;
    ensure!(proto::base64::decode_lenient(&payload.into()) == content, "other bytes came back");
    Ok(())
}
