//! What the bus counts.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    exponential_buckets,
};

use crate::Refused;

pub(crate) struct Metrics {
    pub(crate) sent: IntCounter,
    pub(crate) received: IntCounter,
    pub(crate) waiting_bytes: IntGauge,
    pub(crate) connected: IntGauge,
    pub(crate) spilled: IntCounter,
    /// Messages of one sending.
    pub(crate) batch: Histogram,
    /// From the first message's queueing to the end of its sending.
    pub(crate) seconds: Histogram,
    full: IntCounter,
    too_long: IntCounter,
    pub(crate) given_up: IntCounter,
    gaps: IntCounter,
    connections: IntCounter,
    lags: IntCounter,
}

/// Why subscribers are told to look at the tables.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cause {
    /// A sender's messages do not follow each other.
    Gap,
    /// The connection began, or began again.
    Connection,
    /// The subscriber was too slow.
    Lag,
}

impl Metrics {
    pub(crate) fn register(to: &Registry) -> prometheus::Result<Self> {
        let lost = IntCounterVec::new(
            Opts::new("bus_lost_total", "Messages not sent to other replicas, by reason."),
            &["reason"],
        )?;
        let resyncs = IntCounterVec::new(
            Opts::new("bus_resyncs_total", "Times messages may have been missed, by cause."),
            &["cause"],
        )?;
        to.register(Box::new(lost.clone()))?;
        to.register(Box::new(resyncs.clone()))?;
        let counter = |name: &str, help: &str| {
            let metric = IntCounter::new(name, help)?;
            to.register(Box::new(metric.clone())).map(|()| metric)
        };
        let gauge = |name: &str, help: &str| {
            let metric = IntGauge::new(name, help)?;
            to.register(Box::new(metric.clone())).map(|()| metric)
        };
        let histogram = |name: &str, help: &str, buckets| {
            let metric = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            to.register(Box::new(metric.clone())).map(|()| metric)
        };
        Ok(Self {
            sent: counter("bus_sent_total", "Messages sent to other replicas.")?,
            received: counter("bus_received_total", "Messages received from other replicas.")?,
            waiting_bytes: gauge("bus_waiting_bytes", "Bytes that wait to be sent.")?,
            connected: gauge("bus_connected", "Whether messages of others can be heard.")?,
            spilled: counter(
                "bus_spilled_total",
                "Packets too long for a notification, sent through a table.",
            )?,
            batch: histogram(
                "bus_batch_messages",
                "Messages sent together.",
                exponential_buckets(1.0, 2.0, 11)?,
            )?,
            seconds: histogram(
                "bus_send_seconds",
                "From a message's publishing to the end of its sending.",
                exponential_buckets(0.0001, 2.0, 16)?,
            )?,
            full: lost.with_label_values(&["full"]),
            too_long: lost.with_label_values(&["too_long"]),
            given_up: lost.with_label_values(&["backend_away"]),
            gaps: resyncs.with_label_values(&["gap"]),
            connections: resyncs.with_label_values(&["connection"]),
            lags: resyncs.with_label_values(&["lag"]),
        })
    }

    pub(crate) fn refused(&self, why: Refused) {
        match why {
            Refused::Full => self.full.inc(),
            Refused::TooLong => self.too_long.inc(),
        }
    }

    pub(crate) fn missed(&self, cause: Cause) {
        match cause {
            Cause::Gap => self.gaps.inc(),
            Cause::Connection => self.connections.inc(),
            Cause::Lag => self.lags.inc(),
        }
    }

    /// Counts packets that were sent.
    #[expect(clippy::cast_precision_loss, reason = "batches are small")]
    pub(crate) fn sent(&self, packets: &[crate::outgoing::Packet]) {
        let messages: u64 = packets.iter().map(|packet| packet.messages).sum();
        self.sent.inc_by(messages);
        self.batch.observe(messages as f64);
        if let Some(first) = packets.iter().map(|packet| packet.since).min() {
            self.seconds.observe(first.elapsed().as_secs_f64());
        }
    }
}
