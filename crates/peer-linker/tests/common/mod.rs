//! A peer-linker in this process, on a port of its own.
#![allow(dead_code, reason = "every test file uses another part")]
#![allow(clippy::unwrap_used, reason = "a test")]

pub(crate) mod http;

use std::{net::SocketAddr, time::Duration};

use service::Context;
use sqlx::PgPool;
use testkit::pad_client::{Generation, PadClient, Program};
use tokio::time::{Instant, sleep};

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
        let config = peer_linker::Config::from_args(&[&base, settings].concat());
        let listener = edge::bind(&edge::ListenArgs::at("127.0.0.1:0"), &cx).await.unwrap();
        let address = listener.local_addr();
        let (pool, within) = (pool.clone(), cx.clone());
        tokio::spawn(async move {
            peer_linker::run(config, pool, listener, &within).await.unwrap();
        });
        Self { address, cx }
    }

    /// A client with an active session.
    pub(crate) async fn client(&self, generation: Generation) -> PadClient {
        PadClient::activated(generation, Program::PeerLinker, self.address).await.unwrap()
    }

    /// A client with a pad.
    pub(crate) async fn pad(&self, generation: Generation, name: &[u8]) -> PadClient {
        let mut client = self.client(generation).await;
        assert!(client.register_pad(name).await.unwrap(), "{name:?} is registered");
        client
    }

    /// Two clients with the pads `a` and `b`, linked at `a`'s request.
    pub(crate) async fn pair(&self, generation: Generation) -> (PadClient, PadClient) {
        pair([self, self], generation).await
    }

    /// The sum of a metric over its labels, or over those in `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> f64 {
        let families = self.cx.metrics.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
        let wanted = metrics.iter().filter(|metric| {
            label.is_empty() || metric.get_label().iter().any(|pair| pair.value() == label)
        });
        wanted.map(|one| one.get_counter().get_value() + one.get_gauge().get_value()).sum()
    }

    /// Dies as a process does that is killed: it neither says goodbye nor gives anything back.
    pub(crate) fn abandon(&self) {
        self.cx.stop.killed().cancel();
    }
}

/// Two clients, one at each server, with the pads `a` and `b`, linked at `a`'s request.
pub(crate) async fn pair(at: [&Server; 2], generation: Generation) -> (PadClient, PadClient) {
    let mut a = at[0].pad(generation, b"a").await;
    let mut b = at[1].pad(generation, b"b").await;
    a.link_to(&mut b, b"b", b"secret").await.unwrap();
    (a, b)
}

impl Drop for Server {
    /// Lets go of the database, which the test is about to drop.
    fn drop(&mut self) {
        self.cx.stop.draining().cancel();
        self.cx.stop.killed().cancel();
    }
}

/// Polls until `holds`, for at most ten seconds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(Instant::now() < end, "{what}");
        sleep(Duration::from_millis(10)).await;
    }
}
