//! Connections by WebRTC as far as HTTP goes: whose offers are taken, and how many. What goes over
//! the channel is tested with a browser, in `tests/e2e`.
#![cfg(feature = "webrtc")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Server, until};
use sqlx::PgPool;
use testkit::{database::Database, http_client::HttpClient, process::Service};

const ON: [&str; 4] = ["--rtc-listen", "127.0.0.1:0", "--public-url", "https://book.example.org"];

/// What a browser offers that wants a data channel.
fn offer(fp: &str) -> String {
    let pairs: Vec<&str> =
        fp.as_bytes().chunks(2).map(|two| str::from_utf8(two).unwrap()).collect();
    let print = pairs.join(":");
    [
        "v=0",
        "o=- 1 2 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
        "c=IN IP4 0.0.0.0",
        "a=ice-ufrag:abcd",
        "a=ice-pwd:abcdefghijklmnopqrstuvwx",
        &format!("a=fingerprint:sha-256 {print}"),
        "a=setup:actpass",
        "a=mid:0",
        "a=sctp-port:5000",
        "a=max-message-size:262144",
        "",
    ]
    .join("\r\n")
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn without_an_address_there_is_no_such_interface(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    let (status, _) = server.request("POST", "/offer", &offer(&"AB".repeat(32))).await;
    assert_eq!(status, 404);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn offers_of_verified_peers_are_answered_and_strange_ones_refused(pool: PgPool) {
    let server = Server::start(&pool, &ON).await;
    let (fp, stranger) = ("AB".repeat(32), "CD".repeat(32));
    server.user("ada@example.org", &[&fp]).await;
    let post = async |body: String| server.request("POST", "/offer", &body).await;

    let (status, answer) = post(offer(&fp)).await;
    assert_eq!(status, 201, "{answer}");
    for line in ["a=ice-lite", "a=setup:passive", "a=candidate:", "127.0.0.1", "a=fingerprint:"] {
        assert!(answer.contains(line), "no {line} in {answer}");
    }
    assert_eq!(post(offer(&stranger)).await, (401, "Unauthorized\n".to_owned()));
    let no_fingerprint = "Failed to get fingerprint from sdp: expected one sha-256\n";
    for body in [String::new(), "v=0".to_owned(), offer("ZZ"), offer(&fp) + &offer(&stranger)] {
        assert_eq!(post(body).await, (400, no_fingerprint.to_owned()));
    }
    let broken = offer(&fp).replace("m=application", "m=");
    assert_eq!(post(broken).await.0, 400);
    assert_eq!(server.request("GET", "/offer", "").await, (400, "Invalid method\n".to_owned()));
    assert!(server.metric("peerbook_rtc_offers_total", "malformed") >= 5.0);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn an_address_has_so_many_connections_and_unused_ones_end(pool: PgPool) {
    let bounds = ["--rtc-strangers", "all", "--rtc-max-per-address", "2"];
    let short = ["--rtc-connect-within", "1s"];
    let server = Server::start(&pool, &[&ON[..], &bounds, &short].concat()).await;
    let post = async || server.request("POST", "/offer", &offer(&"AB".repeat(32))).await.0;
    assert_eq!((post().await, post().await, post().await), (201, 201, 429));
    until("both are given up", async || server.metric("peerbook_rtc_peers", "") == 0.0).await;
    assert_eq!(post().await, 201, "their places are free again");
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn candidates_are_checked_and_any_process_takes_them(pool: PgPool) {
    let server = Server::start(&pool, &ON).await;
    let place = format!("/candidates/{}", "0f".repeat(16));
    let candidate = r#"{"candidate":"candidate:1 1 udp 1 192.0.2.1 9 typ host","sdpMid":"0"}"#;
    for (method, path, body, expected) in [
        ("PATCH", place.as_str(), candidate, 204),
        ("PATCH", &place, "[]", 400),
        ("PATCH", &place, "{", 400),
        ("PATCH", "/candidates/none", candidate, 400),
        ("PATCH", "/candidates/../../ws", candidate, 400),
        ("DELETE", &place, "", 204),
        ("GET", &place, "", 400),
    ] {
        let (status, text) = server.request(method, path, body).await;
        assert_eq!(status, expected, "{method} {path} {body}: {text}");
    }
}

#[tokio::test]
async fn a_drain_ends_with_the_connections_and_not_with_its_grace() {
    let database = Database::fresh().await.unwrap();
    let service = Service::named("peerbook").database(&database.url());
    let service = service.set("PUBLIC_URL", "https://book.example.org");
    let service = service.set("RTC_LISTEN", "127.0.0.1:0").set("RTC_STRANGERS", "all");
    let mut service = service.start().await.unwrap();
    let http = HttpClient::plain(service.address()).new_connections();
    let answer = http.post("/offer", offer(&"AB".repeat(32))).await.unwrap();
    assert_eq!(answer.status, 201, "one connection is being made: {}", answer.text());
    let status = service.terminate().await.unwrap();
    assert!(status.success(), "{status}: {}", service.log());
    assert!(!service.log().contains("killing"), "{}", service.log());
}
