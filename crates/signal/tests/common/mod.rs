//! A signal service in this process, on a port of its own.
#![allow(dead_code, reason = "every test file uses another part")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::SocketAddr;

use serde_json::Value;
use service::Context;
use sqlx::PgPool;
use testkit::{keys::Peer, signal_client::SignalClient};

/// The service and what a test needs of it. Ends with the test.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its context: metrics, readiness, drain.
    pub(crate) cx: Context,
}

impl Server {
    /// Starts one with these settings besides the defaults.
    pub(crate) async fn start(pool: &PgPool, settings: &[&str]) -> Self {
        Self::start_in(Context::for_tests(), pool, settings).await
    }

    /// Starts one under a context that was made before.
    #[expect(clippy::disallowed_methods, reason = "a test owns its server")]
    pub(crate) async fn start_in(cx: Context, pool: &PgPool, settings: &[&str]) -> Self {
        let base = ["--listen", "127.0.0.1:0", "--database-url", "postgres:///unused"];
        let config = signal::Config::from_args(&[&base, settings].concat());
        let listen = edge::ListenArgs::at("127.0.0.1:0");
        let listener = edge::bind(&listen, &cx).await.unwrap();
        let address = listener.local_addr();
        let (pool, within) = (pool.clone(), cx.clone());
        tokio::spawn(async move { signal::run(config, pool, listener, &within).await.unwrap() });
        Self { address, cx }
    }

    /// A client that is not registered.
    pub(crate) async fn connect(&self) -> SignalClient {
        SignalClient::plain(self.address).await.unwrap()
    }

    /// A client registered as `peer`.
    pub(crate) async fn register(&self, peer: &Peer) -> SignalClient {
        SignalClient::registered(self.address, peer).await.unwrap()
    }

    /// The sum of a metric over its labels, or over those in `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        let families = self.cx.metrics.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
        let wanted = metrics.iter().filter(|metric| {
            label.is_empty() || metric.get_label().iter().any(|pair| pair.value() == label)
        });
        wanted
            .map(|metric| {
                metric.get_counter().get_value()
                    + metric.get_gauge().get_value()
                    + metric.get_histogram().get_sample_count() as f64
            })
            .sum()
    }
}

impl Drop for Server {
    /// Lets go of the database, which the test is about to drop.
    fn drop(&mut self) {
        self.cx.stop.draining().cancel();
        self.cx.stop.killed().cancel();
    }
}

/// Code and message of an `error` frame.
pub(crate) fn error(frame: &Value) -> (&str, &str) {
    assert_eq!(frame["type"], "error", "{frame}");
    (frame["payload"]["code"].as_str().unwrap(), frame["payload"]["message"].as_str().unwrap())
}

/// Sends a frame and returns code and message of the error that answers it.
pub(crate) async fn refused(
    client: &mut SignalClient,
    kind: &str,
    payload: &Value,
) -> (String, String) {
    let id = client.send_frame(kind, payload).await.unwrap();
    let frame = client.wait_for(|frame| frame["id"] == id.as_str()).await.unwrap();
    let (code, message) = error(&frame);
    (code.to_owned(), message.to_owned())
}

/// A `presence_update` in short: `<id> online`.
pub(crate) fn presence(frame: &Value) -> String {
    let payload = &frame["payload"];
    format!("{} {}", payload["peerId"].as_str().unwrap(), payload["status"].as_str().unwrap())
}

/// A peer with a readable id.
pub(crate) fn peer(id: &str) -> Peer {
    Peer::random().with_id(id)
}

/// Polls until `holds`, for at most ten seconds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while !holds().await {
        assert!(tokio::time::Instant::now() < end, "{what}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}
