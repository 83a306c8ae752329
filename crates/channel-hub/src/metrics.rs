//! What one channel-hub process counts.

use prometheus::{
    IntCounter, IntCounterVec, IntGauge, Registry, register_int_counter_vec_with_registry,
    register_int_counter_with_registry, register_int_gauge_with_registry,
};

use crate::domain::hub::{Counts, Refusal};

/// What one channel-hub process counts. Labels come from closed enums, never from peers.
pub(crate) struct Metrics {
    sessions: IntGauge,
    channels: IntGauge,
    waiting: IntGauge,
    channels_elsewhere: IntGauge,
    asked_elsewhere: IntGauge,
    asked_by_others: IntGauge,
    pub(crate) registered: IntCounter,
    pub(crate) requests: IntCounter,
    pub(crate) answered: IntCounter,
    pub(crate) unanswered: IntCounter,
    pub(crate) expired: IntCounter,
    refused: [IntCounter; Refusal::ALL.len()],
    pub(crate) channels_lost: IntCounter,
    pub(crate) leases_lost: IntCounter,
    pub(crate) releases_waiting: IntGauge,
    pub(crate) unheard: IntCounter,
}

impl Metrics {
    /// # Errors
    /// When a name is taken.
    pub(crate) fn register(to: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| register_int_counter_with_registry!(name, help, to);
        let gauge = |name: &str, help: &str| register_int_gauge_with_registry!(name, help, to);
        let refused: IntCounterVec = register_int_counter_vec_with_registry!(
            "channel_hub_refused_total",
            "Packets answered with an error, by reason.",
            &["reason"],
            to
        )?;
        Ok(Self {
            sessions: gauge("channel_hub_sessions", "Connected clients.")?,
            channels: gauge("channel_hub_channels", "Channels registered here.")?,
            waiting: gauge("channel_hub_requests_waiting", "Pad requests without an answer.")?,
            channels_elsewhere: gauge(
                "channel_hub_channels_elsewhere",
                "Channels of other replicas that can be asked for here.",
            )?,
            asked_elsewhere: gauge(
                "channel_hub_requests_elsewhere",
                "Pad requests among those without an answer that other replicas have to answer.",
            )?,
            asked_by_others: gauge(
                "channel_hub_requests_by_replicas",
                "Pad requests among those without an answer that other replicas wait for.",
            )?,
            registered: counter("channel_hub_registered_total", "Channels registered.")?,
            requests: counter("channel_hub_requests_total", "Pad requests sent to owners.")?,
            answered: counter("channel_hub_answers_total", "Answers passed to requesters.")?,
            unanswered: counter(
                "channel_hub_unanswered_total",
                "Requesters told that there will be no pad: the owner or channel went, or no answer came in time.",
            )?,
            expired: counter(
                "channel_hub_expired_total",
                "Pad requests ended because their time to be answered was over.",
            )?,
            refused: Refusal::ALL.map(|why| refused.with_label_values(&[why.as_str()])),
            channels_lost: counter(
                "channel_hub_channels_lost_total",
                "Owners cut off because another process has their channel's name.",
            )?,
            leases_lost: counter(
                "channel_hub_leases_lost_total",
                "Times others took this process for dead.",
            )?,
            unheard: counter(
                "channel_hub_unheard_total",
                "Channels listed although another replica had not said in time that it knows.",
            )?,
            releases_waiting: gauge(
                "channel_hub_releases_waiting",
                "Ended channels the database has not been told of yet.",
            )?,
        })
    }

    /// Counts a packet answered with an error.
    pub(crate) fn refuse(&self, why: Refusal) {
        self.refused[why as usize].inc();
    }

    /// Sets how much there is of everything.
    pub(crate) fn count(&self, counts: Counts) {
        for (gauge, count) in [
            (&self.sessions, counts.sessions),
            (&self.channels, counts.channels),
            (&self.waiting, counts.waiting),
            (&self.channels_elsewhere, counts.channels_elsewhere),
            (&self.asked_elsewhere, counts.asked_elsewhere),
            (&self.asked_by_others, counts.asked_by_others),
        ] {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
