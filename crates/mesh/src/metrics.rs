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
    pub(crate) links: IntGauge,
    pub(crate) leads: IntGauge,
    pub(crate) wanted: IntGauge,
    pub(crate) known: IntGauge,
    pub(crate) frames_out: IntCounter,
    pub(crate) frames_in: IntCounter,
    pub(crate) carried: IntCounter,
    pub(crate) carried_refused: IntCounterVec,
    pub(crate) ingress: IntGauge,
    pub(crate) backlog: IntGauge,
    pub(crate) banned: IntCounter,
    pub(crate) probes: IntCounterVec,
    pub(crate) fed: IntCounter,
    pub(crate) written_again: IntCounter,
    pub(crate) overflow: IntCounterVec,
}

impl Metrics {
    /// Registers all of them.
    pub(crate) fn register(to: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| register_int_counter_with_registry!(name, help, to);
        let gauge = |name: &str, help: &str| register_int_gauge_with_registry!(name, help, to);
        let by = |name: &str, help: &str, label: &str| {
            register_int_counter_vec_with_registry!(name, help, &[label], to)
        };
        Ok(Self {
            links: gauge("mesh_links", "Links to other nodes; at most 384.")?,
            leads: gauge("mesh_leads", "Whether this replica holds the node's links.")?,
            wanted: gauge("mesh_homes_wanted", "Homes of rooms not linked yet; at most 256.")?,
            known: gauge("mesh_nodes", "Verified nodes known; at most 10,000.")?,
            frames_out: counter("mesh_link_posts_sent_total", "Posts sent over links.")?,
            frames_in: counter("mesh_link_posts_received_total", "Posts received over links.")?,
            carried: counter("mesh_carried_total", "Posts of other nodes taken.")?,
            carried_refused: by(
                "mesh_carried_refused_total",
                "Posts of other nodes not taken, by reason.",
                "reason",
            )?,
            ingress: gauge("mesh_ingress", "Posts of other nodes waiting; at most 4,096.")?,
            backlog: gauge("mesh_backlog_bytes", "Memory of late posts; at most 64 MiB.")?,
            banned: counter("mesh_banned_total", "Nodes banned for what they sent.")?,
            probes: by("mesh_probes_total", "Nodes asked who they are, by outcome.", "outcome")?,
            fed: counter("mesh_feed_posts_total", "Posts other replicas of this node took.")?,
            written_again: counter(
                "mesh_written_again_total",
                "Posts written once more, because the database had crashed after them.",
            )?,
            overflow: by(
                "mesh_overflow_total",
                "What a full queue between nodes or replicas did not take, by queue.",
                "queue",
            )?,
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
