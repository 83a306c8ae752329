//! What broken and hostile clients get.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::time::{Duration, Instant};

use common::{WHO, rest, soon, start, start_on};
use edge::{ListenArgs, ws::Ended};
use packets::PacketArgs;
use proto::pad::{certificate, cipher, kind};
use service::Clock;
use testkit::pad_client::{Generation, PadClient, Program};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const UPGRADE: &str = "GET /any HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// A WebSocket frame from a client, masked, of this first byte.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u16::try_from(payload.len()) {
        Ok(length) if length < 126 => frame.push(0x80 | length.to_be_bytes()[1]),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend(length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend((payload.len() as u64).to_be_bytes());
        }
    }
    let mask = [1, 2, 3, 4];
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

async fn answer(server: &common::Server, request: &str) -> String {
    let mut stream = server.raw(request.as_bytes()).await;
    let mut head = vec![0; 4096];
    let read = soon(stream.read(&mut head)).await.unwrap();
    String::from_utf8_lossy(&head[..read]).into_owned()
}

async fn websocket(server: &common::Server) -> tokio::net::TcpStream {
    let request = format!("{UPGRADE}Sec-WebSocket-Protocol: peer-linker\r\n\r\n");
    let mut stream = server.raw(request.as_bytes()).await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.unwrap());
    }
    stream
}

#[tokio::test]
async fn a_websocket_has_to_ask_for_the_services_protocol() {
    let server = start(PacketArgs::default()).await;
    for offered in ["", "Sec-WebSocket-Protocol: channel-hub, Peer-Linker, http-only\r\n"] {
        let answer = answer(&server, &format!("{UPGRADE}{offered}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let list = "Sec-WebSocket-Protocol: other\r\nSec-WebSocket-Protocol: a, peer-linker\r\n";
    let accepted = answer(&server, &format!("{UPGRADE}{list}\r\n")).await;
    assert!(accepted.starts_with("HTTP/1.1 101"), "{accepted}");
    assert!(accepted.to_lowercase().contains("sec-websocket-protocol: peer-linker\r\n"));
    let plain = answer(&server, "GET /page HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(plain.ends_with("you asked for /page"), "{plain}");
    let h2c = "GET /page HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n";
    let plain = answer(&server, h2c).await;
    assert!(plain.ends_with("you asked for /page"), "{plain}");
}

#[tokio::test]
async fn messages_that_are_no_packets_get_error_zero_and_the_connection_stays() {
    let server = start(PacketArgs::default()).await;
    let mut client = server.connect(Generation::WebSocket).await;
    let long = vec![0; 65_536];
    let cases: [&[u8]; 6] =
        [b"x", &[7, 0, 0, 0, 0, 0, 0], &[9, 0, 2, 0, 1, 0, 0, 0], &long, &[0; 8], &[0; 300_000]];
    for (round, case) in cases.into_iter().enumerate() {
        client.send_raw(b"").await.unwrap(); // ignored
        client.send_raw(case).await.unwrap();
        let packet = client.next().await.unwrap();
        assert_eq!((packet.kind, packet.id), (kind::ERROR, 0), "case {round}");
        if round == 2 {
            assert!(client.activate(b"").await.unwrap());
        }
    }
    assert!(!client.ask(99, b"").await.unwrap());
    assert_eq!(server.metric("packets_malformed_total"), 6);
}

#[tokio::test]
async fn messages_may_be_text_and_in_pieces_around_pings() {
    let server = start(PacketArgs::default()).await;
    let mut stream = websocket(&server).await;
    let activate = [8, 0, 2, 0, 0xff, 0xfe, 0xfd, 0xfc];
    // Text that is no UTF-8, in three pieces; then one that is too long, in pieces too.
    let mut sent = masked(0x01, &activate[..3]);
    sent.extend(masked(0x00, b""));
    sent.extend(masked(0x89, b"alive?"));
    sent.extend(masked(0x80, &activate[3..]));
    sent.extend(masked(0x02, &[1; 40_000]));
    sent.extend(masked(0x00, &[2; 40_000]));
    sent.extend(masked(0x89, b"still?"));
    sent.extend(masked(0x80, &[3; 1_000]));
    stream.write_all(&sent).await.unwrap();
    let mut expected = vec![0x8a, 6];
    expected.extend(b"alive?");
    let answers = [
        &expected[..],
        &[0x82, 8, 8, 0, 0, 0, 0xff, 0xfe, 0xfd, 0xfc],
        &[0x8a, 6, b's', b't', b'i', b'l', b'l', b'?'],
        &[0x82, 8, 8, 0, 1, 0, 0, 0, 0, 0],
    ];
    let mut seen = vec![0; answers.iter().map(|answer| answer.len()).sum()];
    soon(stream.read_exact(&mut seen)).await.unwrap();
    // A pong goes before everything that waits, so its place depends on when the bytes arrive.
    for answer in answers {
        assert!(seen.windows(answer.len()).any(|bytes| bytes == answer), "{answer:?} in {seen:?}");
    }
}

#[tokio::test]
async fn frames_that_break_the_rules_close_the_connection() {
    let server = start(PacketArgs::default()).await;
    let cases: [&[u8]; 4] = [
        &[0x82, 8, 8, 0, 2, 0, 1, 0, 0, 0],
        &masked(0x83, b"x"),
        &masked(0x80, b"x"),
        &masked(0x89, &[0; 126]),
    ];
    for frame in cases {
        let mut stream = websocket(&server).await;
        stream.write_all(frame).await.unwrap();
        let told = rest(&mut stream).await;
        assert_eq!((told[0], &told[2..4]), (0x88, &1002_u16.to_be_bytes()[..]), "{frame:?}");
    }
}

#[tokio::test]
async fn unreadable_frames_are_dropped_and_the_connection_stays() {
    let server = start(PacketArgs::default()).await;
    let mut client = server.client(Generation::Encrypted).await;
    for wire in [&[0, 0][..], &[1, 0, 7], &[&[32, 0][..], &[0; 32]].concat()] {
        client.send_wire(wire).await.unwrap();
    }
    client.send_wire(&[&[0xff, 0xff][..], &[1; 65_535]].concat()).await.unwrap();
    for plain in [&b"\x10"[..], b"\x10\x01\x00"] {
        client.send_raw(plain).await.unwrap(); // shorter than a header
    }
    client.send(kind::ERROR, 5, b"").await.unwrap(); // the service answers this one
    assert!(!client.answer_to(5).await.unwrap());
    client.send_raw(&[kind::ACTIVATE.to_le_bytes()[0], 6, 0x77, 0x77, 0, 0]).await.unwrap();
    assert!(client.answer_to(6).await.unwrap(), "the size in the header does not matter");
    assert!(!client.ask(kind::ACTIVATE, &[7, 0, b'x']).await.unwrap(), "a string cut short");
    assert_eq!(server.metric("packets_unreadable_total"), 4);
}

#[tokio::test]
async fn before_activation_an_encrypted_error_is_not_answered() {
    let server = start(PacketArgs::default()).await;
    let mut client = server.connect(Generation::Encrypted).await;
    client.send(kind::ERROR, 1, b"").await.unwrap();
    client.send(kind::SUCCESS, 2, b"").await.unwrap();
    let first = client.next().await.unwrap();
    assert_eq!((first.kind, first.id), (kind::ERROR, 2));
    let mut client = server.connect(Generation::WebSocket).await;
    client.send(kind::ERROR, 1, b"").await.unwrap();
    let first = client.next().await.unwrap();
    assert_eq!((first.kind, first.id), (kind::ERROR, 1), "the other generation answers all");
}

#[tokio::test]
async fn first_bytes_that_mean_nothing_are_closed_without_an_answer() {
    let server = start(PacketArgs::default()).await;
    let zero_point = [&cipher::HANDSHAKE_HEADER[..], &[0; 32]].concat();
    let wrong_length = [&[31, 0][..], &[9; 31]].concat();
    let cases: [&[u8]; 6] =
        [b"\0\0", b"\x16\x03\x01\x00\x05hello", &wrong_length, b"\x20\x01", &zero_point, b"\xff"];
    for bytes in cases {
        let mut stream = server.raw(bytes).await;
        assert_eq!(rest(&mut stream).await, b"", "{bytes:?}");
    }
    assert_eq!(server.metric("packets_closed_total{reason=\"first_byte\"}"), 4);
    assert_eq!(server.metric("packets_closed_total{reason=\"handshake\"}"), 2);
    assert!(server.client(Generation::Encrypted).await.activate(b"").await.unwrap());
}

#[tokio::test]
async fn slow_beginnings_time_out() {
    let files = common::Files::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let listen = ListenArgs {
        header_timeout: Duration::from_millis(400),
        tls_cert: Some(files.write("cert", made.cert.pem().as_bytes())),
        tls_key: Some(files.write("key", made.signing_key.serialize_pem().as_bytes())),
        ..ListenArgs::at("127.0.0.1:0")
    };
    let server = start_on(listen, PacketArgs::default(), Clock::system()).await;
    let half_hello = [&cipher::HANDSHAKE_HEADER[..], &[9; 20]].concat();
    let beginnings: [&[u8]; 5] =
        [b"", b"\x20", &half_hello, b"GET / HT", b"\x16\x03\x01\x02\x00\x01"];
    for bytes in beginnings {
        let begun = Instant::now();
        let mut stream = server.raw(bytes).await;
        rest(&mut stream).await;
        assert!(begun.elapsed() >= Duration::from_millis(300), "{bytes:?} ended at once");
    }
    // The same port still serves every protocol.
    let mut tls = PadClient::connect_tls(Program::PeerLinker, server.address).await.unwrap();
    assert!(tls.activate(b"").await.unwrap());
    tls.send(WHO, 3, b"").await.unwrap();
    assert_eq!(tls.next().await.unwrap().kind, WHO);
    for generation in Generation::BOTH {
        server.client(generation).await;
    }
}

#[tokio::test]
async fn a_websocket_is_pinged_whatever_it_sends_and_dropped_without_a_pong() {
    let mut server = start(PacketArgs {
        ping_interval: Duration::from_millis(400),
        pong_timeout: Duration::from_millis(300),
        ..PacketArgs::default()
    })
    .await;
    let mut stream = websocket(&server).await;
    stream.write_all(&masked(0x82, &[8, 0, 2, 0, 1, 0, 0, 0])).await.unwrap();
    let mut success = [0; 10];
    soon(stream.read_exact(&mut success)).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let talk = async {
        while writing.write_all(&masked(0x82, b"")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let listen = async {
        let mut ping = [0; 2];
        soon(reading.read_exact(&mut ping)).await.unwrap();
        assert_eq!(ping, [0x89, 0]);
        let mut rest = Vec::new();
        let _ = soon(reading.read_to_end(&mut rest)).await; // a reset is an end too
        assert_eq!(rest, b"", "no close frame");
    };
    tokio::select! { () = talk => {} () = listen => {} }
    assert_eq!(server.gone().await, Ended::Idle);
    assert_eq!(server.metric("packets_closed_total{reason=\"pong_timeout\"}"), 1);
}

#[tokio::test]
async fn a_websocket_that_answers_pings_stays() {
    let server = start(PacketArgs {
        ping_interval: Duration::from_millis(100),
        pong_timeout: Duration::from_secs(5),
        ..PacketArgs::default()
    })
    .await;
    let mut stream = websocket(&server).await;
    for _ in 0..4 {
        let mut ping = [0; 2];
        soon(stream.read_exact(&mut ping)).await.unwrap();
        assert_eq!(ping, [0x89, 0]);
        stream.write_all(&masked(0x8a, b"")).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_asks_and_never_reads_is_stopped() {
    let files = common::Files::new();
    let mut server = start(PacketArgs {
        key: Some(files.write("key", b"secret")),
        control_max: 256 * 1024,
        write_deadline: Duration::from_millis(500),
        ..PacketArgs::default()
    })
    .await;
    // Answers as long as the name of who asks.
    let certificate = certificate::issue(b"secret", &[b'x'; 60_000]);
    for generation in Generation::BOTH {
        let mut client = server.connect(generation).await;
        assert!(client.activate(&certificate).await.unwrap());
        let (mut sender, _receiver) = client.into_halves();
        let flood = async { while sender.send(WHO, 1, b"").await.is_ok() {} };
        let how = tokio::select! { () = flood => server.gone().await, how = server.gone() => how };
        assert_eq!(how, Ended::Slow, "{generation:?}");
    }
}
