//! HTTP pads, and the page.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use common::{
    Server,
    http::{SECRET, broken, client, left, put, through, waiting, with_key},
};
use http::Method;
use proto::pad::certificate;
use sqlx::PgPool;

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_put_goes_to_whoever_gets(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    through([&server, &server]).await;
    assert_eq!(server.metric("peer_linker_http_transfers_total", "done"), 2.0);
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

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_broken_transfer_is_broken_for_the_reader(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    broken([&server, &server]).await;
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_reader_that_leaves_is_reported_to_the_sender(pool: PgPool) {
    let server = Server::start(&pool, &["--http-stall-time", "2s"]).await;
    left([&server, &server]).await;
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn with_a_key_a_certificate_is_needed(pool: PgPool) {
    let server = with_key(&pool, "one", &["--http-meet-time", "100ms"]).await;
    let good = STANDARD.encode(certificate::issue(SECRET, b"user=x"));
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
