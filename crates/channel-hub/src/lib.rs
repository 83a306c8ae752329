#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

#[allow(dead_code, reason = "the connections come next")]
mod config;
#[allow(dead_code, reason = "the connections come next")]
mod domain;
#[allow(dead_code, reason = "the connections come next")]
mod metrics;
#[allow(dead_code, reason = "the connections come next")]
mod protocol;
#[allow(dead_code, reason = "the connections come next")]
mod store;

use service::{About, Context};

pub use config::Config;

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
/// The database stays away or has another schema; the port is taken; a certificate does not load.
pub async fn serve(config: Config, cx: Context) -> anyhow::Result<()> {
    let gate = cx.ready.gate("database");
    let pool = pg::connect(&config.database, cx.name, &cx.metrics).await?;
    pg::check_schema(&pool).await?;
    let _listener = edge::bind(&config.listen, &cx).await?;
    gate.open();
    cx.stop.draining().cancelled().await;
    Ok(())
}
