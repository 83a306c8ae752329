#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod config;
mod domain;
mod metrics;
mod protocol;
mod transport;

use std::sync::{Arc, Weak};

use packets::Packets;
use pg::{GroupCommit, GroupLimits, Holding, Lease};
use service::{About, Context, Gate};
use sqlx::PgPool;

pub use config::Config;
use domain::{desk::Desk, keeper, meter::Meter, transfers::Transfers};
use metrics::Metrics;
use protocol::Way;

/// What the peer-linker process is called and where it listens by default.
pub const ABOUT: About = About {
    name: "peer-linker",
    about: "Links two peers by the names of their pads and passes data between them.",
    listen: "[::]:8080",
    admin: "127.0.0.1:18080",
    aliases: &[("PLINK_LOGLEVEL", "log")],
    arguments: packets::ARGUMENTS,
};

/// Builds the service and serves it until asked to drain.
///
/// # Errors
/// The database stays away or has another schema; the port is taken; a certificate or the key does
/// not load.
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
    let packets = Packets::new(&config.clients, cx)?;
    let port = listener.local_addr().port();
    let lease = &config.lease;
    let lease = Lease::new("peer_linker", "pad", lease.instance(port), lease.lease_expiry);
    let secret = lease.secret(&pool).await?;
    let (siblings, siblings_port) =
        packets.siblings(&config.peers, &secret, pg::vantage(&pool), cx).await?;
    let lease = lease.reachable_at(siblings.address().to_owned());
    let left = lease.begin(&pool).await?;
    tracing::info!(left_behind = left, "took over");
    let metrics = Arc::new(Metrics::register(&cx.metrics)?);
    let desk = desk(&config, (pool, lease), metrics.clone(), cx);
    keeper::start(&desk, config.lease.lease_renewal, gate.clone(), cx);
    let bounds = config.transfers();
    let transfers =
        (bounds.max > 0).then(|| Transfers::new(bounds, metrics, cx.stop.draining().clone()));
    let pass_server_types = config.pads.pass_server_types;
    let greet = transport::siblings::greet(&desk);
    let app = transport::App::new(
        (desk, siblings.clone()),
        transfers,
        packets.clone(),
        pass_server_types,
    );
    let answering = app.clone();
    let http = move |request| answering.clone().answer_sibling(request);
    cx.spawn("siblings", siblings.serve(siblings_port, greet, http));
    gate.open();
    packets.serve(listener, app, cx).await
}

fn desk(
    config: &Config,
    (pool, lease): (PgPool, Lease),
    metrics: Arc<Metrics>,
    cx: &Context,
) -> Arc<Desk<Way>> {
    let mut group = GroupLimits::new("pads");
    // A client waits for its answer.
    group.retry_for = std::time::Duration::from_secs(1);
    let spawner = cx.clone();
    let spawn = move |name, task| spawner.spawn(name, task);
    let meter = Meter::new(config.pads.identity_bandwidth.0, metrics.paused.clone());
    Arc::new_cyclic(|desk: &Weak<Desk<Way>>| {
        let (desk, database) = (desk.clone(), (pool.clone(), lease.clone()));
        let registers: GroupCommit<Holding, bool> =
            GroupCommit::start(group, &cx.metrics, spawn, move |batch| {
                let (desk, (pool, lease)) = (desk.clone(), database.clone());
                async move {
                    let taken = lease.hold(&pool, &batch).await;
                    if let Some(desk) = desk.upgrade() {
                        desk.reconcile(&batch);
                    }
                    taken
                }
            });
        Desk::new(config.limits(), (pool, lease), registers, (meter, metrics))
    })
}
