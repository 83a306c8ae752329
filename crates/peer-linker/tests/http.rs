//! HTTP pads, and the page.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use common::{Server, until};
use http::Method;
use proto::pad::certificate;
use sqlx::PgPool;
use testkit::http_client::HttpClient;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn client(server: &Server) -> HttpClient {
    HttpClient::plain(server.address).new_connections()
}

async fn put(server: &Server, name: &str, body: impl Into<Bytes>) -> (u16, String) {
    let path = format!("/pad/{name}");
    let answer = client(server).send(Method::PUT, &path, &[], body.into()).await.unwrap();
    (answer.status, answer.text())
}

async fn waiting(server: &Server, count: f64) {
    until("it waits", async || server.metric("peer_linker_http_pads", "") == count).await;
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_put_goes_to_whoever_gets(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    let body: Vec<u8> = (0..3 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
    let reader = client(&server);
    for sender_first in [true, false] {
        let send = async {
            if !sender_first {
                waiting(&server, 1.0).await;
            }
            put(&server, "a%20b", body.clone()).await
        };
        let read = async {
            if sender_first {
                waiting(&server, 1.0).await;
            }
            reader.get("/pad/a%20b").await.unwrap()
        };
        let (sent, read) = tokio::join!(send, read);
        assert_eq!(sent, (200, format!("{} bytes passed\n", body.len())));
        assert_eq!(read.status, 200);
        assert_eq!(read.header("content-length"), body.len().to_string());
        assert!(read.body == body, "the body arrives as it was");
    }
    assert_eq!(server.metric("peer_linker_http_transfers_total", "done"), 2.0);
    waiting(&server, 0.0).await;
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_second_of_the_same_kind_is_refused(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    let read = async { client(&server).get("/pad/x").await.unwrap() };
    let others = async {
        waiting(&server, 1.0).await;
        let second = client(&server).get("/pad/x").await.unwrap();
        assert_eq!((second.status, &*second.text()), (409, "this pad is in use\n"));
        put(&server, "x", "found").await
    };
    let (first, sent) = tokio::join!(read, others);
    assert_eq!((first.status, &first.body[..], sent.0), (200, &b"found"[..], 200));
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn nobody_comes(pool: PgPool) {
    let server = Server::start(&pool, &["--http-meet-time", "100ms"]).await;
    assert_eq!(client(&server).get("/pad/x").await.unwrap().status, 504);
    assert_eq!(put(&server, "x", "lost").await.0, 504);
    assert_eq!(server.metric("peer_linker_http_transfers_total", "unmet"), 2.0);
}

/// Everything until the end of the connection.
async fn raw(address: SocketAddr, request: &str) -> (TcpStream, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    (stream, Vec::new())
}

/// A sender that dies must not look like a sender that is done: neither with a length nor without.
#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_broken_transfer_is_broken_for_the_reader(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    for head in
        ["Content-Length: 1000\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"]
    {
        let (mut reader, mut answer) =
            raw(server.address, "GET /pad/x HTTP/1.1\r\nHost: x\r\n\r\n").await;
        waiting(&server, 1.0).await;
        let (sender, _) =
            raw(server.address, &format!("PUT /pad/x HTTP/1.1\r\nHost: x\r\n{head}")).await;
        until("half of it is here", async || {
            reader.read_buf(&mut answer).await.unwrap();
            answer.windows(4).any(|window| window == b"half")
        })
        .await;
        drop(sender);
        let _ = reader.read_to_end(&mut answer).await; // a reset is as good as an end
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        assert!(!text.ends_with("0\r\n\r\n"), "a clean end of {text}");
        waiting(&server, 0.0).await;
    }
    assert_eq!(server.metric("peer_linker_http_transfers_total", "broken"), 2.0);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_reader_that_leaves_is_reported_to_the_sender(pool: PgPool) {
    let server = Server::start(&pool, &["--http-stall-time", "2s"]).await;
    let (mut reader, mut answer) =
        raw(server.address, "GET /pad/x HTTP/1.1\r\nHost: x\r\n\r\n").await;
    waiting(&server, 1.0).await;
    let send = put(&server, "x", vec![0; 30 << 20]);
    let leave = async {
        until("some of it is here", async || {
            reader.read_buf(&mut answer).await.unwrap();
            answer.len() > 1000
        })
        .await;
        drop(reader);
    };
    let (sent, ()) = tokio::join!(send, leave);
    assert!(sent.0 == 502 || sent.0 == 504, "{sent:?}");
    waiting(&server, 0.0).await;
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn with_a_key_a_certificate_is_needed(pool: PgPool) {
    let key: PathBuf = std::env::temp_dir().join(format!("pad-key-{}", std::process::id()));
    std::fs::write(&key, b"the secret").unwrap();
    let settings = ["--key", key.to_str().unwrap(), "--http-meet-time", "100ms"];
    let server = Server::start(&pool, &settings).await;
    until("it has read the key", async || client(&server).get("/").await.is_ok()).await;
    std::fs::remove_file(&key).unwrap();
    let good = STANDARD.encode(certificate::issue(b"the secret", b"user=x"));
    let bad = STANDARD.encode(certificate::issue(b"another", b"user=x"));
    let get = async |token: Option<&str>| {
        let header = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> =
            header.iter().map(|header| ("authorization", header.as_str())).collect();
        let got = client(&server).send(Method::GET, "/pad/x", &headers, Bytes::new()).await;
        got.unwrap().status
    };
    assert_eq!(get(None).await, 401);
    assert_eq!(get(Some(&bad)).await, 401);
    assert_eq!(get(Some("?")).await, 401);
    assert_eq!(get(Some(&good)).await, 504, "let in, and nobody came");
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn other_requests_get_a_page_or_a_refusal(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    let http = client(&server);
    for path in ["/", "/index.html", "/anything"] {
        let page = http.get(path).await.unwrap();
        assert_eq!((page.status, page.header("cache-control")), (200, "no-store"));
        assert!(page.text().starts_with("peer-linker\n"));
    }
    assert_eq!(http.get("/pad/").await.unwrap().status, 400);
    assert_eq!(http.get("/pad/%zz").await.unwrap().status, 400);
    let posted = http.send(Method::POST, "/pad/x", &[], Bytes::new()).await.unwrap();
    assert_eq!((posted.status, posted.header("allow")), (405, "GET, PUT"));
    let off = Server::start(&pool, &["--http-pads", "0"]).await;
    assert_eq!(client(&off).get("/pad/x").await.unwrap().status, 404);
    let full = Server::start(&pool, &["--http-pads", "1"]).await;
    let first = client(&full);
    let mut one = std::pin::pin!(first.get("/pad/1"));
    let refused = async {
        waiting(&full, 1.0).await;
        client(&full).get("/pad/2").await.unwrap()
    };
    tokio::select! {
        answered = &mut one => panic!("{answered:?}"),
        refused = refused => assert_eq!((refused.status, refused.header("retry-after")), (503, "5")),
    }
    assert!(tokio::time::timeout(Duration::from_millis(1), one).await.is_err());
}
