//! A whole PeerLink client, twice: finds itself on a signal server, agrees on a session, leaves
//! a message with a relay for someone who is away, and fetches and confirms it.
//!
//! `cargo run --example peerlink_client -- 127.0.0.1:3000 127.0.0.1:4000`
#![allow(clippy::print_stdout)]

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use serde_json::json;
use testkit::keys::Peer;
use testkit::relay_client::RelayClient;
use testkit::signal_client::SignalClient;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let addresses: Vec<SocketAddr> =
        std::env::args().skip(1).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let [signal, relay] = addresses[..] else {
        anyhow::bail!("usage: peerlink_client SIGNAL_ADDRESS RELAY_ADDRESS");
    };
    let (alice, bob) = (Peer::random(), Peer::random());
    agree_on_a_session(signal, &alice, &bob).await?;
    leave_a_message(relay, &alice, &bob).await
}

/// Both are online: Alice offers, Bob answers, and both exchange a candidate.
async fn agree_on_a_session(server: SocketAddr, alice: &Peer, bob: &Peer) -> anyhow::Result<()> {
    // Registering proves, by a signature over the id, the time and a nonce, who is speaking.
    let mut at_alice = SignalClient::registered(server, alice).await?;
    let mut at_bob = SignalClient::registered(server, bob).await?;
    let online = at_alice.next_of("presence_update").await?;
    println!("Alice hears that {} is {}", online["payload"]["peerId"], online["payload"]["status"]);
    let peers = at_alice.peers().await?;
    ensure!(peers.contains(&bob.id), "Bob is not among {peers:?}");

    at_alice.signal(alice, &bob.id, &json!({"sdp": "v=0 (offer)"})).await?;
    let offer = at_bob.next_of("signal").await?;
    println!("Bob got an offer from {}", offer["payload"]["from"]);
    let to = offer["payload"]["from"].as_str().context("a signal says whom it is from")?;
    at_bob.signal(bob, to, &json!({"sdp": "v=0 (answer)"})).await?;
    println!("Alice got {}", at_alice.next_of("signal").await?["payload"]["data"]);
    at_alice.signal(alice, &bob.id, &json!({"candidate": "192.0.2.1 4242"})).await?;
    at_bob.next_of("signal").await?;

    at_bob.close().await?;
    let offline = at_alice.next_of("presence_update").await?;
    println!("Alice hears that Bob is {}", offline["payload"]["status"]);
    at_alice.close().await
}

/// Bob is away: Alice's message waits for him until he confirms it.
async fn leave_a_message(server: SocketAddr, alice: &Peer, bob: &Peer) -> anyhow::Result<()> {
    let relay = RelayClient::plain(server).new_connections();
    let id = format!("m-{}", rand::random::<u64>());
    let stored = relay.store(alice, &id, &bob.id, b"see you tomorrow").await?.ok()?;
    ensure!(stored["stored"] == true, "not stored: {stored}");
    // The app retries until it is told that the message is there; that is never an error.
    let again = relay.store(alice, &id, &bob.id, b"see you tomorrow").await?.ok()?;
    ensure!(again["duplicate"] == true, "stored twice: {again}");

    let page = relay.fetch(&bob.id, "&limit=50").await?.ok()?;
    let message = &page["messages"][0];
    ensure!(message["id"] == id.as_str(), "Bob's mailbox holds {page}");
    println!("Bob fetched {} from {}", message["id"], message["from"]);

    relay.ack(bob, &id).await?.ok()?;
    let left = relay.fetch_ids(&bob.id, "").await?;
    ensure!(left.is_empty(), "still there after the ack: {left:?}");
    println!("Bob's mailbox is empty again");
    Ok(())
}
