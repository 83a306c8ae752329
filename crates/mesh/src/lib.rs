#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod app;
mod config;
mod domain;
mod error;
mod federation;
mod metrics;
mod store;
mod tasks;
mod transport;

use service::{About, Context};

pub use config::Config;

/// What the mesh process is called and where it listens by default.
pub const ABOUT: About = About {
    name: "mesh",
    about: "A signaling node nobody owns: rooms, DHT records and TURN for browsers, paid by work.",
    listen: "[::]:8000",
    admin: "127.0.0.1:18000",
    aliases: &[("TURN_URIS", "turn_urls"), ("STUN_URIS", "stun_urls")],
    arguments: &[],
};

/// Builds the service and serves it until asked to drain.
///
/// # Errors
/// The database stays away or has another schema; a port is taken; a certificate does not load.
pub async fn serve(config: Config, cx: Context) -> anyhow::Result<()> {
    let gate = cx.ready.gate("database"); // closed until there is something to be ready with
    let pool = pg::connect(&config.database, cx.name, &cx.metrics).await?;
    pg::check_schema(&pool).await?;
    let listener = edge::bind(&config.listen, &cx).await?;
    let port = listener.local_addr().port();
    let app = app::App::start(pool, &config, port, &cx).await?;
    gate.open();
    edge::serve(listener, transport::Endpoint::new(app), &cx).await
}
