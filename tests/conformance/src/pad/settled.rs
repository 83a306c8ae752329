//! When several replicas agree again.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use testkit::http_client::HttpClient;
use tokio::time::{Instant, sleep};

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// The sum of a metric over its labels, at each replica; nothing where there is no such metric.
async fn read(replicas: &[SocketAddr], metric: &str) -> anyhow::Result<Vec<u64>> {
    let mut values = Vec::new();
    for replica in replicas {
        let text = HttpClient::plain(*replica).new_connections().get("/metrics").await?.text();
        let samples = text.lines().filter_map(|line| line.strip_prefix(metric));
        let samples = samples.filter(|rest| rest.starts_with([' ', '{']));
        let numbers = samples.filter_map(|rest| rest.rsplit(' ').next()?.parse::<u64>().ok());
        values.push(numbers.sum());
    }
    Ok(values)
}

/// Clients connected to the replicas.
pub(super) async fn open(replicas: &[SocketAddr]) -> anyhow::Result<u64> {
    Ok(read(replicas, "packets_open").await?.iter().sum())
}

/// Waits until fewer than `before` clients are connected, and every replica knows what that means
/// for its own.
pub(super) async fn wait(replicas: &[SocketAddr], before: u64) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    while open(replicas).await? >= before || !agree(replicas).await? {
        ensure!(Instant::now() < end, "the replicas do not agree");
        sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// Every channel-hub knows the channels of the others, and what they wait for.
async fn agree(replicas: &[SocketAddr]) -> anyhow::Result<bool> {
    let own = read(replicas, "channel_hub_channels").await?;
    let elsewhere = read(replicas, "channel_hub_channels_elsewhere").await?;
    let all: u64 = own.iter().sum();
    let asked: u64 = read(replicas, "channel_hub_requests_elsewhere").await?.iter().sum();
    let waited_for: u64 = read(replicas, "channel_hub_requests_by_replicas").await?.iter().sum();
    let knows = |(own, elsewhere): (&u64, &u64)| own + elsewhere == all;
    Ok(asked == waited_for && own.iter().zip(&elsewhere).all(knows))
}
