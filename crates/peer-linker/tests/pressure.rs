//! Clients that do not read, and clients that send more than they may.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::Duration;

use common::{Server, pair, until};
use sqlx::PgPool;
use testkit::pad_client::Generation;
use tokio::time::{Instant, timeout};

/// Far more than a mark and the kernel's buffers of a connection hold.
const MESSAGES: usize = 600;
const MESSAGE: usize = 60_000;

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_stalled_reader_stops_its_sender_alone_and_loses_nothing(pool: PgPool) {
    let settings = ["--payload-mark", "256kb"];
    let server = Server::start(&pool, &settings).await;
    let second = Server::start(&pool, &settings).await;
    let places = [[&server, &server], [&server, &second]];
    for (generation, at) in Generation::BOTH.into_iter().flat_map(|one| places.map(|at| (one, at)))
    {
        let (a, b) = pair(at, generation).await;
        let ((mut sending, _rest), (_other, mut receiving)) = (a.into_halves(), b.into_halves());
        let send = async move {
            for number in 0..MESSAGES {
                let mut body = vec![0; MESSAGE];
                body[..8].copy_from_slice(&number.to_le_bytes());
                sending.send_payload(&body).await.unwrap();
            }
            sending
        };
        let mut send = std::pin::pin!(send);
        assert!(
            timeout(Duration::from_secs(2), &mut send).await.is_err(),
            "{generation:?}: the sender is stopped"
        );
        let (mut c, mut d) =
            (server.pad(generation, b"c").await, server.pad(generation, b"d").await);
        c.link_to(&mut d, b"d", b"").await.unwrap();
        c.send_payload(b"others are not stopped").await.unwrap();
        assert_eq!(d.next_payload().await.unwrap().len(), 22);
        let receive = async {
            for number in 0..MESSAGES {
                let body = receiving.next_payload().await.unwrap().unwrap();
                assert_eq!((body.len(), &body[..8]), (MESSAGE, &number.to_le_bytes()[..]));
            }
        };
        let (_sending, ()) = tokio::join!(send, receive);
        drop((c, d));
        drop((_rest, _other, receiving, _sending));
        for server in at {
            until("all are gone", async || server.metric("peer_linker_pads", "") == 0.0).await;
            until("no link", async || server.metric("peer_linker_links", "") == 0.0).await;
            until("no call", async || server.metric("packets_siblings", "") == 0.0).await;
        }
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn who_reads_nothing_until_the_deadline_is_unlinked(pool: PgPool) {
    let settings = ["--write-deadline", "1s", "--payload-mark", "64kb"];
    let server = Server::start(&pool, &settings).await;
    for generation in Generation::BOTH {
        let (a, b) = server.pair(generation).await;
        let (mut sending, mut receiving) = a.into_halves();
        let flood = async {
            for _ in 0..MESSAGES {
                if sending.send_payload(&[1; MESSAGE]).await.is_err() {
                    break;
                }
            }
        };
        let unlinked_type = if generation == Generation::WebSocket { 9 } else { 7 };
        let told = async {
            loop {
                let packet = receiving.next().await.unwrap().unwrap();
                if packet.kind == unlinked_type {
                    return;
                }
            }
        };
        let ((), ()) = tokio::join!(flood, told);
        drop((sending, receiving, b));
        until("all are gone", async || server.metric("peer_linker_pads", "") == 0.0).await;
    }
}

/// Answers and requests do not wait behind what a slow client was sent by its partner.
#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_partner_that_dies_while_its_reader_is_stalled_is_reported_after_all_it_sent(
    pool: PgPool,
) {
    let settings = ["--payload-mark", "256kb"];
    let server = Server::start(&pool, &settings).await;
    let second = Server::start(&pool, &settings).await;
    let places = [[&server, &server], [&server, &second]];
    for (generation, at) in Generation::BOTH.into_iter().flat_map(|one| places.map(|at| (one, at)))
    {
        let (a, b) = pair(at, generation).await;
        let (mut sending, reading) = a.into_halves();
        let mut sent = 0;
        while timeout(Duration::from_secs(1), sending.send_payload(&[3; MESSAGE])).await.is_ok() {
            sent += 1;
        }
        drop((sending, reading)); // killed, in the middle of a message
        let (other, mut receiving) = b.into_halves();
        let mut arrived = 0;
        loop {
            let packet = receiving.next().await.unwrap().unwrap();
            if packet.kind == 0x10 {
                arrived += 1;
            } else {
                break;
            }
        }
        // What was still in the sender's own kernel when it was killed never reached the service.
        assert!(arrived > 0 && arrived <= sent + 1, "{arrived} of {sent}");
        until("no link", async || server.metric("peer_linker_links", "") == 0.0).await;
        drop((receiving, other));
        for server in at {
            until("all are gone", async || server.metric("peer_linker_pads", "") == 0.0).await;
        }
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_bandwidth_cap_slows_down_and_loses_nothing(pool: PgPool) {
    let server = Server::start(&pool, &["--identity-bandwidth", "200kb:100kb"]).await;
    let (a, b) = server.pair(Generation::WebSocket).await;
    let ((mut sending, _rest), (_other, mut receiving)) = (a.into_halves(), b.into_halves());
    let began = Instant::now();
    let send = async {
        for _ in 0..10 {
            sending.send_payload(&[1; 50 << 10]).await.unwrap();
        }
    };
    let receive = async {
        for _ in 0..10 {
            assert_eq!(receiving.next_payload().await.unwrap().unwrap().len(), 50 << 10);
        }
    };
    tokio::join!(send, receive);
    // 500 kB, of which 100 at once, at 200 kB a second.
    assert!(began.elapsed() >= Duration::from_millis(1_900), "{:?}", began.elapsed());
    assert!(server.metric("peer_linker_bandwidth_pauses_total", "") > 0.0);
}
