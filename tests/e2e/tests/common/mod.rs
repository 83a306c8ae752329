//! What several of these tests need.
#![allow(dead_code, reason = "every test file uses another part")]

use testkit::turn_server::TurnServer;

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
