//! Pads of two processes, linked.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Server, pair, until};
use sqlx::PgPool;
use testkit::pad_client::{Generation, PadClient};

/// Two replicas.
async fn two(pool: &PgPool, settings: &[&str]) -> (Server, Server) {
    (Server::start(pool, settings).await, Server::start(pool, settings).await)
}

/// Nobody is linked, and the replicas do not talk.
async fn quiet(at: [&Server; 2]) {
    for server in at {
        for metric in ["peer_linker_links", "peer_linker_link_requests_waiting", "packets_siblings"]
        {
            until(metric, async || server.metric(metric, "") == 0.0).await;
        }
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn what_linked_pads_say_arrives_whole_and_in_order(pool: PgPool) {
    let (one, other) = two(&pool, &[]).await;
    for generation in Generation::BOTH {
        let (mut a, mut b) = pair([&one, &other], generation).await;
        let body = |number: usize| vec![number.to_le_bytes()[0]; number * 300];
        for number in 0..200 {
            a.send_payload(&body(number)).await.unwrap();
            b.send_payload(&body(number / 2)).await.unwrap();
        }
        for number in 0..200 {
            assert!(b.next_payload().await.unwrap() == body(number), "{generation:?} {number}");
            assert!(a.next_payload().await.unwrap() == body(number / 2));
        }
        assert_eq!(one.metric("peer_linker_pads", ""), 1.0, "what stands for others is no pad");
        // Whoever unlinks, the other hears of it behind all that was sent, and both are free.
        a.send_payload(b"last").await.unwrap();
        assert!(a.unlink().await.unwrap());
        assert_eq!(&b.next_payload().await.unwrap()[..], b"last");
        b.unlinked().await.unwrap();
        assert!(!a.unlink().await.unwrap() && !b.unlink().await.unwrap());
        b.link_to(&mut a, b"a", b"the other way").await.unwrap();
        assert!(b.unregister_pad().await.unwrap());
        a.unlinked().await.unwrap();
        quiet([&one, &other]).await;
        assert!(a.unregister_pad().await.unwrap());
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_link_request_is_answered_as_at_one_process(pool: PgPool) {
    let (one, other) = two(&pool, &[]).await;
    for generation in Generation::BOTH {
        let mut a = one.pad(generation, b"a").await;
        let mut b = other.pad(generation, b"b").await;
        assert!(!a.link(b"nobody", b"").await.unwrap());
        // Denied, then free to ask again.
        let id = a.send_link(b"b", b"\0secret").await.unwrap();
        let auth = b.next_auth().await.unwrap();
        assert_eq!((&auth.requester[..], &auth.secret[..]), (&b"a"[..], &b"\0secret"[..]));
        b.answer_auth(b"a", false).await.unwrap();
        assert!(!a.linked(id).await.unwrap(), "{generation:?}");
        // The pad asked for goes.
        let id = a.send_link(b"b", b"").await.unwrap();
        b.next_auth().await.unwrap();
        assert!(b.unregister_pad().await.unwrap());
        assert!(!a.linked(id).await.unwrap());
        // The pad that asks goes; its answer is for nobody.
        until("free", async || b.register_pad(b"b").await.unwrap()).await;
        a.send_link(b"b", b"").await.unwrap();
        b.next_auth().await.unwrap();
        drop(a);
        until("forgotten", async || one.metric("peer_linker_pads", "") == 0.0).await;
        until("hung up", async || other.metric("packets_siblings", "") == 0.0).await;
        // One that is linked already is not asked again.
        let (mut c, mut d) = (other.pad(generation, b"c").await, one.pad(generation, b"d").await);
        c.link_to(&mut b, b"b", b"").await.unwrap();
        assert!(!d.link(b"b", b"").await.unwrap());
        drop((b, c, d));
        quiet([&one, &other]).await;
    }
    assert!(one.metric("peer_linker_links_elsewhere_total", "") > 0.0);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_request_nobody_answers_is_over_at_both(pool: PgPool) {
    let (one, other) = two(&pool, &["--answer-time", "300ms"]).await;
    for generation in Generation::BOTH {
        let mut a = one.pad(generation, b"a").await;
        let mut b = other.pad(generation, b"b").await;
        let id = a.send_link(b"b", b"").await.unwrap();
        b.next_auth().await.unwrap();
        assert!(!a.linked(id).await.unwrap());
        until("hung up", async || one.metric("packets_siblings", "") == 0.0).await;
        // Whichever replica's time is over first: a place kept for an answer goes with its pad.
        drop((a, b));
        until("gone", async || other.metric("peer_linker_pads", "") == 0.0).await;
        quiet([&one, &other]).await;
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_replica_that_dies_unlinks_its_partners_at_once(pool: PgPool) {
    let one = Server::start(&pool, &[]).await;
    for generation in Generation::BOTH {
        let other = Server::start(&pool, &["--instance", "dies"]).await;
        let (mut a, _b) = pair([&one, &other], generation).await;
        other.abandon();
        a.unlinked().await.unwrap();
        assert!(a.unregister_pad().await.unwrap());
        quiet([&one, &one]).await;
    }
}

/// A replica whose lease is over but whose connections stand is as good as dead.
#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_replica_without_a_lease_is_hung_up_on(pool: PgPool) {
    let one = Server::start(&pool, &["--lease-renewal", "100ms", "--instance", "one"]).await;
    let other = Server::start(&pool, &["--lease-renewal", "1h", "--instance", "other"]).await;
    let (mut a, mut b) = pair([&one, &other], Generation::WebSocket).await;
    sqlx::query("DELETE FROM peer_linker.node WHERE instance = 'other'")
        .execute(&pool)
        .await
        .unwrap();
    a.unlinked().await.unwrap();
    b.unlinked().await.unwrap();
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn strangers_at_the_siblings_port_learn_nothing(pool: PgPool) {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };
    let one = Server::start(&pool, &[]).await;
    one.pad(Generation::WebSocket, b"ready").await;
    let address: String =
        sqlx::query_scalar("SELECT address FROM peer_linker.node").fetch_one(&pool).await.unwrap();
    // Neither in the clear nor in TLS without the key.
    let mut plain = TcpStream::connect(&address).await.unwrap();
    plain.write_all(&[1; 64]).await.unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await; // closed or reset
    assert!(answer.is_empty());
    let socket = address.parse().unwrap();
    let tls = testkit::pad_client::Program::PeerLinker;
    assert!(PadClient::connect_tls(tls, socket).await.is_err());
    until("counted", async || one.metric("packets_siblings_refused_total", "") == 2.0).await;
}
