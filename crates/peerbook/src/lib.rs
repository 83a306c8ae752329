#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod config;

use service::{About, Context};

pub use config::Config;

/// What the peerbook process is called and where it listens by default.
pub const ABOUT: About = About {
    name: "peerbook",
    about: "Signaling with a private address book for every user.",
    listen: "[::]:17777",
    admin: "127.0.0.1:27777",
    aliases: &[],
    arguments: &[],
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
