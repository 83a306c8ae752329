//! What one mesh process counts. Labels come from closed sets, never from peers.

use prometheus::{
    IntCounter, IntCounterVec, IntGauge, Registry, register_int_counter_vec_with_registry,
    register_int_counter_with_registry, register_int_gauge_with_registry,
};

/// The counters of the node.
pub(crate) struct Metrics {
    pub(crate) posts: IntCounter,
    pub(crate) deliveries: IntCounter,
    pub(crate) refused: IntCounterVec,
    pub(crate) streams: IntGauge,
    pub(crate) height: IntGauge,
    pub(crate) credentials: IntCounter,
    pub(crate) gets: IntCounter,
    pub(crate) puts: IntCounter,
}

impl Metrics {
    /// Registers all of them.
    pub(crate) fn register(to: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| register_int_counter_with_registry!(name, help, to);
        let gauge = |name: &str, help: &str| register_int_gauge_with_registry!(name, help, to);
        Ok(Self {
            posts: counter("mesh_posts_total", "Posts accepted from clients.")?,
            deliveries: counter("mesh_deliveries_total", "Events queued for subscribers.")?,
            refused: register_int_counter_vec_with_registry!(
                "mesh_refused_total",
                "Requests refused, by the code their clients saw.",
                &["code"],
                to
            )?,
            streams: gauge("mesh_streams", "Event streams open.")?,
            height: gauge("mesh_height", "Price of a post, as a height in bits.")?,
            credentials: counter("mesh_credentials_total", "TURN credentials handed out.")?,
            gets: counter("mesh_dht_gets_total", "Items looked up for clients.")?,
            puts: counter("mesh_dht_puts_total", "Items written for clients.")?,
        })
    }
}
