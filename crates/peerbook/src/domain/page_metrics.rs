//! What is counted of mail, links and codes.

use prometheus::{
    IntCounterVec, IntGauge, Registry, register_int_counter_vec_with_registry,
    register_int_gauge_with_registry,
};

use super::totp::Verdict;

/// Counters of mail, pages and one-time passwords.
pub(crate) struct PageMetrics {
    /// By kind and outcome.
    pub(crate) mails: IntCounterVec,
    /// By what was used up.
    pub(crate) throttled: IntCounterVec,
    /// Orders in the outbox when last counted.
    pub(crate) outbox: IntGauge,
    /// By verdict.
    pub(crate) codes: IntCounterVec,
    /// Links opened or used, by what they were good for.
    pub(crate) links: IntCounterVec,
}

impl PageMetrics {
    /// Counts a code that was judged.
    pub(crate) fn count_code(&self, verdict: Verdict) {
        let label = match verdict {
            Verdict::Right => "right",
            Verdict::Wrong => "wrong",
            Verdict::Locked => "locked",
            Verdict::NotEnrolled => return,
        };
        self.codes.with_label_values(&[label]).inc();
    }

    /// Registers all of them.
    pub(crate) fn register(to: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            mails: register_int_counter_vec_with_registry!(
                "peerbook_mails_total",
                "Mails by kind and what became of them.",
                &["kind", "outcome"],
                to
            )?,
            throttled: register_int_counter_vec_with_registry!(
                "peerbook_mails_throttled_total",
                "Mails not taken, by the limit that was reached.",
                &["by"],
                to
            )?,
            outbox: register_int_gauge_with_registry!(
                "peerbook_outbox_mails",
                "Mails that wait to be sent, counted once a minute.",
                to
            )?,
            codes: register_int_counter_vec_with_registry!(
                "peerbook_codes_total",
                "One-time passwords by verdict.",
                &["verdict"],
                to
            )?,
            links: register_int_counter_vec_with_registry!(
                "peerbook_links_total",
                "Links that were followed, by whether they were in force.",
                &["outcome"],
                to
            )?,
        })
    }
}
