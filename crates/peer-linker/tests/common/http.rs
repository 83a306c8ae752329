//! Both sides of a transfer through an HTTP pad, at one process or at two.

use std::{net::SocketAddr, path::PathBuf};

use bytes::Bytes;
use http::Method;
use sqlx::PgPool;
use testkit::http_client::HttpClient;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Server, until};

/// What certificates are made with.
pub(crate) const SECRET: &[u8] = b"the secret";

/// A server that wants certificates; `name` is its own within a test.
pub(crate) async fn with_key(pool: &PgPool, name: &str, settings: &[&str]) -> Server {
    let key = format!("pad-key-{}-{name}", std::process::id());
    let key: PathBuf = std::env::temp_dir().join(key);
    std::fs::write(&key, SECRET).unwrap();
    let server = Server::start(pool, &[&["--key", key.to_str().unwrap()], settings].concat()).await;
    until("it has read the key", async || client(&server).get("/").await.is_ok()).await;
    std::fs::remove_file(&key).unwrap();
    server
}

pub(crate) fn client(server: &Server) -> HttpClient {
    HttpClient::plain(server.address).new_connections()
}

pub(crate) async fn put(server: &Server, name: &str, body: impl Into<Bytes>) -> (u16, String) {
    let path = format!("/pad/{name}");
    let answer = client(server).send(Method::PUT, &path, &[], body.into()).await.unwrap();
    (answer.status, answer.text())
}

pub(crate) async fn waiting(server: &Server, count: f64) {
    until("it waits", async || server.metric("peer_linker_http_pads", "") == count).await;
}

/// A connection with that request, and room for the answer.
pub(crate) async fn raw(address: SocketAddr, request: &str) -> (TcpStream, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    (stream, Vec::new())
}

/// The sender is at the first, the reader at the second, whoever comes first.
pub(crate) async fn through([server, second]: [&Server; 2]) {
    let body: Vec<u8> = (0..3 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
    let reader = client(second);
    for sender_first in [true, false] {
        let send = async {
            if !sender_first {
                waiting(second, 1.0).await;
            }
            put(server, "a%20b", body.clone()).await
        };
        let read = async {
            if sender_first {
                waiting(server, 1.0).await;
            }
            reader.get("/pad/a%20b").await.unwrap()
        };
        let (sent, read) = tokio::join!(send, read);
        assert_eq!(sent, (200, format!("{} bytes passed\n", body.len())));
        assert_eq!(read.status, 200);
        assert_eq!(read.header("content-length"), body.len().to_string());
        assert!(read.body == body, "the body arrives as it was");
        waiting(server, 0.0).await;
        waiting(second, 0.0).await;
    }
}

/// A sender at the first that dies must not look like a sender that is done: neither with a length
/// nor without.
pub(crate) async fn broken([server, second]: [&Server; 2]) {
    for head in
        ["Content-Length: 1000\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"]
    {
        let (mut reader, mut answer) =
            raw(second.address, "GET /pad/x HTTP/1.1\r\nHost: x\r\n\r\n").await;
        waiting(second, 1.0).await;
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
        waiting(second, 0.0).await;
    }
    assert_eq!(second.metric("peer_linker_http_transfers_total", "broken"), 2.0);
}

/// A reader at the second leaves in the middle.
pub(crate) async fn left([server, second]: [&Server; 2]) {
    let (mut reader, mut answer) =
        raw(second.address, "GET /pad/x HTTP/1.1\r\nHost: x\r\n\r\n").await;
    waiting(second, 1.0).await;
    let send = put(server, "x", vec![0; 30 << 20]);
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
    waiting(second, 0.0).await;
}
