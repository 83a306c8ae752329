//! JSON, a page, or a stream: what a request gets for what it says it wants (scenario 2).
#![allow(missing_docs, reason = "a test")]

mod common;

use anyhow::ensure;
use bytes::Bytes;
use common::{ROOM, code, node};
use http::{Method, Request};
use http_body_util::Full;
use testkit::database::Database;
use testkit::http_client::HttpClient;

const JSON: &str = "application/json";
const PAGE: &str = "text/html; charset=utf-8";
const STREAM: &str = "text/event-stream";

type Row = (&'static [(&'static str, &'static str)], &'static str, &'static str);

/// Headers; what they get anywhere; what they get of a room.
const ROWS: [Row; 9] = [
    (&[], PAGE, STREAM),
    (&[("accept", "*/*")], PAGE, STREAM),
    (&[("accept", "application/json")], JSON, JSON),
    (&[("accept", "text/html,application/xhtml+xml,*/*;q=0.8")], PAGE, PAGE),
    (&[("accept", "text/event-stream")], PAGE, STREAM),
    (&[("content-type", "json")], JSON, JSON),
    (&[("content-type", "application/json")], JSON, JSON),
    (&[("content-type", "application/ld+json"), ("accept", "text/html")], JSON, JSON),
    (
        &[("content-type", "text/plain"), ("accept", "text/html;q=0.2, application/json")],
        JSON,
        JSON,
    ),
];

#[tokio::test]
async fn every_path_answers_as_it_is_asked() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let node = node(&database).start().await?;
    let client = HttpClient::plain(node.address()).new_connections();
    let room = format!("/room/{ROOM}");
    let key = format!("/dht-get?k={ROOM}");
    // What is refused is refused in the form that was asked for.
    let paths = [
        (Method::GET, "/"),
        (Method::GET, "/nodes"),
        (Method::GET, "/ip"),
        (Method::GET, "/token"),
        (Method::POST, "/token"),
        (Method::GET, &key),
        (Method::POST, "/dht-put"),
        (Method::POST, &room),
        (Method::GET, &room),
        (Method::GET, "/nothing"),
        (Method::PUT, "/"),
    ];
    for (headers, elsewhere, of_room) in ROWS {
        for (method, path) in &paths {
            let mut request = Request::builder().method(method).uri(*path).header("host", "mesh");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let answer = client.start(request.body(Full::new(Bytes::new()))?).await?;
            let header = |name: &str| {
                let value = answer.headers().get(name).and_then(|value| value.to_str().ok());
                value.unwrap_or_default().to_owned()
            };
            let listens = *method == Method::GET && *path == room;
            let wanted = if listens { of_room } else { elsewhere };
            let about = format!("{method} {path} {headers:?}: {}", answer.status());
            ensure!(header("content-type") == wanted, "{about} as {}", header("content-type"));
            ensure!(header("access-control-allow-origin") == "*", "{about}");
            ensure!(header("vary") == "Accept, Content-Type", "{about}");
            ensure!(header("x-mesh-height").parse::<u8>().is_ok(), "{about}");
            let exposed = header("access-control-expose-headers");
            ensure!(exposed == "X-Mesh-Height, Retry-After", "{about}");
            let kept = if *path == "/nodes" { "max-age=5" } else { "no-store" };
            ensure!(header("cache-control") == kept, "{about}: {}", header("cache-control"));
            if wanted == PAGE {
                ensure!(
                    header("content-security-policy").starts_with("default-src 'none'"),
                    "{about}"
                );
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn browsers_may_ask_from_anywhere() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let node = node(&database).start().await?;
    let client = HttpClient::plain(node.address());
    for path in ["/", "/nodes", "/token", "/dht-put", "/room/x", "/nothing", "/client.js"] {
        let asks = [("origin", "https://app.example"), ("access-control-request-method", "POST")];
        let answer = client.send(Method::OPTIONS, path, &asks, Bytes::new()).await?;
        ensure!((answer.status, answer.body.len()) == (204, 0), "{path}: {}", answer.status);
        ensure!(answer.header("access-control-allow-origin") == "*", "{path}");
        ensure!(answer.header("access-control-allow-methods") == "GET, POST, OPTIONS", "{path}");
        ensure!(answer.header("access-control-allow-headers").contains("Last-Event-ID"), "{path}");
        ensure!(answer.header("access-control-allow-credentials").is_empty(), "{path}");
    }
    Ok(())
}

#[tokio::test]
async fn scripts_are_kept_until_they_change() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let node = node(&database).start().await?;
    let client = HttpClient::plain(node.address());
    let files = [
        ("/client.js", "text/javascript; charset=utf-8"),
        ("/client.d.ts", "application/typescript; charset=utf-8"),
        ("/client/worker.js", "text/javascript; charset=utf-8"),
        ("/client/miner.wasm", "application/wasm"),
        ("/demo", "text/html; charset=utf-8"),
        ("/demo.css", "text/css; charset=utf-8"),
        ("/demo.js", "text/javascript; charset=utf-8"),
    ];
    for (path, kind) in files {
        let first = client.get(path).await?;
        ensure!(first.status == 200 && !first.body.is_empty(), "{path}: {}", first.status);
        ensure!(first.header("content-type") == kind, "{path}: {}", first.header("content-type"));
        ensure!(first.header("cache-control") == "no-cache", "{path}");
        ensure!(first.header("access-control-allow-origin") == "*", "{path}");
        let policy = first.header("content-security-policy");
        ensure!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe-inline"));
        let tag = first.header("etag").to_owned();
        let known = [("if-none-match", tag.as_str())];
        let again = client.send(Method::GET, path, &known, Bytes::new()).await?;
        ensure!((again.status, again.body.len()) == (304, 0), "{path}: {}", again.status);
        let stale = [("if-none-match", "\"another\"")];
        let again = client.send(Method::GET, path, &stale, Bytes::new()).await?;
        ensure!(again.body == first.body, "{path}");
    }
    let json = [("accept", "application/json")];
    let refused = client.send(Method::POST, "/client.js", &json, Bytes::new()).await?;
    ensure!(code(&refused)? == "method", "{}", refused.text());
    Ok(())
}
