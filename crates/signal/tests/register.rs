//! Every row of the register table (spec 3.3), over a real socket.

mod common;

use common::{Server, error, peer, refused};
use serde_json::{Value, json};
use sqlx::PgPool;
use testkit::{keys::Peer, signal_client::register_payload, time::now_ms};

type Change = fn(&mut Value);

fn payload(peer: &Peer) -> Value {
    register_payload(peer, now_ms(), &uuid::Uuid::new_v4().to_string())
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn every_row_of_the_check_table_has_its_code_and_message(pool: PgPool) {
    const AUTH: &str = "INVALID_REGISTER_AUTH";
    let rows: &[(&str, &str, Change)] = &[
        ("INVALID_REGISTER", "register payload is required", |p| *p = Value::Null),
        ("INVALID_REGISTER", "peerId is required", |p| p["peerId"] = json!("")),
        ("INVALID_REGISTER", "peerId is required", |p| *p = json!([])),
        (AUTH, "auth is required", |p| p["auth"] = json!("x")),
        (AUTH, "unsupported auth scheme", |p| p["auth"]["scheme"] = json!("other")),
        (AUTH, "auth peerId mismatch", |p| p["auth"]["peerId"] = json!("other")),
        (AUTH, "legacyPeerId must be string", |p| p["auth"]["legacyPeerId"] = json!(5)),
        (AUTH, "identityProfile must be object", |p| p["auth"]["identityProfile"] = json!("")),
        (AUTH, "identityProfile stableUserId mismatch", |p| {
            p["auth"]["identityProfile"]["stableUserId"] = json!("other");
        }),
        (AUTH, "timestampMs is required", |p| p["auth"]["timestampMs"] = json!("1")),
        (AUTH, "nonce is required", |p| p["auth"]["nonce"] = json!("short12")),
        (AUTH, "signingPublicKey and signature are required", |p| {
            p["auth"]["signature"] = Value::Null;
        }),
        (AUTH, "timestamp outside allowed skew window", |p| {
            p["auth"]["timestampMs"] = json!(now_ms() - 31_000);
        }),
        (AUTH, "timestamp outside allowed skew window", |p| {
            p["auth"]["timestampMs"] = json!(now_ms() + 32_000);
        }),
        (AUTH, "invalid signing public key length", |p| {
            p["auth"]["signingPublicKey"] = json!("AAAA");
        }),
        (AUTH, "weak signing public key", |p| {
            let identity = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
            p["auth"]["signingPublicKey"] = json!(identity);
        }),
        (AUTH, "signature verification failed", |p| p["auth"]["signature"] = json!("AAAA")),
        (AUTH, "signature verification failed", |p| {
            p["auth"]["timestampMs"] = json!(now_ms() + 1_000);
        }),
    ];
    let server = Server::start(&pool, &[]).await;
    let mut client = server.connect().await;
    for (code, message, change) in rows {
        let mut payload = payload(&peer("table"));
        change(&mut payload);
        let answer = refused(&mut client, "register", &payload).await;
        assert_eq!(answer, ((*code).to_owned(), (*message).to_owned()));
    }
    // None of it counted as a registration, and the socket is still good for one.
    let (code, _) = refused(&mut client, "ping", &json!({})).await;
    assert_eq!(code, "NOT_REGISTERED");
    client.register(&peer("table")).await.unwrap();
    assert_eq!(server.metric("signal_refused_total", AUTH), 15.0);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_used_nonce_is_named_before_what_is_wrong_with_the_key(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    let mut client = server.connect().await;
    let (alice, bob) = (peer("alice"), peer("bob"));
    let good = payload(&alice);
    client.send_frame("register", &good).await.unwrap();
    client.next_of("register_ack").await.unwrap();
    let used = "nonce already used".to_owned();
    let mut other = server.connect().await;
    assert_eq!(refused(&mut other, "register", &good).await.1, used, "a replay");
    let nonce = good["auth"]["nonce"].as_str().unwrap();
    let crossing = register_payload(&bob, now_ms(), nonce);
    assert_eq!(refused(&mut other, "register", &crossing).await.1, used, "nonces are global");
    let mut bad = crossing;
    bad["auth"]["signingPublicKey"] = json!("AA==");
    assert_eq!(refused(&mut other, "register", &bad).await.1, used);
    other.register(&bob).await.unwrap();
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_refused_register_burns_no_nonce(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    let mut client = server.connect().await;
    let good = payload(&peer("alice"));
    let mut bad = good.clone();
    bad["auth"]["signature"] = json!("AAAA");
    assert_eq!(refused(&mut client, "register", &bad).await.1, "signature verification failed");
    client.send_frame("register", &good).await.unwrap();
    let ack = client.next_of("register_ack").await.unwrap();
    assert_eq!(ack["payload"]["peerId"], "alice");
    assert_eq!(ack["payload"]["sessionId"], Value::Null);
    assert!(ack["payload"].get("iceServers").is_none() && ack["payload"].get("resumed").is_none());
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn another_key_cannot_take_a_pinned_peer_and_the_victim_stays(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    let victim = peer("alice");
    let mut alice = server.register(&victim).await;
    let mut mallory = server.connect().await;
    let mallory_key = Peer::mallory().with_id("alice");
    let answer = refused(&mut mallory, "register", &payload(&mallory_key)).await;
    assert_eq!(answer, ("INVALID_REGISTER_AUTH".into(), "peerId is pinned to another key".into()));
    alice.send_frame("ping", &json!({})).await.unwrap();
    assert_eq!(alice.next_of("pong").await.unwrap()["payload"]["peerId"], "alice");
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn the_open_policy_lets_any_key_in_and_sockets_change_their_name(pool: PgPool) {
    let server = Server::start(&pool, &["--identity-policy", "open"]).await;
    let mut alice = server.register(&peer("alice")).await;
    let mut other = server.register(&Peer::mallory().with_id("alice")).await;
    assert_eq!(alice.closed().await.unwrap(), (4001, "Session replaced".into()));
    other.register(&peer("second")).await.unwrap();
    let watcher = &mut server.register(&peer("watcher")).await;
    assert_eq!(watcher.peers().await.unwrap(), ["alice", "second", "watcher"]);
    drop(other);
    let frame = watcher.next_of("presence_update").await.unwrap();
    assert_eq!(common::presence(&frame), "second offline", "the older name leaves silently");
    assert_eq!(watcher.peers().await.unwrap(), ["watcher"]);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_socket_keeps_one_name_under_the_default_policy(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    let mut client = server.register(&peer("alice")).await;
    let (code, message) = refused(&mut client, "register", &payload(&peer("bob"))).await;
    assert_eq!((&*code, &*message), ("INVALID_REGISTER", "socket is registered as another peer"));
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn frames_are_checked_in_the_order_of_the_protocol(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    let mut client = server.connect().await;
    for (text, code, message) in [
        ("{", "INVALID_JSON", "Invalid JSON format"),
        ("null", "INVALID_VERSION", "Unsupported protocol version"),
        (r#"{"v":1,"type":"ping"}"#, "INVALID_VERSION", "Unsupported protocol version"),
        (r#"{"v":"1","type":"Ping"}"#, "UNKNOWN_TYPE", "Unknown frame type: Ping"),
        (
            r#"{"v":"1","type":{"toString":1,"valueOf":1}}"#,
            "UNKNOWN_TYPE",
            "Unknown frame type: [object Object]",
        ),
        (r#"{"v":"1","type":"ping"}"#, "NOT_REGISTERED", "Register before sending ping"),
        (r#"{"v":"1","type":"signal"}"#, "NOT_REGISTERED", "Register before sending signals"),
        (r#"{"v":"1","type":"peers_request"}"#, "NOT_REGISTERED", "Register before peers_request"),
    ] {
        client.send_text(text).await.unwrap();
        let frame = client.next_of("error").await.unwrap();
        assert_eq!(error(&frame), (code, message), "{text}");
        assert!(frame["id"].as_str().unwrap().starts_with("srv-error-"));
    }
    let deep = format!(
        r#"{{"v":"1","type":"ping","payload":{}1{}}}"#,
        "[".repeat(20_000),
        "]".repeat(20_000)
    );
    client.send_text(deep).await.unwrap();
    assert_eq!(error(&client.next_of("error").await.unwrap()).0, "INVALID_JSON");
    client.register(&peer("alice")).await.unwrap();
    let (code, message) = refused(&mut client, "signal", &json!({"to": ""})).await;
    assert_eq!((&*code, &*message), ("INVALID_SIGNAL", "Missing \"to\" in payload"));
    let (code, _) = refused(&mut client, "signal", &json!({"to": "x", "from": "x"})).await;
    assert_eq!(code, "INVALID_SIGNAL");
    let (code, message) = refused(&mut client, "signal", &json!({"to": "x"})).await;
    assert_eq!((&*code, &*message), ("PEER_NOT_FOUND", "Peer x not connected"));
}
