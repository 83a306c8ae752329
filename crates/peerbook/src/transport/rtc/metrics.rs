//! What is counted of data channels.

use prometheus::{
    IntCounter, IntCounterVec, IntGauge, Registry, register_int_counter_vec_with_registry,
    register_int_counter_with_registry, register_int_gauge_with_registry,
};

/// Counters of data channels.
pub(super) struct Metrics {
    pub(super) peers: IntGauge,
    /// By outcome.
    pub(super) offers: IntCounterVec,
    pub(super) dropped: IntCounter,
}

impl Metrics {
    /// # Errors
    /// When a name is taken.
    pub(super) fn register(to: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            peers: register_int_gauge_with_registry!(
                "peerbook_rtc_peers",
                "WebRTC connections to us, those being made included.",
                to
            )?,
            offers: register_int_counter_vec_with_registry!(
                "peerbook_rtc_offers_total",
                "Offers to connect by WebRTC, by outcome.",
                &["outcome"],
                to
            )?,
            dropped: register_int_counter_with_registry!(
                "peerbook_rtc_dropped_datagrams_total",
                "Datagrams of nobody, or that found a queue full.",
                to
            )?,
        })
    }
}
