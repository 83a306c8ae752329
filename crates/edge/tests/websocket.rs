//! The WebSocket pump over real sockets.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::{Duration, Instant};

use common::{PATIENCE, Raw, limits, local, masked, soon, start};
use edge::ws::{Ended, Feed, Frame, Limits, SendError};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

#[tokio::test]
async fn an_ordinary_client_gets_its_messages_back() {
    let mut server = start(local(), limits()).await;
    let url = format!("ws://{}/any?path", server.address);
    let (mut client, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    for len in [0, 1, 125, 126, 65_535, 65_536, 1 << 20] {
        let text = "x".repeat(len);
        client.send(Message::text(text.clone())).await.unwrap();
        assert_eq!(soon(client.next()).await.unwrap().unwrap(), Message::text(text));
        let bytes = vec![0xFF; len];
        client.send(Message::binary(bytes.clone())).await.unwrap();
        assert_eq!(soon(client.next()).await.unwrap().unwrap(), Message::binary(bytes));
    }
    let goodbye = CloseFrame { code: CloseCode::Library(4123), reason: "enough".into() };
    client.close(Some(goodbye.clone())).await.unwrap();
    let answer = soon(client.next()).await.unwrap().unwrap();
    assert_eq!(answer, Message::Close(Some(goodbye)), "code and reason come back");
    assert_eq!(server.ended().await, Ended::ByPeer(Some(4123)));
}

#[tokio::test]
async fn fragments_are_joined_around_control_frames() {
    let server = start(local(), limits()).await;
    let mut raw = Raw::connect(server.address).await;
    raw.send(&masked(0x01, "gr\u{fc}".as_bytes().split_at(3).0)).await;
    raw.send(&masked(0x89, b"still there?")).await;
    assert_eq!(raw.frame().await, Some((0x8A, b"still there?".to_vec())));
    raw.send(&masked(0x00, "gr\u{fc}".as_bytes().split_at(3).1)).await;
    raw.send(&masked(0x8A, b"unasked")).await;
    raw.send(&masked(0x80, b"\xC3\x9Fe")).await;
    assert_eq!(raw.text().await, "gr\u{fc}\u{df}e");
}

#[tokio::test]
async fn every_violation_has_its_close_code() {
    let mut server = start(local(), Limits { max_message_bytes: 1000, ..limits() }).await;
    let long_header = [0x81, 0xFE, 0x03, 0xE9]; // 1001 bytes announced, none sent
    let huge_header = [0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    let fragments = [masked(0x01, &[b'x'; 600]), masked(0x00, &[b'x'; 401])].concat();
    let cases: &[(&str, u16, &[u8])] = &[
        ("not masked", 1002, b"\x81\x01x"),
        ("reserved bit", 1002, &masked(0xC1, b"x")),
        ("unknown data opcode", 1002, &masked(0x83, b"x")),
        ("unknown control opcode", 1002, &masked(0x8B, b"x")),
        ("continuation of nothing", 1002, &masked(0x80, b"x")),
        ("message in a message", 1002, &[masked(0x01, b"x"), masked(0x81, b"y")].concat()),
        ("fragmented ping", 1002, &masked(0x09, b"x")),
        ("long ping", 1002, &masked(0x89, &[0; 126])),
        ("half a close code", 1002, &masked(0x88, &[3])),
        ("close code 999", 1002, &masked(0x88, &[0x03, 0xE7])),
        ("close code 1005", 1002, &masked(0x88, &[0x03, 0xED])),
        ("close code 5000", 1002, &masked(0x88, &[0x13, 0x88])),
        ("close reason not UTF-8", 1007, &masked(0x88, &[0x03, 0xE8, 0xFF])),
        ("text not UTF-8", 1007, &masked(0x81, &[b'a', 0xC0, 0x80])),
        ("too long, known from the header", 1009, &long_header),
        ("absurdly long", 1009, &huge_header),
        ("too long in fragments", 1009, &fragments),
    ];
    for (name, code, bytes) in cases {
        let mut raw = Raw::connect(server.address).await;
        raw.send(bytes).await;
        assert_eq!(raw.close_code().await, *code, "{name}");
        assert_eq!(raw.frame().await, None, "{name}: the stream ends");
        assert_eq!(server.ended().await, Ended::Violation(*code), "{name}");
    }
    assert_eq!(server.metric("edge_ws_violations_total"), cases.len() as u64);
}

#[tokio::test]
async fn a_message_of_exactly_the_limit_passes() {
    let server = start(local(), Limits { max_message_bytes: 1000, ..limits() }).await;
    let mut raw = Raw::connect(server.address).await;
    raw.send(&masked(0x81, &[b'x'; 1000])).await;
    assert_eq!(raw.text().await.len(), 1000);
}

#[tokio::test]
async fn a_close_without_a_code_is_answered_without_one() {
    let mut server = start(local(), limits()).await;
    let mut raw = Raw::connect(server.address).await;
    raw.send(&[masked(0x81, b"last words"), masked(0x88, b"")].concat()).await;
    assert_eq!(raw.text().await, "last words");
    assert_eq!(raw.close_code().await, 1005);
    assert_eq!(raw.frame().await, None);
    assert_eq!(server.ended().await, Ended::ByPeer(None));
}

#[tokio::test]
async fn a_session_closes_with_code_and_reason_and_hears_no_more() {
    let mut server = start(local(), limits()).await;
    let mut raw = Raw::connect(server.address).await;
    raw.send(&[masked(0x81, b"bye"), masked(0x81, b"one more thing")].concat()).await;
    let (first, payload) = raw.frame().await.unwrap();
    assert_eq!((first, &payload[..]), (0x88, &b"\x0F\xA1you said so"[..]));
    assert_eq!(server.ended().await, Ended::ByUs(4001));
    raw.send(&masked(0x88, b"\x0F\xA1")).await;
    assert_eq!(raw.frame().await, None);
}

#[tokio::test]
async fn a_peer_that_does_not_answer_the_close_is_dropped() {
    let mut server = start(local(), limits()).await;
    let mut raw = Raw::connect(server.address).await;
    let outbox = server.outbox().await;
    outbox.send(Frame::text("first")).unwrap();
    outbox.close(4000, "go");
    assert_eq!(outbox.send(Frame::text("late")), Err(SendError::Closed));
    assert_eq!(raw.text().await, "first");
    assert_eq!(raw.close_code().await, 4000);
    let since = Instant::now();
    assert_eq!(raw.frame().await, None);
    assert!(since.elapsed() < PATIENCE / 2);
    assert_eq!(server.ended().await, Ended::ByUs(4000));
    assert!(outbox.is_closed());
}

#[tokio::test]
async fn silence_is_pinged_then_ended() {
    let quick = Limits {
        ping_interval: Duration::from_millis(50),
        idle_timeout: Duration::from_millis(300),
        ..limits()
    };
    let mut server = start(local(), quick).await;
    let mut raw = Raw::connect(server.address).await;
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(600) {
        assert_eq!(raw.frame().await, Some((0x89, Vec::new())), "answered pings keep it open");
        raw.send(&masked(0x8A, b"")).await;
    }
    loop {
        match raw.frame().await {
            Some((0x89, _)) => {}
            Some((0x88, payload)) => break assert_eq!(&payload[..2], 1001_u16.to_be_bytes()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(server.ended().await, Ended::Idle);
    assert_eq!(server.metric("edge_ws_idle_timeouts_total"), 1);
}

#[tokio::test]
async fn a_full_outbox_closes_its_socket() {
    let small = Limits { outbox_bytes: 100_000, outbox_frames: 50, ..limits() };
    let mut server = start(local(), small).await;
    let mut raw = Raw::connect(server.address).await;
    let outbox = server.outbox().await;
    let frame = Frame::binary(vec![0; 64 * 1024]);
    let refused = soon(async {
        loop {
            if let Err(error) = outbox.send(frame.clone()) {
                break error;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(refused.await, SendError::Full);
    assert_eq!(outbox.send(frame), Err(SendError::Closed));
    assert_eq!(server.ended().await, Ended::Slow);
    let code = loop {
        match raw.frame().await {
            Some((0x82, _)) => {}
            Some((0x88, payload)) => break u16::from_be_bytes([payload[0], payload[1]]),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(code, 1013);
    assert_eq!(server.metric("edge_ws_outbox_overflows_total"), 1);
}

#[tokio::test]
async fn a_peer_that_never_reads_is_dropped() {
    let quick = Limits { write_timeout: Duration::from_millis(200), ..limits() };
    let mut server = start(local(), quick).await;
    let raw = Raw::connect(server.address).await;
    let outbox = server.outbox().await;
    // One frame larger than what the kernel buffers; it may wait, but not for ever.
    outbox.send(Frame::binary(vec![0; 64 << 20])).unwrap();
    assert_eq!(server.ended().await, Ended::Slow);
    assert_eq!(server.metric("edge_ws_write_timeouts_total"), 1);
    drop(raw);
}

#[tokio::test]
async fn room_in_the_outbox_can_be_waited_for() {
    let small = Limits { outbox_bytes: 256 * 1024, ..limits() };
    let mut server = start(local(), small).await;
    let mut raw = Raw::connect(server.address).await;
    let outbox = server.outbox().await;
    let total = 64 << 20;
    let sending = async {
        let frame = Frame::binary(vec![0; 64 * 1024]);
        for _ in 0..total / (64 * 1024) {
            outbox.ready().await.unwrap();
            outbox.send(frame.clone()).expect("there was room");
        }
    };
    let receiving = async {
        let mut received = 0;
        while received < total {
            received += raw.frame().await.expect("all of it").1.len();
        }
    };
    soon(async { tokio::join!(sending, receiving) }).await;
    outbox.close(1000, "");
    assert_eq!(outbox.ready().await, Err(SendError::Closed));
}

#[tokio::test]
async fn writing_goes_on_while_a_message_is_handled() {
    let mut server = start(local(), limits()).await;
    let mut raw = Raw::connect(server.address).await;
    let outbox = server.outbox().await;
    raw.send(&[masked(0x81, b"sleep 2000"), masked(0x81, b"echo")].concat()).await;
    let since = Instant::now();
    outbox.send(Frame::text("from elsewhere")).unwrap();
    assert_eq!(raw.text().await, "from elsewhere");
    assert!(since.elapsed() < Duration::from_millis(1500));
    assert_eq!(raw.text().await, "echo");
    assert!(since.elapsed() >= Duration::from_millis(1900), "messages are handled in order");
}

#[tokio::test]
async fn pings_are_answered_before_queued_data() {
    let mut server = start(local(), Limits { outbox_bytes: 32 << 20, ..limits() }).await;
    let mut raw = Raw::connect(server.address).await;
    let outbox = server.outbox().await;
    let count = 24;
    for _ in 0..count {
        outbox.send(Frame::binary(vec![0; 1 << 20])).unwrap();
        tokio::task::yield_now().await;
    }
    raw.send(&masked(0x89, b"ping")).await;
    let mut before = 0;
    while let Some((first, payload)) = raw.frame().await {
        match first {
            0x8A => {
                assert_eq!(payload, b"ping");
                assert!(before < count, "the pong overtook what was queued");
                return;
            }
            _ => before += 1,
        }
    }
    panic!("no pong after {before} frames");
}

#[tokio::test]
async fn a_lost_connection_ends_the_session() {
    let mut server = start(local(), limits()).await;
    let raw = Raw::connect(server.address).await;
    drop(raw);
    assert_eq!(server.ended().await, Ended::Lost);
    let raw = Raw::connect(server.address).await;
    let _gone = server.outbox().await;
    server.outbox().await.kill();
    assert_eq!(server.ended().await, Ended::Lost);
    drop(raw);
}

#[tokio::test]
async fn draining_tells_every_socket_to_come_back() {
    let mut server = start(local(), limits()).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(Raw::connect(server.address).await);
        server.outbox().await;
    }
    server.cx.stop.draining().cancel();
    for client in &mut clients {
        assert_eq!(client.close_code().await, 1012);
        client.send(&masked(0x88, &1012_u16.to_be_bytes())).await;
    }
    for _ in 0..8 {
        assert_eq!(server.ended().await, Ended::ByUs(1012));
    }
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody new is let in");
}

#[tokio::test]
async fn killing_does_not_wait_for_handlers() {
    let mut server = start(local(), limits()).await;
    let mut raw = Raw::connect(server.address).await;
    server.outbox().await;
    raw.send(&masked(0x81, b"sleep 60000")).await;
    server.cx.stop.draining().cancel();
    server.cx.stop.killed().cancel();
    assert_eq!(server.ended().await, Ended::Lost);
}

#[tokio::test]
async fn followers_get_the_feed_in_order_with_their_own_frames() {
    let mut server = start(local(), limits()).await;
    let feed = Feed::new(1 << 20, &server.cx);
    feed.append(&Frame::text("before"));
    let (mut a, mut b) = (Raw::connect(server.address).await, Raw::connect(server.address).await);
    let (to_a, to_b) = (server.outbox().await, server.outbox().await);
    to_a.follow(&feed, feed.position());
    to_b.follow(&feed, 0);
    for round in 0..500 {
        let position = feed.append(&Frame::text(format!("feed {round}")));
        if round % 7 == 0 {
            to_a.skip(position);
        }
        if round % 5 == 0 {
            to_b.send(Frame::text(format!("own {round}"))).unwrap();
        }
        if round % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    }
    assert_eq!(b.text().await, "before");
    for round in 0..500 {
        if round % 7 != 0 {
            assert_eq!(a.text().await, format!("feed {round}"));
        }
        assert_eq!(b.text().await, format!("feed {round}"));
        if round % 5 == 0 {
            assert_eq!(b.text().await, format!("own {round}"), "right behind what came before it");
        }
    }
    to_b.unfollow();
    feed.append(&Frame::text("for a alone"));
    to_b.send(Frame::text("done")).unwrap();
    assert_eq!(a.text().await, "for a alone");
    assert_eq!(b.text().await, "done");
    assert_eq!(server.metric("edge_feed_followers"), 1);
}

#[tokio::test]
async fn a_follower_that_falls_off_the_feed_is_closed() {
    let mut server = start(local(), limits()).await;
    let feed = Feed::new(1 << 20, &server.cx);
    let slow = Raw::connect(server.address).await;
    server.outbox().await.follow(&feed, 0);
    let ended = soon(async {
        let frame = Frame::binary(vec![0; 16 * 1024]);
        loop {
            feed.append(&frame);
            if let Ok(how) = server.ended.try_recv() {
                break how;
            }
            tokio::time::sleep(Duration::from_micros(100)).await;
            // The peer has to take a little, or it would be the write timeout's business.
            let mut some = [0; 1024];
            let _ = slow.0.try_read(&mut some);
        }
    });
    assert_eq!(ended.await, Ended::Slow);
    assert_eq!(server.metric("edge_ws_slow_followers_total"), 1);
    assert_eq!(server.metric("edge_feed_followers"), 0);
    assert!(server.metric("edge_feed_bytes") <= 1 << 20);
}

#[tokio::test]
async fn handshakes_that_are_none_are_refused() {
    let server = start(local(), limits()).await;
    let good = common::HANDSHAKE;
    let cases = [
        (426, "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned()),
        (426, good.replace("Upgrade: WebSocket", "Upgrade: h2c")),
        (405, good.replace("GET", "POST")),
        (400, good.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "")),
        (400, good.replace("dGhlIHNhbXBsZSBub25jZQ==", "short==")),
        (400, good.replace("Version: 13", "Version: 12")),
        (400, good.replace("Host: x", "Sec-WebSocket-Protocol: a,,b")),
    ];
    for (status, request) in cases {
        let answer = common::http(server.address, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}\n{answer}");
    }
    let mut raw = Raw(TcpStream::connect(server.address).await.unwrap());
    let offer = "Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Extensions: \
                 permessage-deflate\r\nHost: x";
    raw.send(good.replace("Host: x", offer).replace(": 13", ": 8").as_bytes()).await;
    let head = raw.head().await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("sec-websocket-protocol: chat\r\n"), "{head}");
    assert!(!head.contains("extensions"), "{head}");
}

#[tokio::test]
async fn what_comes_with_the_handshake_is_not_lost() {
    let server = start(local(), limits()).await;
    let mut raw = Raw(TcpStream::connect(server.address).await.unwrap());
    let eager = [common::HANDSHAKE.as_bytes(), &masked(0x81, b"early")[..]].concat();
    raw.0.write_all(&eager[..eager.len() - 3]).await.unwrap();
    raw.head().await;
    raw.0.write_all(&eager[eager.len() - 3..]).await.unwrap();
    assert_eq!(raw.text().await, "early");
}

#[tokio::test]
async fn a_flood_of_small_messages_fits_its_own_outbox() {
    let small = Limits { outbox_frames: 64, ..limits() };
    let server = start(local(), small).await;
    let raw = Raw::connect(server.address).await;
    let (mut reading, mut writing) = raw.0.into_split();
    let count = 50_000;
    let flood = masked(0x81, b"hi").repeat(count);
    let sending = async { writing.write_all(&flood).await.unwrap() };
    let receiving = async {
        let mut received = vec![0; count * 4];
        reading.read_exact(&mut received).await.unwrap();
        assert_eq!(received, b"\x81\x02hi".repeat(count));
    };
    soon(async { tokio::join!(sending, receiving) }).await;
}
