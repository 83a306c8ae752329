//! A channel-hub in this process, on a port of its own.
#![allow(dead_code, reason = "every test file uses another part")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::SocketAddr;

use service::Context;
use sqlx::PgPool;
use testkit::pad_client::{Generation, PadClient, Program};

/// The service and what a test needs of it. Ends with the test.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its context: metrics, readiness, drain.
    pub(crate) cx: Context,
}

impl Server {
    /// Starts one with these settings besides the defaults.
    #[expect(clippy::disallowed_methods, reason = "a test owns its server")]
    pub(crate) async fn start(pool: &PgPool, settings: &[&str]) -> Self {
        let cx = Context::for_tests();
        let base = ["--listen", "127.0.0.1:0", "--database-url", "postgres:///unused"];
        let config = channel_hub::Config::from_args(&[&base, settings].concat());
        let listener = edge::bind(&edge::ListenArgs::at("127.0.0.1:0"), &cx).await.unwrap();
        let address = listener.local_addr();
        let (pool, within) = (pool.clone(), cx.clone());
        tokio::spawn(async move {
            channel_hub::run(config, pool, listener, &within).await.unwrap();
        });
        Self { address, cx }
    }

    /// A client with an active session.
    pub(crate) async fn client(&self, generation: Generation) -> PadClient {
        client(generation, self.address).await
    }

    /// The sum of a metric over its labels, or over those in `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        let families = self.cx.metrics.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
        let wanted = metrics.iter().filter(|metric| {
            label.is_empty() || metric.get_label().iter().any(|pair| pair.value() == label)
        });
        wanted.map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value()).sum()
    }
}

impl Drop for Server {
    /// Lets go of the database, which the test is about to drop.
    fn drop(&mut self) {
        self.cx.stop.draining().cancel();
        self.cx.stop.killed().cancel();
    }
}

/// A client with an active session.
pub(crate) async fn client(generation: Generation, address: SocketAddr) -> PadClient {
    PadClient::activated(generation, Program::ChannelHub, address).await.unwrap()
}

/// The channels a client is shown, as text.
pub(crate) async fn listed(client: &mut PadClient) -> Vec<String> {
    let names = client.channels().await.unwrap().unwrap();
    names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

/// Polls until `holds`, for at most twenty seconds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "{what}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
