//! The pings of generation A, against a server set to short times.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::time::{Instant, timeout};

use super::client::Client;
use crate::websocket::Event;

/// What a server has to be set to; the original's are 300 s and 10 s.
pub const PING_INTERVAL: Duration = Duration::from_secs(1);
/// How long it waits for the pong.
pub const PONG_TIMEOUT: Duration = Duration::from_secs(1);
/// A busy machine may be late.
const LATE: Duration = Duration::from_secs(15);

/// Sees an empty ping after the interval, with and without pongs before, and the connection end
/// without a close frame when the pong stays away.
///
/// # Errors
/// It is otherwise.
pub async fn replay_keepalive(address: SocketAddr, program: &str) -> anyhow::Result<()> {
    let Client::WebSocket(mut client) = Client::websocket(address, program, false).await? else {
        bail!("a WebSocket was asked for");
    };
    client.pongs = false;
    let mut since = Instant::now();
    for round in 0..3 {
        let event = client.next(since + PING_INTERVAL + LATE).await?;
        ensure!(event == Some(Event::Ping(Vec::new())), "ping {round} wanted, not {event:?}");
        // What the server counts from may be a little before our own look at the clock.
        ensure!(since.elapsed() > PING_INTERVAL / 2, "pinged after {:?}", since.elapsed());
        since = Instant::now();
        if round < 2 {
            client.frame(0x8a, b"", true).await?;
        }
    }
    let end = timeout(PONG_TIMEOUT + LATE, client.next(since + PONG_TIMEOUT + LATE)).await;
    let end = end.context("still open")??;
    ensure!(end == Some(Event::End), "an end without a close frame wanted, not {end:?}");
    ensure!(since.elapsed() > PONG_TIMEOUT / 2, "dropped after {:?}", since.elapsed());
    Ok(())
}
