//! What the connections of either generation count.

use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use crate::Wire;

pub(crate) struct Metrics {
    pub(crate) open: [IntGauge; 2],
    pub(crate) siblings: IntGauge,
    pub(crate) siblings_refused: IntCounter,
    received: [IntCounter; 2],
    pub(crate) bytes_in: IntCounter,
    pub(crate) bytes_out: IntCounter,
    pub(crate) malformed: IntCounter,
    pub(crate) unreadable: IntCounter,
    pub(crate) violations: IntCounter,
    pub(crate) activated: IntCounter,
    pub(crate) refused: IntCounter,
    pub(crate) tries_exceeded: IntCounter,
    pub(crate) activation_timeouts: IntCounter,
    pub(crate) handshakes_failed: IntCounter,
    pub(crate) strangers: IntCounter,
    pub(crate) paused: IntCounter,
    pub(crate) write_timeouts: IntCounter,
    pub(crate) overflows: IntCounter,
    pub(crate) pong_timeouts: IntCounter,
    pub(crate) verifier_accepted: IntCounter,
    pub(crate) verifier_refused: IntCounter,
    pub(crate) verifier_timeouts: IntCounter,
    pub(crate) verifier_failed: IntCounter,
}

impl Metrics {
    pub(crate) fn register(to: &Registry) -> prometheus::Result<Arc<Self>> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            to.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let labelled = |name: &str, help: &str, label: &str| {
            let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
            to.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let open = IntGaugeVec::new(
            Opts::new("packets_open", "Connections open now, by generation."),
            &["wire"],
        )?;
        to.register(Box::new(open.clone()))?;
        let siblings = IntGauge::new(
            "packets_siblings",
            "Connections open now with other processes of the service.",
        )?;
        to.register(Box::new(siblings.clone()))?;
        let received = labelled("packets_received_total", "Packets received.", "wire")?;
        let verifier = labelled(
            "packets_verifier_runs_total",
            "Runs of the verifier, by outcome.",
            "outcome",
        )?;
        let activations = labelled("packets_activations_total", "Activations.", "outcome")?;
        let closed = labelled(
            "packets_closed_total",
            "Connections closed by a limit or a broken rule, by which.",
            "reason",
        )?;
        let by_wire = ["websocket", "encrypted"];
        Ok(Arc::new(Self {
            open: by_wire.map(|wire| open.with_label_values(&[wire])),
            siblings,
            siblings_refused: counter(
                "packets_siblings_refused_total",
                "Connections closed at the port for other processes of the service: no proof, or another version.",
            )?,
            received: by_wire.map(|wire| received.with_label_values(&[wire])),
            bytes_in: counter("packets_bytes_in_total", "Bytes read from clients and siblings.")?,
            bytes_out: counter(
                "packets_bytes_out_total",
                "Bytes written to clients and siblings.",
            )?,
            malformed: counter(
                "packets_malformed_total",
                "Messages that are no packet: too short, too long, or of another size than they say.",
            )?,
            unreadable: counter(
                "packets_unreadable_total",
                "Encrypted frames dropped: too short, or their tag does not match.",
            )?,
            paused: counter(
                "packets_paused_total",
                "Times a sender was not read because its receiver had too much waiting.",
            )?,
            activated: activations.with_label_values(&["ok"]),
            refused: activations.with_label_values(&["refused"]),
            tries_exceeded: closed.with_label_values(&["activation_tries"]),
            activation_timeouts: closed.with_label_values(&["activation_timeout"]),
            handshakes_failed: closed.with_label_values(&["handshake"]),
            strangers: closed.with_label_values(&["first_byte"]),
            write_timeouts: closed.with_label_values(&["write_deadline"]),
            overflows: closed.with_label_values(&["control_overflow"]),
            pong_timeouts: closed.with_label_values(&["pong_timeout"]),
            violations: closed.with_label_values(&["websocket"]),
            verifier_accepted: verifier.with_label_values(&["accepted"]),
            verifier_refused: verifier.with_label_values(&["refused"]),
            verifier_timeouts: verifier.with_label_values(&["timeout"]),
            verifier_failed: verifier.with_label_values(&["failed"]),
        }))
    }

    pub(crate) fn received(&self, wire: Wire) -> &IntCounter {
        &self.received[wire as usize]
    }
}
