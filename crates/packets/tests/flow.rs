//! Packets on their way from client to client.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::Duration;

use common::{CONTROL, ORDERED, PASS, QUIT, WHO, soon, start};
use edge::ws::Ended;
use packets::PacketArgs;
use testkit::pad_client::{Generation, PadClient};

/// Small marks, so that a test reaches them.
fn small() -> PacketArgs {
    PacketArgs { payload_mark: 256 * 1024, ..PacketArgs::default() }
}

async fn pair(server: &common::Server, generation: Generation) -> (PadClient, PadClient) {
    (server.client(generation).await, server.client(generation).await)
}

#[tokio::test]
async fn payload_of_every_size_arrives_as_it_was_sent() {
    let server = start(PacketArgs::default()).await;
    for generation in Generation::BOTH {
        let longest = if generation == Generation::WebSocket { 65_527 } else { 65_499 };
        let (mut one, mut two) = pair(&server, generation).await;
        for length in [0, 1, 100, 117, 118, 125, 126, 4_000, 65_000, longest] {
            let body: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            one.send(PASS, 77, &body).await.unwrap();
            let packet = two.next().await.unwrap();
            assert_eq!((packet.kind, &packet.body[..]), (PASS, &body[..]));
            if generation == Generation::WebSocket {
                assert_eq!(packet.id, 77, "byte for byte");
            }
        }
    }
}

#[tokio::test]
async fn the_server_counts_its_packets_to_each_encrypted_client() {
    let server = start(PacketArgs::default()).await;
    let (mut one, mut two) = pair(&server, Generation::Encrypted).await;
    for expected in (1..=255).chain([0, 1, 2]) {
        let kind = if expected % 3 == 0 { CONTROL } else { PASS };
        one.send(kind, 9, b"x").await.unwrap();
        assert_eq!(two.next().await.unwrap().id, expected);
        two.send(WHO, 200, b"").await.unwrap();
        assert_eq!(two.next().await.unwrap().id, 200, "answers carry the request's id");
    }
}

#[tokio::test]
async fn a_reader_that_pauses_slows_its_sender_and_loses_nothing() {
    let server = start(small()).await;
    for (at, generation) in Generation::BOTH.into_iter().enumerate() {
        let (one, two) = pair(&server, generation).await;
        const PACKETS: u32 = 600;
        let (mut sender, _one) = one.into_halves();
        let sending = async {
            for number in 0..PACKETS {
                let mut body = vec![7; 60_000];
                body[..4].copy_from_slice(&number.to_le_bytes());
                sender.send(PASS, 0, &body).await.unwrap();
            }
        };
        let line = server.line(2 * at + 1);
        let (_two, mut receiver) = two.into_halves();
        let reading = async {
            server.metric_reaches("packets_paused_total", 1 + at as u64).await;
            assert!(line.waiting_bytes() <= 256 * 1024 + 66_000, "no more than the mark waits");
            for number in 0..PACKETS {
                let packet = soon(receiver.next()).await.unwrap().unwrap();
                assert_eq!(packet.body[..4], number.to_le_bytes());
            }
        };
        tokio::join!(sending, reading);
    }
}

#[tokio::test]
async fn control_overtakes_payload_but_not_what_was_ordered() {
    let server = start(PacketArgs { payload_mark: 64 << 20, ..PacketArgs::default() }).await;
    for (at, generation) in Generation::BOTH.into_iter().enumerate() {
        let (mut one, mut two) = pair(&server, generation).await;
        const PACKETS: usize = 400; // more than the kernel takes
        for kind in [PASS, ORDERED, PASS] {
            for number in 0..if kind == PASS { PACKETS } else { 1 } {
                let mut body = vec![0; if kind == PASS { 60_000 } else { 8 }];
                body[..8].copy_from_slice(&number.to_le_bytes());
                one.send(kind, 0, &body).await.unwrap();
            }
        }
        let line = server.line(2 * at + 1);
        one.send(CONTROL, 0, b"").await.unwrap();
        one.ask(99, b"").await.unwrap(); // answered when all before it has been handled
        assert!(line.waiting_bytes() > 20 << 20, "the kernel took it all; the test sees nothing");
        let mut order = Vec::new();
        for _ in 0..2 * PACKETS + 2 {
            let packet = two.next().await.unwrap();
            if packet.kind != PASS {
                order.push((packet.kind, order.len()));
            } else {
                order.push((PASS, order.len()));
            }
        }
        let place = |kind| order.iter().position(|(other, _)| *other == kind).unwrap();
        assert_eq!(place(ORDERED), PACKETS, "all payload sent before arrives before");
        assert_eq!(place(CONTROL), PACKETS + 1, "and the later control right behind");
    }
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_dropped_at_the_write_deadline() {
    let args = PacketArgs { write_deadline: Duration::from_millis(500), ..small() };
    let mut server = start(args).await;
    for generation in Generation::BOTH {
        let (one, two) = pair(&server, generation).await;
        let (mut sender, mut answers) = one.into_halves();
        let flood = async { while sender.send(PASS, 0, &[1; 60_000]).await.is_ok() {} };
        let told = tokio::select! {
            () = flood => panic!("the sender is not cut off"),
            _ = answers.next() => panic!("the sender is told nothing"),
            how = server.gone() => how,
        };
        assert_eq!(told, Ended::Slow, "{generation:?}");
        drop(two);
        drop((sender, answers));
        server.gone().await;
    }
    assert_eq!(server.metric("packets_closed_total{reason=\"write_deadline\"}"), 2);
}

#[tokio::test]
async fn a_client_is_told_when_the_service_closes_or_drains() {
    let mut server = start(PacketArgs::default()).await;
    for generation in Generation::BOTH {
        let code = |code| (generation == Generation::WebSocket).then_some(code);
        let mut client = server.client(generation).await;
        client.send(QUIT, 0, b"").await.unwrap();
        assert_eq!(client.closed().await.unwrap(), code(4000));
        assert_eq!(server.gone().await, Ended::ByUs(4000));
    }
    let mut websocket = server.client(Generation::WebSocket).await;
    let mut encrypted = server.client(Generation::Encrypted).await;
    server.cx.stop.draining().cancel();
    assert_eq!(websocket.closed().await.unwrap(), Some(1012));
    assert_eq!(encrypted.closed().await.unwrap(), None);
    assert_eq!(server.gone().await, Ended::ByUs(1012));
    assert_eq!(server.gone().await, Ended::ByUs(1012));
}

#[tokio::test]
async fn the_service_learns_of_every_end() {
    let mut server = start(PacketArgs::default()).await;
    for generation in Generation::BOTH {
        drop(server.client(generation).await);
        assert_eq!(server.gone().await, Ended::Lost);
    }
    server.client(Generation::WebSocket).await.close().await.unwrap();
    assert!(matches!(server.gone().await, Ended::ByPeer(_)));
    server.metric_reaches("edge_connections_total", 3).await;
    soon(async {
        while server.metric("packets_open{wire=\"websocket\"}") > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
