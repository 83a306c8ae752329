#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod config;
mod domain;
mod error;
mod metrics;
mod protocol;
mod store;
mod transport;

use std::sync::Arc;

use bus::Bus;
use edge::{
    limit::{Keyed, Rate},
    meter::{Allowances, Limiter},
    ws::Limits,
};
use pg::Lease;
use service::{About, Context, Gate};
use sqlx::PgPool;

pub use config::Config;
use domain::{
    book::{Book, Settings},
    ice::Ice,
    keeper,
    mail::Mail,
    page_metrics::PageMetrics,
    presence::Presence,
    replicas,
    token::Tokens,
    totp::Authenticators,
};
use transport::{App, Endpoint, Pages};

/// What the peerbook process is called and where it listens by default.
pub const ABOUT: About = About {
    name: "peerbook",
    about: "Signaling with a private address book for every user.",
    listen: "[::]:17777",
    admin: "127.0.0.1:27777",
    aliases: &[
        ("PB_HOME_URL", "public_url"),
        ("PB_SMTP_HOST", "smtp_host"),
        ("PB_SMTP_PORT", "smtp_port"),
        ("PB_SMTP_USER", "smtp_user"),
        ("PB_SMTP_PASS", "smtp_pass"),
        ("TURN_SECRET_KEY", "turn_secret"),
    ],
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
    let listener = match config.proof.client_certificates {
        true => edge::bind_asking(&config.listen, &cx).await?,
        false => edge::bind(&config.listen, &cx).await?,
    };
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
    let instance = config.lease.instance(listener.local_addr().port());
    let lease = Lease::new("peerbook", "session", instance, config.lease.lease_expiry);
    lease.begin(&pool).await?;
    let bus = Bus::start(&config.bus, lease.id(), &pool, cx)?;
    let presence = Presence::new(lease, bus, pool.clone(), cx)?;
    let book = Arc::new(Book::new(pool.clone(), presence, settings(&config), cx)?);
    keeper::start(&book, cx);
    replicas::start(&book, config.lease.lease_renewal, cx);
    let pages = pages(&config, &book, &pool, cx)?;
    let (mail, stop) = (pages.mail.clone(), cx.stop.draining().clone());
    cx.spawn_essential("mail", async move { mail.run(stop).await });
    let limiter = Arc::new(Limiter::new(&Allowances {
        peer_frames: config.limits.peer_frames.0,
        peer_bytes: None,
        address_frames: config.limits.address_frames.0,
        address_bytes: config.limits.address_bytes.0,
    }));
    #[cfg(feature = "webrtc")]
    let rtc = {
        let desk = Arc::new(desk(&pages, &limiter));
        let (args, bounds) = (config.rtc.clone(), bounds(&config));
        transport::rtc::WebRtc::start(args, bounds, desk, &config.public_url, cx).await?
    };
    let app = App {
        #[cfg(feature = "webrtc")]
        rtc,
        mail: pages.mail.clone(),
        pages,
        limits: Arc::new(limits(&config)),
        limiter,
        addresses: config.limits.address_http.0.map(|rate| Keyed::new(rate, ADDRESSES)),
        book,
        cx: cx.clone(),
    };
    // Not before: what the settings ask for may still have failed the start.
    gate.open();
    let report = move |answers| {
        if answers { gate.open() } else { gate.close("the database does not answer") }
    };
    cx.spawn("database-watch", pg::watch(pool, cx.stop.draining().clone(), report));
    edge::serve(listener, Endpoint(Arc::new(app)), cx).await
}

/// What conversations over data channels need, which is what the pages have.
#[cfg(feature = "webrtc")]
fn desk(pages: &Pages, limiter: &Arc<Limiter>) -> protocol::channel::Desk {
    protocol::channel::Desk {
        book: pages.book.clone(),
        limiter: limiter.clone(),
        mail: pages.mail.clone(),
        codes: pages.codes.clone(),
        ice: pages.ice.clone(),
        metrics: pages.metrics.clone(),
        require_totp: pages.require_totp,
    }
}

#[cfg(feature = "webrtc")]
fn bounds(config: &Config) -> transport::rtc::Bounds {
    let sockets = &config.sockets;
    transport::rtc::Bounds {
        message_bytes: sockets.max_message,
        outbox_bytes: sockets.outbox_bytes,
        outbox_frames: sockets.outbox_frames,
    }
}

/// Mail, links and codes, and the pages that use them.
fn pages(config: &Config, book: &Arc<Book>, pool: &PgPool, cx: &Context) -> anyhow::Result<Pages> {
    let metrics = Arc::new(PageMetrics::register(&cx.metrics)?);
    let (args, clock) = (&config.mail, &cx.clock);
    let tokens = Tokens::new(pool.clone(), args.token_ttl);
    let mail =
        Mail::new(book.clone(), tokens.clone(), args.clone(), &config.public_url, metrics.clone())?;
    Ok(Pages {
        book: book.clone(),
        mail: Arc::new(mail),
        tokens,
        codes: Authenticators::new(pool.clone(), clock.clone()),
        ice: Ice::new(config.ice.clone(), clock.clone()),
        metrics,
        require_totp: args.require_totp,
    })
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
