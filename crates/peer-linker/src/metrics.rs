//! What one peer-linker process counts.

use prometheus::{
    IntCounter, IntGauge, Registry, register_int_counter_vec_with_registry,
    register_int_counter_with_registry, register_int_gauge_with_registry,
};

use crate::domain::event::Limited;

/// What one peer-linker process counts. Labels come from closed enums, never from peers.
pub(crate) struct Metrics {
    pub(crate) pads: IntGauge,
    pub(crate) links: IntGauge,
    pub(crate) requests: IntGauge,
    pub(crate) registered: IntCounter,
    pub(crate) granted: IntCounter,
    pub(crate) denied: IntCounter,
    pub(crate) elsewhere: IntCounter,
    limited: Vec<(Limited, IntCounter)>,
    pub(crate) passed_packets: IntCounter,
    pub(crate) passed_bytes: IntCounter,
    pub(crate) paused: IntCounter,
    pub(crate) releases_waiting: IntGauge,
    pub(crate) leases_lost: IntCounter,
    pub(crate) pads_lost: IntCounter,
    pub(crate) transfers: IntGauge,
    pub(crate) transfer_bytes: IntCounter,
    pub(crate) transfers_done: IntCounter,
    pub(crate) transfers_broken: IntCounter,
    pub(crate) transfers_refused: IntCounter,
    pub(crate) transfers_unmet: IntCounter,
}

impl Metrics {
    /// # Errors
    /// When a name is taken.
    pub(crate) fn register(to: &Registry) -> prometheus::Result<Self> {
        let limited = register_int_counter_vec_with_registry!(
            "peer_linker_limited_total",
            "Requests refused or ended because of a limit.",
            &["limit"],
            to
        )?;
        let decided = register_int_counter_vec_with_registry!(
            "peer_linker_link_requests_total",
            "Link requests that were forwarded, by what came of them.",
            &["outcome"],
            to
        )?;
        let transfers = register_int_counter_vec_with_registry!(
            "peer_linker_http_transfers_total",
            "HTTP pads that ended, by how: unmet is one that nobody else came to in time.",
            &["outcome"],
            to
        )?;
        let limited_by = |limit: Limited| (limit, limited.with_label_values(&[limit.as_str()]));
        Ok(Self {
            pads: gauge(to, "peer_linker_pads", "Pads registered here, or about to be.")?,
            links: gauge(to, "peer_linker_links", "Pairs of pads that are linked.")?,
            requests: gauge(
                to,
                "peer_linker_link_requests_waiting",
                "Link requests that wait for an answer or for their pad.",
            )?,
            registered: counter(to, "peer_linker_registered_total", "Pads registered.")?,
            granted: decided.with_label_values(&["granted"]),
            denied: decided.with_label_values(&["denied"]),
            elsewhere: counter(
                to,
                "peer_linker_links_elsewhere_total",
                "Link requests to pads at other processes.",
            )?,
            limited: Limited::ALL.into_iter().map(limited_by).collect(),
            passed_packets: counter(
                to,
                "peer_linker_passed_packets_total",
                "Packets passed between linked pads.",
            )?,
            passed_bytes: counter(
                to,
                "peer_linker_passed_bytes_total",
                "Bytes of the packets passed between linked pads.",
            )?,
            paused: counter(
                to,
                "peer_linker_bandwidth_pauses_total",
                "Times a client was not read for a while because of --identity-bandwidth.",
            )?,
            releases_waiting: gauge(
                to,
                "peer_linker_releases_waiting",
                "Pads given back that the database has not been told of yet.",
            )?,
            leases_lost: counter(
                to,
                "peer_linker_leases_lost_total",
                "Times this process was swept as dead and put its pads back.",
            )?,
            pads_lost: counter(
                to,
                "peer_linker_pads_lost_total",
                "Clients disconnected because another process got their pad's name meanwhile.",
            )?,
            transfers: gauge(to, "peer_linker_http_pads", "HTTP pads in use, waiting or moving.")?,
            transfer_bytes: counter(
                to,
                "peer_linker_http_bytes_total",
                "Bytes passed through HTTP pads.",
            )?,
            transfers_done: transfers.with_label_values(&["done"]),
            transfers_broken: transfers.with_label_values(&["broken"]),
            transfers_refused: transfers.with_label_values(&["refused"]),
            transfers_unmet: transfers.with_label_values(&["unmet"]),
        })
    }

    /// Counts a hit of a limit.
    pub(crate) fn limited(&self, limit: Limited) {
        if let Some((_, counter)) = self.limited.iter().find(|(known, _)| *known == limit) {
            counter.inc();
        }
    }
}

fn counter(to: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    register_int_counter_with_registry!(name, help, to)
}

fn gauge(to: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    register_int_gauge_with_registry!(name, help, to)
}
