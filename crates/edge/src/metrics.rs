//! What a public port counts. Labels come from closed sets, never from peers.

use std::sync::Arc;

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, core::Collector,
};

/// Counters of one public port and of the WebSockets that came through it.
pub(crate) struct Metrics {
    pub(crate) connections: IntCounter,
    pub(crate) open: IntGauge,
    pub(crate) refused_total: IntCounter,
    pub(crate) refused_address: IntCounter,
    pub(crate) refused_proxy_header: IntCounter,
    pub(crate) refused_silent: IntCounter,
    pub(crate) accept_errors: IntCounter,
    pub(crate) tls_ok: IntCounter,
    pub(crate) tls_failed: IntCounter,
    pub(crate) certificate_ok: IntCounter,
    pub(crate) certificate_failed: IntCounter,
    pub(crate) requests: IntCounter,
    pub(crate) head_timeouts: IntCounter,
    pub(crate) sockets: IntGauge,
    pub(crate) frames_in: IntCounter,
    pub(crate) frames_out: IntCounter,
    pub(crate) bytes_in: IntCounter,
    pub(crate) bytes_out: IntCounter,
    pub(crate) overflows: IntCounter,
    pub(crate) slow_followers: IntCounter,
    pub(crate) idle_timeouts: IntCounter,
    pub(crate) write_timeouts: IntCounter,
    pub(crate) violations: IntCounter,
}

impl Metrics {
    /// Registers everything. A second port of the same service keeps counting but is not shown.
    pub(crate) fn register(to: &Registry) -> Arc<Self> {
        let counter = |name, help| registered(to, IntCounter::new(name, help));
        let gauge = |name, help| registered(to, IntGauge::new(name, help));
        let refused = registered(
            to,
            IntCounterVec::new(
                Opts::new(
                    "edge_connections_refused_total",
                    "Connections closed at the door, by reason.",
                ),
                &["reason"],
            ),
        );
        let tls = registered(
            to,
            IntCounterVec::new(
                Opts::new("edge_tls_handshakes_total", "TLS handshakes, by outcome."),
                &["outcome"],
            ),
        );
        let certificates = registered(
            to,
            IntCounterVec::new(
                Opts::new("edge_certificate_reloads_total", "Changed certificates, by outcome."),
                &["outcome"],
            ),
        );
        Arc::new(Self {
            certificate_ok: certificates.with_label_values(&["ok"]),
            certificate_failed: certificates.with_label_values(&["failed"]),
            connections: counter("edge_connections_total", "Connections accepted."),
            open: gauge("edge_connections_open", "Connections open now."),
            refused_total: refused.with_label_values(&["total_limit"]),
            refused_address: refused.with_label_values(&["address_limit"]),
            refused_proxy_header: refused.with_label_values(&["proxy_header"]),
            refused_silent: refused.with_label_values(&["silent"]),
            accept_errors: counter(
                "edge_accept_errors_total",
                "Accept calls that failed and paused the port.",
            ),
            tls_ok: tls.with_label_values(&["ok"]),
            tls_failed: tls.with_label_values(&["failed"]),
            requests: counter("edge_http_requests_total", "HTTP requests, upgrades included."),
            head_timeouts: counter(
                "edge_http_head_timeouts_total",
                "Connections closed for a request head that did not arrive in time.",
            ),
            sockets: gauge("edge_ws_open", "WebSockets open now."),
            frames_in: counter("edge_ws_messages_in_total", "WebSocket messages received."),
            frames_out: counter(
                "edge_ws_frames_out_total",
                "WebSocket frames queued for one socket and sent; shared frames are counted by the feed.",
            ),
            bytes_in: counter("edge_ws_bytes_in_total", "Bytes read from WebSockets."),
            bytes_out: counter("edge_ws_bytes_out_total", "Bytes written to WebSockets."),
            overflows: counter(
                "edge_ws_outbox_overflows_total",
                "WebSockets closed because their outbox was full.",
            ),
            slow_followers: counter(
                "edge_ws_slow_followers_total",
                "WebSockets closed because they fell off a feed.",
            ),
            idle_timeouts: counter(
                "edge_ws_idle_timeouts_total",
                "WebSockets closed after silence.",
            ),
            write_timeouts: counter(
                "edge_ws_write_timeouts_total",
                "WebSockets dropped because the peer did not read.",
            ),
            violations: counter(
                "edge_ws_violations_total",
                "WebSockets closed for breaking RFC 6455 or a size limit.",
            ),
        })
    }
}

/// Counters of one shared log of frames.
pub(crate) struct FeedMetrics {
    pub(crate) frames: IntCounter,
    pub(crate) held_bytes: IntGauge,
    pub(crate) followers: IntGauge,
    pub(crate) rounds: IntCounter,
    pub(crate) round_followers: Histogram,
}

impl FeedMetrics {
    pub(crate) fn register(to: &Registry) -> Self {
        Self {
            frames: registered(
                to,
                IntCounter::new("edge_feed_frames_total", "Frames appended to the shared feed."),
            ),
            held_bytes: registered(
                to,
                IntGauge::new("edge_feed_bytes", "Bytes the shared feed holds."),
            ),
            followers: registered(
                to,
                IntGauge::new("edge_feed_followers", "WebSockets that follow the shared feed."),
            ),
            rounds: registered(
                to,
                IntCounter::new("edge_feed_rounds_total", "Times the followers were woken."),
            ),
            round_followers: registered(
                to,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "edge_feed_round_followers",
                        "Followers woken in one round.",
                    )
                    .buckets(vec![1.0, 10.0, 100.0, 1_000.0, 10_000.0]),
                ),
            ),
        }
    }
}

fn registered<C: Collector + Clone + 'static>(to: &Registry, made: prometheus::Result<C>) -> C {
    let collector = made.expect("names and labels are constants that fit the rules");
    if let Err(error) = to.register(Box::new(collector.clone())) {
        tracing::debug!(%error, "metric is counted but not shown");
    }
    collector
}
