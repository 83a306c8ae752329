//! Who is let in.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{fs, path::PathBuf, time::Duration};

use common::{Files, Server, WHO, soon, start, start_on};
use edge::ListenArgs;
use packets::PacketArgs;
use proto::pad::{certificate::issue, kind};
use service::Clock;
use testkit::pad_client::Generation;

const SECRET: &[u8] = b"\x00any bytes\xff\n";

/// Settings with the secret, and with this verifier if there is one.
fn locked(files: &Files, verifier: Option<PathBuf>) -> PacketArgs {
    PacketArgs {
        key: Some(files.write("key", SECRET)),
        cert_verifier: verifier,
        ..PacketArgs::default()
    }
}

async fn accepts(server: &Server, certificate: &[u8]) -> bool {
    let mut client = server.connect(Generation::Encrypted).await;
    client.activate(certificate).await.unwrap()
}

#[tokio::test]
async fn only_holders_of_a_certificate_become_active() {
    let files = Files::new();
    let server = start(locked(&files, None)).await;
    let good = issue(SECRET, b"user=\xfe\x00any bytes\n");
    for generation in Generation::BOTH {
        let mut client = server.connect(generation).await;
        assert!(!client.ask(WHO, b"").await.unwrap(), "not yet");
        for bad in [&b""[..], &good[1..], &issue(b"another secret", b"user=x"), &[0xff; 60_000]] {
            assert!(!client.activate(bad).await.unwrap());
        }
        assert!(!client.ask(WHO, b"").await.unwrap(), "still not");
        assert!(client.activate(&good).await.unwrap());
        assert!(!client.activate(b"rubbish").await.unwrap(), "a repetition is checked");
        assert!(client.activate(&good).await.unwrap(), "and may succeed");
        client.send(WHO, 7, b"").await.unwrap();
        let who = client.next().await.unwrap();
        assert_eq!((who.id, &who.body[..]), (7, &b"user=\xfe\x00any bytes\n"[..]));
    }
    assert_eq!(server.metric("packets_activations_total{outcome=\"refused\"}"), 10);
}

#[tokio::test]
async fn refused_tries_are_counted_and_end_the_connection() {
    let files = Files::new();
    let args = PacketArgs { activation_tries: 3, ..locked(&files, None) };
    let server = start(args).await;
    for (generation, code) in [(Generation::WebSocket, Some(1008)), (Generation::Encrypted, None)] {
        let mut client = server.connect(generation).await;
        for _ in 0..3 {
            assert!(!client.activate(b"guess").await.unwrap(), "each is answered");
        }
        assert_eq!(client.closed().await.unwrap(), code);
    }
    assert_eq!(server.metric("packets_closed_total{reason=\"activation_tries\"}"), 2);
}

#[tokio::test]
async fn whoever_does_not_activate_in_time_is_closed() {
    let server = start(PacketArgs {
        activation_timeout: Duration::from_millis(300),
        ..PacketArgs::default()
    });
    let server = server.await;
    let mut active = server.client(Generation::Encrypted).await;
    assert_eq!(server.connect(Generation::WebSocket).await.closed().await.unwrap(), Some(1008));
    assert_eq!(server.connect(Generation::Encrypted).await.closed().await.unwrap(), None);
    assert!(!active.ask(99, b"").await.unwrap(), "who is active stays");
}

#[tokio::test]
async fn rules_end_certificates() {
    let files = Files::new();
    let (clock, hand) = Clock::manual(1_735_689_599_000); // 2024-12-31 23:59:59 UTC
    let args = PacketArgs { cert_rules: true, ..locked(&files, None) };
    let server = start_on(ListenArgs::at("127.0.0.1:0"), args, clock).await;
    let dated = issue(SECRET, b"user=origin\nexpire=20241231\n");
    assert!(accepts(&server, &dated).await);
    hand.advance(1_000);
    assert!(!accepts(&server, &dated).await);
    assert!(accepts(&server, &issue(SECRET, b"user=origin\n")).await, "no rule, no end");
    assert!(!accepts(&server, &issue(SECRET, b"expires=soon")).await, "nobody knows when");
}

#[tokio::test]
async fn without_rules_a_date_is_only_text() {
    let files = Files::new();
    let server = start(locked(&files, None)).await;
    assert!(accepts(&server, &issue(SECRET, b"expires=1")).await);
}

#[tokio::test]
async fn the_program_has_the_last_word() {
    let files = Files::new();
    let verifier = files.script("verify", "[ \"$1\" = \"user=example\" ]");
    let server = start(locked(&files, Some(verifier))).await;
    assert!(accepts(&server, &issue(SECRET, b"user=example")).await);
    assert!(accepts(&server, &issue(SECRET, b"user=example\0cut here")).await);
    assert!(!accepts(&server, &issue(SECRET, b"user=other")).await);
    assert!(!accepts(&server, &issue(b"another secret", b"user=example")).await);
    assert_eq!(server.metric("packets_verifier_runs_total{outcome=\"refused\"}"), 1);
    assert_eq!(server.metric("packets_verifier_runs_total{outcome=\"accepted\"}"), 2);
}

#[tokio::test]
async fn the_program_is_alone_with_one_argument() {
    let files = Files::new();
    let seen = files.path().join("seen");
    let script = format!(
        "{{ echo $#; wc -c; ls -l /proc/self/fd | grep -c socket:; printf %s \"$1\"; }} > {}",
        seen.display()
    );
    let verifier = files.script("verify", &script);
    let server = start(locked(&files, Some(verifier))).await;
    let _other = server.connect(Generation::WebSocket).await;
    assert!(accepts(&server, &issue(SECRET, b"--flag 'quoted' $HOME \xff\n")).await);
    let seen = fs::read(seen).unwrap();
    // One argument, nothing to read, no socket of ours or of another client.
    assert_eq!(seen, b"1\n0\n0\n--flag 'quoted' $HOME \xff\n");
}

#[tokio::test]
async fn programs_that_fail_in_any_way_refuse() {
    let files = Files::new();
    let certificate = issue(SECRET, b"user=example");
    let big = "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2";
    let cases = [
        (files.path().join("missing"), false),
        (files.write("not-executable", b"#!/bin/sh\nexit 0\n"), false),
        (files.script("killed", "kill -KILL $$"), false),
        (files.script("two", "exit 2"), false),
        (files.script("talkative", big), true),
        (files.script("leaves-a-child", "sleep 60 & exit 0"), true),
    ];
    for (verifier, accepted) in cases {
        let name = verifier.display().to_string();
        let server = start(locked(&files, Some(verifier))).await;
        assert_eq!(soon(accepts(&server, &certificate)).await, accepted, "{name}");
    }
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_its_children() {
    let files = Files::new();
    let mark = files.path().join("alive");
    let script = format!("(sleep 2; echo late > {}) & sleep 600", mark.display());
    let args = PacketArgs {
        cert_verifier_timeout: Duration::from_millis(300),
        ..locked(&files, Some(files.script("hangs", &script)))
    };
    let server = start(args).await;
    assert!(!soon(accepts(&server, &issue(SECRET, b"x"))).await);
    assert_eq!(server.metric("packets_verifier_runs_total{outcome=\"timeout\"}"), 1);
    tokio::time::sleep(Duration::from_secs(3)).await; // longer than the child would have taken
    assert!(!mark.exists(), "the child went on");
}

#[tokio::test]
async fn packets_wait_for_the_verdict_and_other_clients_do_not() {
    let files = Files::new();
    let go = files.path().join("go");
    let script =
        format!("while [ \"$1\" = slow ] && [ ! -e {} ]; do sleep 0.02; done", go.display());
    let server = start(locked(&files, Some(files.script("waits", &script)))).await;
    for generation in Generation::BOTH {
        let _ = fs::remove_file(&go);
        let mut slow = server.connect(generation).await;
        let body = slow.string(&issue(SECRET, b"slow")).unwrap();
        slow.send(kind::ACTIVATE, 1, &body).await.unwrap();
        slow.send(WHO, 2, b"").await.unwrap();
        slow.send(99, 3, b"").await.unwrap();
        assert!(accepts(&server, &issue(SECRET, b"quick")).await, "another client is served");
        fs::write(&go, b"").unwrap();
        let mut answers = Vec::new();
        for _ in 0..3 {
            let packet = slow.next().await.unwrap();
            answers.push((packet.kind, packet.id, packet.body.to_vec()));
        }
        let expected =
            [(kind::SUCCESS, 1, vec![]), (WHO, 2, b"slow".to_vec()), (kind::ERROR, 3, vec![])];
        assert_eq!(answers, expected, "in order");
    }
}

#[tokio::test]
async fn without_a_key_no_program_is_asked() {
    let files = Files::new();
    let cert_verifier = Some(files.script("refuses", "exit 1"));
    let server = start(PacketArgs { cert_verifier, ..PacketArgs::default() }).await;
    assert!(accepts(&server, b"whatever").await);
}

#[tokio::test]
async fn a_key_that_cannot_be_read_fails_the_start() {
    let files = Files::new();
    let args = PacketArgs { key: Some(files.path().join("none")), ..PacketArgs::default() };
    let cx = service::Context::for_tests();
    let refused = packets::Packets::new(&args, &cx).err().unwrap().to_string();
    assert!(refused.contains("cannot read the key"), "{refused}");
}

#[test]
fn a_bearer_header_holds_a_whole_certificate() {
    let certificate = issue(SECRET, b"user=example\n");
    let mut text = b"bEARER  ".to_vec();
    proto::base64::encode(&certificate, &mut text);
    assert_eq!(packets::bearer(&text).as_deref(), Some(&certificate[..]));
    assert_eq!(packets::bearer(b"Basic QUFB"), None);
    assert_eq!(packets::bearer(b"Bearer"), None);
}
