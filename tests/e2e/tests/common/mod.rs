//! What several of these tests need.
#![allow(dead_code, reason = "every test file uses another part")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use testkit::turn_server::TurnServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A server of one page, which is the app.
pub(crate) async fn serve(page: &'static str) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=utf-8\r\nconnection: close";
    let answer = Arc::new(format!("{head}\r\ncontent-length: {}\r\n\r\n{page}", page.len()));
    #[expect(clippy::disallowed_methods, reason = "a test's server has no service context")]
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                // A browser that hangs up early asks again.
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    Ok(address)
}

/// What the TURN server shares with the services that hand out its credentials.
pub(crate) const TURN_SECRET: &str = "a secret of this test";

/// coturn with the project's own settings; with `relays_to_itself`, that one address is the exception
/// to its list of those it never relays to, so that two browsers behind it reach each other.
pub(crate) async fn coturn(relays_to_itself: bool) -> anyhow::Result<TurnServer> {
    let more = ["--allow-loopback-peers", "--allowed-peer-ip=127.0.0.1"];
    let more: &[&str] = if relays_to_itself { &more } else { &[] };
    TurnServer::as_in_production(TURN_SECRET, more).await
}

/// For `TURN_URLS`: over UDP, over TCP, and over TLS at a port where nobody is.
pub(crate) fn turn_urls(relay: &TurnServer) -> String {
    let at = format!("127.0.0.1:{}", relay.port());
    format!("turn:{at},turn:{at}?transport=tcp,turns:127.0.0.1:9")
}
