#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]
#![allow(dead_code, reason = "what the pages are going to use")]

mod config;
mod domain;
mod error;
mod metrics;
mod protocol;
mod store;
mod transport;

use std::sync::Arc;

use edge::{
    limit::{Keyed, Rate},
    meter::{Allowances, Limiter},
    ws::Limits,
};
use service::{About, Context, Gate};
use sqlx::PgPool;

pub use config::Config;
use domain::{
    book::{Book, Settings},
    keeper,
    mail::Mail,
};
use transport::{App, Endpoint};

/// What the peerbook process is called and where it listens by default.
pub const ABOUT: About = About {
    name: "peerbook",
    about: "Signaling with a private address book for every user.",
    listen: "[::]:17777",
    admin: "127.0.0.1:27777",
    aliases: &[("PB_HOME_URL", "public_url")],
    arguments: &[("-addr", "--listen")],
};

/// Addresses counted at the same time.
const ADDRESSES: usize = 65_536;

/// Builds the service and serves it until asked to drain.
///
/// # Errors
/// The database stays away or has another schema; the port is taken; a certificate does not load.
pub async fn serve(config: Config, cx: Context) -> anyhow::Result<()> {
    let gate = cx.ready.gate("database");
    let pool = pg::connect(&config.database, cx.name, &cx.metrics).await?;
    pg::check_schema(&pool).await?;
    let listener = edge::bind(&config.listen, &cx).await?;
    serve_on(config, pool, listener, gate, &cx).await
}

/// As [`serve`], on a listener and a pool that are there already; what tests start.
///
/// # Errors
/// As [`serve`].
pub async fn run(
    config: Config,
    pool: PgPool,
    listener: edge::Listener,
    cx: &Context,
) -> anyhow::Result<()> {
    serve_on(config, pool, listener, cx.ready.gate("database"), cx).await
}

async fn serve_on(
    config: Config,
    pool: PgPool,
    listener: edge::Listener,
    gate: Gate,
    cx: &Context,
) -> anyhow::Result<()> {
    let book = Arc::new(Book::new(pool.clone(), settings(&config), cx)?);
    keeper::start(&book, cx);
    gate.open();
    let report = move |answers| {
        if answers { gate.open() } else { gate.close("the database does not answer") }
    };
    cx.spawn("database-watch", pg::watch(pool, cx.stop.draining().clone(), report));
    let app = App {
        mail: Mail,
        limits: Arc::new(limits(&config)),
        limiter: Arc::new(Limiter::new(&Allowances {
            peer_frames: config.limits.peer_frames.0,
            peer_bytes: None,
            address_frames: config.limits.address_frames.0,
            address_bytes: config.limits.address_bytes.0,
        })),
        addresses: config.limits.address_http.0.map(|rate| Keyed::new(rate, ADDRESSES)),
        book,
        config,
        cx: cx.clone(),
    };
    edge::serve(listener, Endpoint(Arc::new(app)), cx).await
}

fn settings(config: &Config) -> Settings {
    let limits = &config.limits;
    Settings {
        max_peers_per_user: limits.max_peers_per_user,
        max_requests_per_user: limits.max_requests_per_user,
        max_requests: limits.max_requests,
        request_age: limits.request_age,
        request_rate: Rate { burst: limits.address_requests, per_second: 1 },
        remind_after: limits.remind_after,
        pairing_age: limits.pairing_age,
        host: config.host().to_owned(),
        check_sdp: !config.proof.no_sdp_check,
    }
}

fn limits(config: &Config) -> Limits {
    let sockets = &config.sockets;
    Limits {
        max_message_bytes: sockets.max_message,
        outbox_bytes: sockets.outbox_bytes,
        outbox_frames: sockets.outbox_frames,
        ping_interval: sockets.ping_interval,
        idle_timeout: sockets.idle_timeout,
        ..Limits::default()
    }
}
