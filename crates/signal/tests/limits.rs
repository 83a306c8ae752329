//! Limits and deadlines, told in the protocol's own shape.

mod common;

use common::{Server, error, peer, refused, until};
use serde_json::json;
use service::{Clock, Context};
use sqlx::PgPool;
use testkit::{signal_client::register_payload, time::now_ms};

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn too_many_frames_are_refused_and_the_socket_stays(pool: PgPool) {
    let server = Server::start(&pool, &["--peer-frames", "1:5"]).await;
    let mut client = server.register(&peer("alice")).await;
    for _ in 0..20 {
        client.send_frame("ping", &json!({})).await.unwrap();
    }
    let refused = client.next_of("error").await.unwrap();
    let (code, message) = error(&refused);
    assert_eq!(code, "RATE_LIMITED");
    assert!(message.starts_with("rate limit exceeded, retry in "), "{message}");
    assert!(client.next_of("pong").await.is_ok());
    assert!(server.metric("signal_refused_total", "RATE_LIMITED") >= 1.0);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_flood_that_does_not_listen_is_closed(pool: PgPool) {
    let server = Server::start(&pool, &["--address-frames", "1:10"]).await;
    let mut client = server.connect().await;
    let mut sent = 0;
    while sent < 1_200 && client.send_text("{}").await.is_ok() {
        sent += 1;
    }
    assert_eq!(client.closed().await.unwrap(), (1008, "too many frames".into()));
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn registers_are_limited_by_address_and_in_number(pool: PgPool) {
    let server = Server::start(&pool, &["--address-registers", "1:2", "--max-peers", "1"]).await;
    let mut alice = server.register(&peer("alice")).await;
    let mut bob = server.connect().await;
    let register =
        |id: &str| register_payload(&peer(id), now_ms(), &uuid::Uuid::new_v4().to_string());
    let (code, message) = refused(&mut bob, "register", &register("bob")).await;
    assert_eq!((&*code, &*message), ("RATE_LIMITED", "server is full, retry later"));
    let (code, message) = refused(&mut bob, "register", &register("bob")).await;
    assert_eq!(code, "RATE_LIMITED");
    assert!(message.starts_with("rate limit exceeded"), "{message}");
    assert_eq!(alice.peers().await.unwrap(), ["alice"]);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn oversize_messages_are_closed_with_1009(pool: PgPool) {
    let server = Server::start(&pool, &["--max-message", "10kb"]).await;
    let mut client = server.connect().await;
    let _ = client.send_text("x".repeat(10 * 1024 + 1)).await;
    assert_eq!(client.closed().await.unwrap().0, 1009);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn sockets_that_never_register_are_closed_and_probes_are_counted(pool: PgPool) {
    let (clock, hand) = Clock::manual(now_ms());
    let cx = Context::for_tests().with_clock(clock);
    let server = Server::start_in(cx, &pool, &[]).await;
    drop(server.connect().await);
    until("the probe is counted", async || server.metric("signal_probes_total", "") == 1.0).await;
    let mut alice = server.register(&peer("alice")).await;
    let mut silent = server.connect().await;
    silent.send_frame("ping", &json!({})).await.unwrap();
    silent.next_of("error").await.unwrap();
    hand.advance(60_000);
    assert_eq!(silent.closed().await.unwrap(), (1008, "registration deadline".into()));
    assert_eq!(alice.peers().await.unwrap(), ["alice"]);
    assert_eq!(server.metric("signal_registration_deadlines_total", ""), 1.0);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_client_that_says_nothing_is_pinged_and_then_gone(pool: PgPool) {
    let settings = ["--ping-interval", "200ms", "--idle-timeout", "1500ms"];
    let server = Server::start(&pool, &settings).await;
    let mut bob = server.register(&peer("bob")).await;
    let deaf = peer("deaf");
    // Reads nothing once it is registered, so answers no ping: as good as a dead network. Bob reads
    // from the beginning, however long that takes.
    let (gone, _deaf) = tokio::join!(
        bob.wait_for(|frame| frame["payload"]["status"] == "offline"),
        server.register(&deaf),
    );
    assert_eq!(gone.unwrap()["payload"]["peerId"], "deaf");
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn everything_that_is_no_websocket_is_answered_426(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    let http = testkit::http_client::HttpClient::plain(server.address);
    for path in ["/", "/health", "/any?query"] {
        let answer = http.get(path).await.unwrap();
        assert_eq!((answer.status, &*answer.text()), (426, "Upgrade Required"));
        assert_eq!(answer.header("content-type"), "text/plain");
    }
}
