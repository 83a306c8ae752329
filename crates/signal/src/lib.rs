#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod config;
mod domain;
mod metrics;
mod protocol;
mod store;
mod transport;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64},
};

use edge::{
    limit::Keyed,
    meter::Limiter,
    ws::{Feed, Limits},
};
use identity::Pins;
use pg::{GroupCommit, GroupLimits, Wakeups};
use proto::{js, sign::KeyCache, signal::Rules};
use service::{About, Context, Gate};
use sqlx::PgPool;
use turn::TurnArgs;
use uuid::Uuid;

pub use config::Config;
use domain::{
    desk::Desk, exchange::Exchange, ice::IceServers, keeper, keeper::Lease, registry::Bounds,
    registry::Registry, roster::SnapshotBounds, waiting::Waiting,
};
use metrics::Metrics;
use store::{NodeId, session::NewSession, session::Outcome};

/// What the signal process is called and where it listens by default.
pub const ABOUT: About = About {
    name: "signal",
    about: "Lets peers find each other: registers them, passes their signals, tells who is online.",
    listen: "[::]:3000",
    admin: "127.0.0.1:13000",
    aliases: &[("PORT", "listen_port"), ("SOURCE_CODE_URL", "source_url")],
    arguments: &[],
};

/// Decoded keys remembered, about 350 bytes each.
const KEYS: usize = 16_384;

/// Addresses whose registrations are counted at once; see [`Keyed`].
const ADDRESSES: usize = 65_536;

/// Builds the service and serves it until asked to drain.
///
/// # Errors
/// The database stays away or has another schema; the port is taken; a certificate does not load.
pub async fn serve(config: Config, cx: Context) -> anyhow::Result<()> {
    let gate = cx.ready.gate("database"); // closed until there is something to be ready with
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
    let node = NodeId(Uuid::new_v4());
    let port = listener.local_addr().port();
    let lease = Lease {
        node,
        instance: config.lease.instance(port),
        renewal: config.lease.lease_renewal,
        expiry: config.lease.lease_expiry,
    };
    let presence = &config.presence;
    let last_seen = (presence.last_seen_age, presence.last_seen_max);
    let desk = Arc::new(desk(&config, pool, node, cx)?);
    keeper::begin(&desk, &lease, last_seen).await?;
    keeper::start(&desk, &lease, last_seen.0, gate.clone(), cx);
    gate.open();
    let check = transport::check::Check::new(&config.check, cx.clock.clone(), &cx.metrics)?;
    let sockets = transport::Sockets::new(desk, check, limits(&config), cx);
    edge::serve(listener, sockets, cx).await
}

fn desk(config: &Config, pool: PgPool, node: NodeId, cx: &Context) -> anyhow::Result<Desk> {
    let policy = config.identity.identity_policy;
    let spawner = cx.clone();
    let spawn = move |name, task| spawner.spawn(name, task);
    let wakeups = Wakeups::start(&pool, &[identity::CHANNEL], cx.stop.draining().clone(), &spawn);
    let mut group = GroupLimits::new("registers");
    // A client waits four seconds for its answer.
    group.retry_for = std::time::Duration::from_secs(1);
    let writer = pool.clone();
    let registers: GroupCommit<NewSession, Outcome> =
        GroupCommit::start(group, &cx.metrics, &spawn, move |batch| {
            let pool = writer.clone();
            async move { store::session::register(&pool, node, &batch).await }
        });
    let TurnArgs { source: credentials, urls } = config.ice.turn.clone();
    let ttl = config.ice.turn_ttl;
    let ice = credentials.map(|source| IceServers { source, urls, ttl });
    let feed = Feed::new(config.presence.presence_log, cx);
    let bus = bus::Bus::start(&config.bus, node.0, &pool, cx)?;
    Ok(Desk {
        registry: Registry::new(feed, bounds(config), node.0),
        exchange: Exchange::new(bus),
        waiting: Waiting::new(millis(config.sockets.registration_deadline)),
        metrics: Metrics::register(&cx.metrics)?,
        limiter: Limiter::new(&config.allowances()),
        register_rate: config.address_registers().map(|rate| Keyed::new(rate, ADDRESSES)),
        rules: rules(policy),
        clock: cx.clock.clone(),
        pins: Pins::new(pool.clone(), policy, cx, &wakeups),
        pool,
        registers,
        keys: KeyCache::new(KEYS),
        ice,
        source: source(&config.presence.source_url),
        max_peers: config.presence.max_peers,
        max_subscribed: config.presence.max_subscribed,
        storage_up: AtomicBool::new(true),
        sockets: AtomicU64::new(0),
    })
}

fn rules(policy: identity::Policy) -> Rules {
    match policy {
        identity::Policy::Open => Rules::OPEN,
        identity::Policy::Pin => Rules::PIN,
        identity::Policy::Strict => Rules::STRICT,
    }
}

fn bounds(config: &Config) -> Bounds {
    let (presence, resume) = (&config.presence, &config.resume);
    Bounds {
        snapshot: SnapshotBounds {
            max_peers: presence.snapshot_max_peers,
            max_departed: presence.snapshot_max_departed,
            departed_age_ms: millis(presence.last_seen_age),
            rebuild_ms: millis(presence.snapshot_interval),
        },
        max_departed: presence.last_seen_max,
        resume_window_ms: millis(resume.resume_window),
        resume_frames: resume.resume_frames,
        resume_bytes: resume.resume_bytes,
        resume_total_bytes: resume.resume_total_bytes,
    }
}

fn limits(config: &Config) -> Limits {
    const OPEN_MAX_MESSAGE: usize = 100 << 20;
    let sockets = &config.sockets;
    let defaults = Limits::default();
    let open = config.identity.identity_policy.is_open();
    let max_message = if open { OPEN_MAX_MESSAGE } else { defaults.max_message_bytes };
    Limits {
        max_message_bytes: sockets.max_message.unwrap_or(max_message),
        outbox_bytes: sockets.outbox_bytes,
        outbox_frames: sockets.outbox_frames,
        ping_interval: sockets.ping_interval,
        idle_timeout: sockets.idle_timeout,
        ..defaults
    }
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

/// The `source` member of every ack: what program this is, under which terms.
fn source(url: &str) -> Vec<u8> {
    let mut out = br#"{"project":"Switchyard","version":""#.to_vec();
    out.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
    out.extend_from_slice(br#"","license":"MIT OR Apache-2.0","source":"#);
    js::string(&js::Str::from(url), &mut out);
    out.push(b'}');
    out
}
