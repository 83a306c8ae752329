//! What one relay process counts. Labels come from closed sets, never from peers.

use prometheus::{
    IntCounter, IntCounterVec, IntGauge, Registry, register_int_counter_vec_with_registry,
    register_int_counter_with_registry, register_int_gauge_with_registry,
};

/// The counters of the mailboxes.
pub(crate) struct Metrics {
    pub(crate) stored: IntCounter,
    pub(crate) duplicates: IntCounter,
    pub(crate) group_messages: IntCounter,
    pub(crate) group_deliveries: IntCounter,
    pub(crate) acked: IntCounter,
    pub(crate) removed: IntCounter,
    pub(crate) fetches: IntCounter,
    pub(crate) fetched: IntCounter,
    pub(crate) members_updates: IntCounter,
    pub(crate) mailbox_counts: IntCounter,
    pub(crate) refused: IntCounterVec,
    pub(crate) large_bodies: IntGauge,
    pub(crate) large_bodies_refused: IntCounter,
    pub(crate) waiting: IntGauge,
    pub(crate) streams: IntGauge,
}

impl Metrics {
    /// Registers all of them.
    pub(crate) fn register(to: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| register_int_counter_with_registry!(name, help, to);
        let gauge = |name: &str, help: &str| register_int_gauge_with_registry!(name, help, to);
        Ok(Self {
            stored: counter("relay_envelopes_stored_total", "Envelopes kept for a recipient.")?,
            duplicates: counter(
                "relay_envelopes_duplicate_total",
                "Envelopes that were there or acknowledged already.",
            )?,
            group_messages: counter("relay_group_messages_total", "Group messages accepted.")?,
            group_deliveries: counter(
                "relay_group_deliveries_total",
                "Mailboxes a group message was put into.",
            )?,
            acked: counter("relay_acks_total", "Acknowledgements recorded.")?,
            removed: counter(
                "relay_envelopes_removed_total",
                "Envelopes acknowledgements removed.",
            )?,
            fetches: counter("relay_fetches_total", "Pages read.")?,
            fetched: counter("relay_envelopes_fetched_total", "Envelopes in pages and streams.")?,
            members_updates: counter("relay_members_updates_total", "Members updates accepted.")?,
            mailbox_counts: counter(
                "relay_mailbox_counts_total",
                "Times a mailbox was counted for its quota.",
            )?,
            refused: register_int_counter_vec_with_registry!(
                "relay_requests_refused_total",
                "Requests that failed, by HTTP status.",
                &["status"],
                to
            )?,
            large_bodies: gauge(
                "relay_body_memory_bytes",
                "Request bodies of more than 64 KiB that are held.",
            )?,
            large_bodies_refused: counter(
                "relay_body_memory_refused_total",
                "Request bodies refused because others took up the memory for large ones.",
            )?,
            waiting: gauge("relay_long_polls", "Fetches that wait for an envelope.")?,
            streams: gauge("relay_streams", "Open event streams.")?,
        })
    }
}
