//! Pads and links over real sockets, in both generations.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Server, until};
use proto::pad::ws::{self, linker};
use sqlx::PgPool;
use testkit::pad_client::{Generation, PadClient};

const BOTH: [Generation; 2] = Generation::BOTH;

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn linked_pads_pass_everything_on_in_order(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    for generation in BOTH {
        let (mut a, mut b) = server.pair(generation).await;
        for number in 0..200_u32 {
            let body = vec![number.to_le_bytes()[0]; usize::try_from(number).unwrap() * 300];
            a.send_payload(&body).await.unwrap();
            b.send_payload(&body[..body.len() / 2]).await.unwrap();
        }
        for number in 0..200_u32 {
            let body = vec![number.to_le_bytes()[0]; usize::try_from(number).unwrap() * 300];
            assert!(b.next_payload().await.unwrap() == body, "{generation:?} {number}");
            assert!(a.next_payload().await.unwrap() == body[..body.len() / 2]);
        }
        assert!(a.unlink().await.unwrap());
        b.unlinked().await.unwrap();
        a.send_payload(b"nobody").await.unwrap();
        assert!(!a.answer_to(a_last(&a)).await.unwrap(), "not linked any more");
        assert!(!b.unlink().await.unwrap());
        assert!(a.unregister_pad().await.unwrap() && b.unregister_pad().await.unwrap());
    }
    assert_eq!(server.metric("peer_linker_pads", ""), 0.0);
    assert_eq!(server.metric("peer_linker_links", ""), 0.0);
}

/// The id of what was sent last: register, link, 200 payloads, unlink, payload.
fn a_last(a: &PadClient) -> u32 {
    let sent = 1 + 1 + 1 + 200 + 1 + 1;
    if a.generation() == Generation::Encrypted { sent % 256 } else { sent }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_name_is_taken_until_its_owner_leaves(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    for generation in BOTH {
        let mut a = server.pad(generation, b"n\0\xff").await;
        let mut b = server.client(generation).await;
        assert!(!b.register_pad(b"n\0\xff").await.unwrap());
        assert!(!b.register_pad(b"").await.unwrap());
        assert!(!a.register_pad(b"second").await.unwrap());
        assert!(a.unregister_pad().await.unwrap());
        assert!(!a.unregister_pad().await.unwrap());
        assert!(b.register_pad(b"n\0\xff").await.unwrap());
        drop(b);
        until("the name is free again", async || a.register_pad(b"n\0\xff").await.unwrap()).await;
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_denied_or_impossible_link_is_refused(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    for generation in BOTH {
        let mut a = server.pad(generation, b"a").await;
        assert!(!a.link(b"b", b"").await.unwrap(), "no such pad");
        let mut b = server.pad(generation, b"b").await;
        let id = a.send_link(b"b", b"wrong").await.unwrap();
        let auth = b.next_auth().await.unwrap();
        assert_eq!((&auth.requester[..], &auth.secret[..]), (&b"a"[..], &b"wrong"[..]));
        b.answer_auth(b"a", false).await.unwrap();
        assert!(!a.linked(id).await.unwrap());
        // The requester may ask again, and a linked pad takes no third.
        a.link_to(&mut b, b"b", b"right").await.unwrap();
        let mut c = server.pad(generation, b"c").await;
        assert!(!c.link(b"b", b"").await.unwrap());
        assert!(!b.link(b"c", b"").await.unwrap());
        a.send_payload(b"still linked").await.unwrap();
        assert_eq!(&b.next_payload().await.unwrap()[..], b"still linked");
        for client in [a, b, c] {
            client.close().await.unwrap();
        }
        until("all are gone", async || server.metric("peer_linker_pads", "") == 0.0).await;
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn whoever_is_left_behind_is_told_after_all_that_was_sent(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    for generation in BOTH {
        let (mut a, mut b) = server.pair(generation).await;
        for _ in 0..20 {
            a.send_payload(&[7; 60_000]).await.unwrap();
        }
        drop(a);
        b.unlinked().await.unwrap();
        let kept: Vec<usize> = b.kept().map(|packet| packet.body.len()).collect();
        assert_eq!(kept, [60_000; 20], "{generation:?}: payload comes before the end");
        // A requestee that goes while it is being asked.
        let mut c = server.pad(generation, b"c").await;
        let id = c.send_link(b"b", b"").await.unwrap();
        b.next_auth().await.unwrap();
        drop(b);
        assert!(!c.linked(id).await.unwrap());
        drop(c);
        until("all are gone", async || server.metric("peer_linker_pads", "") == 0.0).await;
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_pad_may_link_to_itself(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    for generation in BOTH {
        let mut a = server.pad(generation, b"a").await;
        let id = a.send_link(b"a", b"me").await.unwrap();
        a.next_auth().await.unwrap();
        a.answer_auth(b"a", true).await.unwrap();
        assert!(a.linked(id).await.unwrap());
        a.send_payload(b"echo").await.unwrap();
        assert_eq!(&a.next_payload().await.unwrap()[..], b"echo");
        assert!(a.unlink().await.unwrap());
        a.unlinked().await.unwrap();
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn generations_are_separate_namespaces(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    let mut a = server.pad(Generation::WebSocket, b"same").await;
    let mut b = server.pad(Generation::Encrypted, b"same").await;
    let _other = server.pad(Generation::Encrypted, b"other").await;
    assert!(!a.link(b"other", b"").await.unwrap());
    assert!(a.unregister_pad().await.unwrap() && b.unregister_pad().await.unwrap());
}

/// What generation A's clients say to each other: any type without a meaning to the server, the
/// Success and Error of their own acknowledgements included, byte for byte.
#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn generation_a_passes_every_other_type_with_its_id(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    let (mut a, mut b) = server.pair(Generation::WebSocket).await;
    for kind in [0, 1, 12, 13, 14, 15, 255, 65_535] {
        a.send(kind, 0xdead_beef, b"as it is").await.unwrap();
        let packet = b.next().await.unwrap();
        assert_eq!(
            (packet.kind, packet.id, &packet.body[..]),
            (kind, 0xdead_beef, &b"as it is"[..])
        );
    }
    let longest = vec![9; ws::BODY_MAX];
    a.send(12, 1, &longest).await.unwrap();
    assert!(b.next().await.unwrap().body == longest);
    for kind in [linker::LINK_SUCCESS, linker::LINK_DENIED, linker::UNLINKED, linker::LINK_AUTH] {
        a.send(kind, 77, b"").await.unwrap();
        let answer = a.next().await.unwrap();
        assert_eq!((answer.kind, answer.id), (1, 77), "the server's own words are not passed on");
    }
    // Malformed packets are answered, and the session goes on.
    for (id, body) in [(81, &b""[..]), (82, b"\x01\0\x01\0a")] {
        a.send(linker::LINK, id, body).await.unwrap();
        let answer = a.next().await.unwrap();
        assert_eq!((answer.kind, answer.id), (1, id));
    }
    a.acknowledge(5).await.unwrap();
    let acknowledgement = b.next().await.unwrap();
    assert_eq!((acknowledgement.kind, acknowledgement.id), (0, 5));
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn the_originals_way_with_server_types_is_a_setting(pool: PgPool) {
    let server = Server::start(&pool, &["--pass-server-types"]).await;
    let (mut a, mut b) = server.pair(Generation::WebSocket).await;
    a.send(linker::UNLINKED, 3, b"forged").await.unwrap();
    assert_eq!(b.next().await.unwrap().kind, linker::UNLINKED);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn generation_b_passes_payload_alone_with_an_id_of_its_own(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    let (mut a, mut b) = server.pair(Generation::Encrypted).await;
    for (kind, answered) in [(0, true), (7, true), (8, true), (0x11, true), (1, false)] {
        a.send(kind, 200, b"").await.unwrap();
        if answered {
            let answer = a.next().await.unwrap();
            assert_eq!((answer.kind, answer.id), (1, 200), "{kind}");
        }
    }
    // b's first packet from the server was the Auth.
    for id in 2..=300_u32 {
        a.send(0x10, 9, b"x").await.unwrap();
        assert_eq!(b.next().await.unwrap().id, id % 256);
    }
    assert!(a.next_after(b"").await.is_none(), "an Error from a client is never answered");
}

trait NextAfter {
    /// What comes before the answer to an unlink without a link.
    async fn next_after(&mut self, body: &[u8]) -> Option<u16>;
}

impl NextAfter for PadClient {
    async fn next_after(&mut self, body: &[u8]) -> Option<u16> {
        let id = self.send_request(0x0c, body).await.unwrap();
        let next = self.next().await.unwrap();
        (next.id != id).then_some(next.kind)
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_link_may_wait_for_its_pad(pool: PgPool) {
    let server = Server::start(&pool, &["--wait-for-pad", "20s"]).await;
    for generation in BOTH {
        let mut a = server.pad(generation, b"a").await;
        let id = a.send_link(b"later", b"s").await.unwrap();
        let mut b = server.pad(generation, b"later").await;
        b.next_auth().await.unwrap();
        b.answer_auth(b"a", true).await.unwrap();
        assert!(a.linked(id).await.unwrap());
    }
    let server = Server::start(&pool, &["--wait-for-pad", "100ms"]).await;
    for generation in BOTH {
        let mut a = server.pad(generation, b"x").await;
        assert!(!a.link(b"never", b"").await.unwrap());
        assert!(a.unregister_pad().await.unwrap());
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn limits_are_kept_and_counted(pool: PgPool) {
    let settings = [
        "--max-name",
        "8",
        "--max-pads-per-address",
        "3",
        "--max-requests-per-pad",
        "1",
        "--answer-time",
        "200ms",
    ];
    let server = Server::start(&pool, &settings).await;
    let generation = Generation::WebSocket;
    let mut a = server.client(generation).await;
    assert!(!a.register_pad(b"123456789").await.unwrap());
    assert!(a.register_pad(b"12345678").await.unwrap());
    let mut b = server.pad(generation, b"b").await;
    let mut c = server.pad(generation, b"c").await;
    let mut d = server.client(generation).await;
    assert!(!d.register_pad(b"d").await.unwrap());
    let id = a.send_link(b"b", b"").await.unwrap();
    b.next_auth().await.unwrap();
    assert!(!c.link(b"b", b"").await.unwrap());
    assert!(!a.linked(id).await.unwrap(), "nobody answered");
    assert!(b.answer_auth(&b"12345678"[..], true).await.is_err(), "too late");
    for limit in ["name", "pads_per_address", "requests_per_pad", "answer_time"] {
        assert_eq!(server.metric("peer_linker_limited_total", limit), 1.0, "{limit}");
    }
}
