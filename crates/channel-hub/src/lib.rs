#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod config;
mod domain;
mod metrics;
mod protocol;
mod store;
mod transport;

use std::sync::Arc;

use packets::Packets;
use pg::{GroupCommit, GroupLimits, Holding, Lease};
use service::{About, Context, Gate};
use sqlx::PgPool;

pub use config::Config;
use domain::{desk, desk::Desk, keeper};
use metrics::Metrics;
use transport::siblings::Circle;

/// What the channel-hub process is called and where it listens by default.
pub const ABOUT: About = About {
    name: "channel-hub",
    about: "Lists the channels peers host and asks their hosts for pads.",
    listen: "[::]:8081",
    admin: "127.0.0.1:18081",
    aliases: &[("CHUB_LOGLEVEL", "log")],
    arguments: packets::ARGUMENTS,
};

/// Builds the service and serves it until asked to drain.
///
/// # Errors
/// The database stays away or has another schema; the port is taken; a certificate or the key
/// does not load.
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
    let packets = Packets::new(&config.clients, cx)?;
    let port = listener.local_addr().port();
    let lease = store::lease(config.lease.instance(port), config.lease.lease_expiry);
    let secret = lease.secret(&pool).await?;
    let (siblings, siblings_port) =
        packets.siblings(&config.peers, &secret, pg::vantage(&pool), cx).await?;
    let lease = lease.reachable_at(siblings.address().to_owned());
    let desk = Arc::new(desk(&config, pool, lease, cx)?);
    keeper::begin(&desk).await?;
    keeper::start(&desk, config.lease.lease_renewal, gate.clone(), cx);
    let circle = Circle::new(desk.clone(), siblings.clone(), cx);
    cx.spawn("siblings", siblings.serve(siblings_port, circle.greet(), transport::no_http));
    circle.meet().await;
    cx.spawn("circle", circle.keep(config.lease.lease_renewal));
    gate.open();
    packets.serve(listener, transport::Hub::new(desk), cx).await
}

fn desk(
    config: &Config,
    pool: PgPool,
    lease: Lease,
    cx: &Context,
) -> anyhow::Result<Desk<transport::Way>> {
    let spawner = cx.clone();
    let spawn = move |name, task| spawner.spawn(name, task);
    let mut group = GroupLimits::new("channels");
    group.retry_for = desk::REGISTER_WITHIN;
    let (writer, holder) = (pool.clone(), lease.clone());
    let registers: GroupCommit<Holding, bool> =
        GroupCommit::start(group, &cx.metrics, &spawn, move |batch| {
            let (pool, lease) = (writer.clone(), holder.clone());
            async move { lease.hold(&pool, &batch).await }
        });
    let metrics = Metrics::register(&cx.metrics)?;
    Ok(Desk::new(config.hub_limits(), (pool, lease), registers, metrics, cx))
}
