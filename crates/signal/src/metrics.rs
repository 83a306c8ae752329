//! What one signal process counts.

use prometheus::{
    Histogram, IntCounter, IntCounterVec, IntGauge, Registry, register_histogram_with_registry,
    register_int_counter_vec_with_registry, register_int_counter_with_registry,
    register_int_gauge_with_registry,
};
use proto::signal::Code;

/// What one signal process counts. Labels come from closed enums, never from peers.
pub(crate) struct Metrics {
    pub(crate) acks: IntCounter,
    refused: Vec<(Code, IntCounter)>,
    pub(crate) replaced: IntCounter,
    pub(crate) forwarded: IntCounter,
    pub(crate) kept: IntCounter,
    pub(crate) passed_on: IntCounter,
    pub(crate) not_found: IntCounter,
    pub(crate) presence_events: IntCounter,
    pub(crate) recovery_seconds: Histogram,
    pub(crate) online: IntGauge,
    pub(crate) known: IntGauge,
    pub(crate) siblings: IntGauge,
    pub(crate) probes: IntCounter,
    pub(crate) deadlines: IntCounter,
    pub(crate) snapshots_built: IntCounter,
    pub(crate) snapshots_sent: IntCounter,
    pub(crate) resumed: IntCounter,
    pub(crate) resume_missed: IntCounter,
    pub(crate) resumed_signals: IntCounter,
    pub(crate) leavers_waiting: IntGauge,
    pub(crate) leases_lost: IntCounter,
    pub(crate) looks: IntCounter,
}

impl Metrics {
    /// # Errors
    /// When a name is taken.
    pub(crate) fn register(to: &Registry) -> prometheus::Result<Self> {
        let refused = register_int_counter_vec_with_registry!(
            "signal_refused_total",
            "Error frames sent, by wire code.",
            &["code"],
            to
        )?;
        let signals = register_int_counter_vec_with_registry!(
            "signal_signals_total",
            "Signals received for another peer, by outcome.",
            &["outcome"],
            to
        )?;
        let resumes = register_int_counter_vec_with_registry!(
            "signal_resumes_total",
            "Registers with a resume token, by outcome.",
            &["outcome"],
            to
        )?;
        Ok(Self {
            acks: counter(to, "signal_register_acks_total", "Registers acknowledged.")?,
            refused: by_code(&refused),
            replaced: counter(
                to,
                "signal_sessions_replaced_total",
                "Sessions closed because another socket registered their peer (SESSION_REPLACED).",
            )?,
            forwarded: signals.with_label_values(&["sent"]),
            kept: signals.with_label_values(&["kept"]),
            passed_on: signals.with_label_values(&["passed_on"]),
            not_found: signals.with_label_values(&["not_found"]),
            presence_events: counter(
                to,
                "signal_presence_events_total",
                "Presence events made, each sent to everybody who hears of its peer.",
            )?,
            recovery_seconds: register_histogram_with_registry!(
                "signal_recovery_seconds",
                "Time from a peer's lost connection to its next register_ack, restarts included.",
                vec![0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 300.0, 3600.0, 86_400.0],
                to
            )?,
            online: gauge(to, "signal_peers_online", "Peers registered here.")?,
            known: gauge(to, "signal_peers_known", "Peers registered at all replicas.")?,
            siblings: gauge(to, "signal_siblings", "Other replicas that run.")?,
            probes: counter(
                to,
                "signal_probes_total",
                "Sockets that ended without a register: availability probes, mostly.",
            )?,
            deadlines: counter(
                to,
                "signal_registration_deadlines_total",
                "Sockets closed because they did not register in time.",
            )?,
            snapshots_built: counter(
                to,
                "signal_snapshots_built_total",
                "Peers snapshots serialised.",
            )?,
            snapshots_sent: counter(to, "signal_snapshots_sent_total", "Peers snapshots sent.")?,
            resumed: resumes.with_label_values(&["resumed"]),
            resume_missed: resumes.with_label_values(&["unknown_token"]),
            resumed_signals: counter(
                to,
                "signal_resumed_signals_total",
                "Signals delivered to peers that came back with a resume token.",
            )?,
            leavers_waiting: gauge(
                to,
                "signal_leavers_waiting",
                "Ended sessions the database has not been told of yet.",
            )?,
            leases_lost: counter(
                to,
                "signal_leases_lost_total",
                "Times this process was swept as dead and put its sessions back.",
            )?,
            looks: counter(
                to,
                "signal_looks_total",
                "Looks at the shared table for peers that registered elsewhere a moment ago.",
            )?,
        })
    }

    /// Counts an error frame.
    pub(crate) fn refuse(&self, code: Code) {
        if let Some((_, counter)) = self.refused.iter().find(|(known, _)| *known == code) {
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

fn by_code(refused: &IntCounterVec) -> Vec<(Code, IntCounter)> {
    let handle = |code: Code| (code, refused.with_label_values(&[code.as_str()]));
    Code::ALL.into_iter().map(handle).collect()
}
