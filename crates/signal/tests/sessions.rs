//! Takeover, presence, snapshots, subscriptions, resume: over real sockets.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Server, peer, presence, refused, until};
use http::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use testkit::http_client::HttpClient;

const QUIET: Duration = Duration::from_millis(150);

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_takeover_is_told_to_the_old_socket_and_to_nobody_as_a_leave(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    let alice = peer("alice");
    let mut bob = server.register(&peer("bob")).await;
    let mut old = server.register(&alice).await;
    let mut new = server.register(&alice).await;
    let told = old.next_of("error").await.unwrap();
    assert_eq!(common::error(&told).0, "SESSION_REPLACED");
    assert_eq!(old.closed().await.unwrap(), (4001, "Session replaced".into()));
    let heard = bob.frames_within(QUIET).await;
    assert_eq!(heard.iter().map(presence).collect::<Vec<_>>(), ["alice online", "alice online"]);
    bob.signal(&peer("bob"), "alice", &json!(1)).await.unwrap();
    assert_eq!(new.next_of("signal").await.unwrap()["payload"]["data"], 1);
    assert_eq!(server.metric("signal_sessions_replaced_total", ""), 1.0);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn of_many_sockets_that_register_one_peer_at_once_exactly_one_survives(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    let alice = peer("alice");
    for _ in 0..5 {
        let mut clients = Vec::new();
        for _ in 0..8 {
            clients.push(server.connect().await);
        }
        let registers = clients.iter_mut().map(|client| client.register(&alice));
        for acked in futures_util::future::join_all(registers).await {
            acked.unwrap();
        }
        let mut alive = 0;
        for client in &mut clients {
            // A ping to a replaced socket is not answered; what comes is its close.
            let pinged = client.send_frame("ping", &json!({})).await.is_ok();
            alive += usize::from(pinged && client.next_of("pong").await.is_ok());
        }
        assert_eq!(alive, 1);
        drop(clients);
        until("alice is gone", async || server.metric("signal_peers_online", "") == 0.0).await;
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn presence_comes_in_the_order_of_events_and_leaves_are_never_lost(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    let mut bob = server.register(&peer("bob")).await;
    let mut expected = Vec::new();
    for round in 0..20 {
        let id = format!("p{round}");
        let client = server.register(&peer(&id)).await;
        expected.extend([format!("{id} online"), format!("{id} offline")]);
        // Polling in the middle of a closing handshake is what loses the frame upstream.
        bob.send_frame("peers_request", &json!({})).await.unwrap();
        drop(client);
        bob.send_frame("peers_request", &json!({})).await.unwrap();
    }
    let mut heard = Vec::new();
    while heard.len() < expected.len() {
        let frame = bob.next_of("presence_update").await.unwrap();
        assert_eq!(
            frame["payload"].get("lastSeenMs").is_some(),
            frame["payload"]["status"] == "offline"
        );
        heard.push(presence(&frame));
    }
    // Joins wait for each other here, leaves do not: each peer's own order is what is promised.
    for id in (0..20).map(|round| format!("p{round} ")) {
        let of = |all: &[String]| {
            all.iter().filter(|one| one.starts_with(&id)).cloned().collect::<Vec<_>>()
        };
        assert_eq!(of(&heard), of(&expected));
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_snapshot_never_contradicts_what_its_reader_was_told_before(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    let mut bob = server.register(&peer("bob")).await;
    let mut clients = Vec::new();
    for round in 0..30 {
        let id = format!("p{round}");
        clients.push(server.register(&peer(&id)).await);
        let told = bob.next_of("presence_update").await.unwrap();
        assert_eq!(presence(&told), format!("{id} online"));
        let peers = bob.peers().await.unwrap();
        assert_eq!(peers.len(), round + 2, "self and all that were announced");
        assert_eq!(peers.last(), Some(&id));
    }
    assert!(server.metric("signal_snapshots_built_total", "") <= 31.0);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn subscribers_hear_of_the_peers_they_named(pool: PgPool) {
    let server = Server::start(&pool, &["--max-subscribed", "2"]).await;
    let mut alice = server.register(&peer("alice")).await;
    let many = json!({"peerIds": ["a", "b", "c"]});
    assert_eq!(refused(&mut alice, "presence_subscribe", &many).await.0, "INVALID_SUBSCRIBE");
    let wish = json!({"peerIds": ["bob", "nobody"]});
    alice.send_frame("presence_subscribe", &wish).await.unwrap();
    let snapshot = alice.next_of("presence_snapshot").await.unwrap();
    assert_eq!(snapshot["payload"], json!({"peers": [], "lastSeenMsByPeer": {}}));
    let carol = server.register(&peer("carol")).await;
    let bob = server.register(&peer("bob")).await;
    drop((bob, carol));
    let heard = [
        presence(&alice.next_of("presence_update").await.unwrap()),
        presence(&alice.next_of("presence_update").await.unwrap()),
    ];
    assert_eq!(heard, ["bob online", "bob offline"]);
    alice.send_frame("presence_subscribe", &json!({"all": true})).await.unwrap();
    let snapshot = alice.next_of("presence_snapshot").await.unwrap();
    assert_eq!(snapshot["payload"]["peers"], json!(["alice"]));
    let _dave = server.register(&peer("dave")).await;
    assert_eq!(presence(&alice.next_of("presence_update").await.unwrap()), "dave online");
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_resume_token_brings_the_missed_signals_in_order_and_once(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    let (alice, bob) = (peer("alice"), peer("bob"));
    let mut sender = server.register(&bob).await;
    let mut client = server.connect().await;
    let ack = client.register_with(&alice, &json!({"resume": true})).await.unwrap();
    let token = ack["payload"]["sessionId"].as_str().unwrap().to_owned();
    assert!(ack["payload"].get("resumed").is_none());
    sender.signal(&bob, "alice", &json!(0)).await.unwrap();
    let first = client.next_of("signal").await.unwrap();
    drop(client);
    until("alice is gone", async || server.metric("signal_peers_online", "") == 1.0).await;
    for number in 1..=3 {
        sender.signal(&bob, "alice", &json!(number)).await.unwrap();
    }
    until("three are kept", async || server.metric("signal_signals_total", "kept") == 3.0).await;
    let mut client = server.connect().await;
    let resume = json!({"resume": token, "resumeAfter": first["id"]});
    let ack = client.register_with(&alice, &resume).await.unwrap();
    assert_eq!(ack["payload"]["resumed"], true);
    assert_ne!(ack["payload"]["sessionId"], token.as_str(), "a token is good once");
    for number in 1..=3 {
        assert_eq!(client.next_of("signal").await.unwrap()["payload"]["data"], number);
    }
    let frames = client.frames_within(QUIET).await;
    assert!(frames.iter().all(|frame| frame["type"] != "signal"), "{frames:?}");
    let errors = sender.frames_within(QUIET).await;
    assert!(errors.iter().all(|frame| frame["type"] != "error"), "{errors:?}");
    let mut late = server.connect().await;
    let ack = late.register_with(&alice, &json!({"resume": token})).await.unwrap();
    assert_eq!(ack["payload"]["resumed"], false);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_half_open_socket_loses_nothing_its_successor_can_name(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    let (alice, bob) = (peer("alice"), peer("bob"));
    let mut sender = server.register(&bob).await;
    let mut stuck = server.connect().await;
    let ack = stuck.register_with(&alice, &json!({"resume": true})).await.unwrap();
    sender.signal(&bob, "alice", &json!(1)).await.unwrap();
    let seen = stuck.next_of("signal").await.unwrap();
    // Written to a network that is gone: the server cannot know.
    sender.signal(&bob, "alice", &json!(2)).await.unwrap();
    sender.signal(&bob, "alice", &json!(3)).await.unwrap();
    until("all sent", async || server.metric("signal_signals_total", "sent") == 3.0).await;
    let mut client = server.connect().await;
    let resume = json!({"resume": ack["payload"]["sessionId"], "resumeAfter": seen["id"]});
    client.register_with(&alice, &resume).await.unwrap();
    for number in 2..=3 {
        assert_eq!(client.next_of("signal").await.unwrap()["payload"]["data"], number);
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn ice_servers_come_to_those_who_ask(pool: PgPool) {
    let urls = "turn:turn.example:3478,turns:turn.example:5349";
    let server = Server::start(&pool, &["--turn-secret", "s", "--turn-urls", urls]).await;
    let mut client = server.connect().await;
    let ack = client.register_with(&peer("alice"), &json!({"iceServers": true})).await.unwrap();
    let servers = &ack["payload"]["iceServers"];
    assert_eq!(servers[0]["urls"], json!(["turn:turn.example:3478", "turns:turn.example:5349"]));
    assert!(servers[0]["username"].as_str().unwrap().contains(':'));
    let mut other = server.connect().await;
    let ack = other.register(&peer("bob")).await.unwrap();
    assert_eq!(ack["payload"].get("iceServers"), None);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_static_pair_comes_where_a_credential_would(pool: PgPool) {
    let pair = ["--turn-user", "operator", "--turn-password", "open sesame"];
    let settings = [&pair[..], &["--turn-urls", "turn:turn.example:3478"]].concat();
    let server = Server::start(&pool, &settings).await;
    let expected = json!({
        "urls": ["turn:turn.example:3478"], "username": "operator", "credential": "open sesame"
    });
    for name in ["alice", "bob"] {
        let mut client = server.connect().await;
        let ack = client.register_with(&peer(name), &json!({"iceServers": true})).await.unwrap();
        assert_eq!(ack["payload"]["iceServers"], json!([expected]));
    }
    let page = HttpClient::plain(server.address);
    let told = page.send(Method::POST, "/check/servers", &[], Bytes::new()).await.unwrap();
    assert_eq!(told.ok().unwrap()["iceServers"][1], expected);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn any_string_is_a_name_and_binary_frames_are_read_as_text(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    let odd = peer("мж\"\\😀\u{0}");
    let mut client = server.register(&odd).await;
    client.signal(&odd, &odd.id, &json!("to myself")).await.unwrap();
    assert_eq!(client.next_of("signal").await.unwrap()["payload"]["from"], odd.id.as_str());
    let mut other = server.register(&peer("other")).await;
    assert_eq!(other.peers().await.unwrap(), [odd.id.as_str(), "other"]);
    drop(client);
    let left = other.next_of("presence_update").await.unwrap();
    assert_eq!(left["payload"]["peerId"], odd.id.as_str());
    until("it is recorded", async || {
        let seen: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT peer FROM signal.last_seen").fetch_all(&pool).await.unwrap();
        seen == [odd.id.as_bytes()]
    })
    .await;
    let frame: Value = {
        other.send_frame("peers_request", &json!({})).await.unwrap();
        other.next_of("peers").await.unwrap()
    };
    assert_eq!(frame["payload"]["lastSeenMsByPeer"][&odd.id], left["payload"]["lastSeenMs"]);
}
