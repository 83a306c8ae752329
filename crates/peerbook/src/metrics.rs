//! What one peerbook process counts.

use prometheus::{
    IntCounter, IntGauge, Registry, register_int_counter_vec_with_registry,
    register_int_counter_with_registry, register_int_gauge_with_registry,
};

/// What one peerbook process counts. Labels come from closed sets, never from peers.
pub(crate) struct Metrics {
    pub(crate) connections: IntGauge,
    pub(crate) waiting: IntGauge,
    pub(crate) waiting_requests: IntGauge,
    pub(crate) requests: IntCounter,
    pub(crate) request_limits: IntCounter,
    pub(crate) full: IntCounter,
    pub(crate) changes: IntCounter,
    pub(crate) refreshes: IntCounter,
    pub(crate) proofs: IntCounter,
    pub(crate) proofs_failed: IntCounter,
    pub(crate) sent: IntCounter,
    pub(crate) blocked: IntCounter,
    pub(crate) offline: IntCounter,
    pub(crate) unknown: IntCounter,
    pub(crate) foreign: IntCounter,
    pub(crate) contradicted: IntCounter,
    pub(crate) limited: IntCounter,
    pub(crate) elsewhere: IntCounter,
    pub(crate) taken: IntCounter,
}

impl Metrics {
    /// # Errors
    /// When a name is taken.
    pub(crate) fn register(to: &Registry) -> prometheus::Result<Self> {
        let envelopes = register_int_counter_vec_with_registry!(
            "peerbook_envelopes_total",
            "Offers, answers and candidates received, by outcome.",
            &["outcome"],
            to
        )?;
        let proofs = register_int_counter_vec_with_registry!(
            "peerbook_proofs_total",
            "Proofs of possession on open connections, by outcome.",
            &["outcome"],
            to
        )?;
        let counter = |name, help| register_int_counter_with_registry!(name, help, to);
        let gauge = |name, help| register_int_gauge_with_registry!(name, help, to);
        Ok(Self {
            connections: gauge("peerbook_connections", "Peers' connections open now.")?,
            waiting: gauge("peerbook_waiting_fingerprints", "Fingerprints waiting to be let in.")?,
            waiting_requests: gauge(
                "peerbook_waiting_requests",
                "Requests nobody has answered, counted every 30 s up to the limit.",
            )?,
            requests: counter("peerbook_requests_total", "New requests to be approved.")?,
            request_limits: counter(
                "peerbook_request_limits_total",
                "Requests and codes refused by a rate or by the limit of waiting requests.",
            )?,
            full: counter("peerbook_full_total", "Peers or requests refused by a user's limit.")?,
            changes: counter("peerbook_changes_total", "Changes to users' books committed here.")?,
            refreshes: counter(
                "peerbook_refreshes_total",
                "Users read again because another process changed them.",
            )?,
            proofs: proofs.with_label_values(&["taken"]),
            proofs_failed: proofs.with_label_values(&["failed"]),
            sent: envelopes.with_label_values(&["sent"]),
            blocked: envelopes.with_label_values(&["blocked"]),
            offline: envelopes.with_label_values(&["offline"]),
            unknown: envelopes.with_label_values(&["unknown"]),
            foreign: envelopes.with_label_values(&["foreign"]),
            contradicted: envelopes.with_label_values(&["contradicted"]),
            elsewhere: counter(
                "peerbook_envelopes_passed_on_total",
                "Envelopes handed to other replicas.",
            )?,
            taken: counter(
                "peerbook_envelopes_taken_total",
                "Envelopes of other replicas' peers delivered here.",
            )?,
            limited: counter(
                "peerbook_limited_messages_total",
                "Messages refused because a connection or address sent too many.",
            )?,
        })
    }
}
