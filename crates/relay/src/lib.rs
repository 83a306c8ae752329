#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod app;
mod config;
mod domain;
mod error;
mod metrics;
mod protocol;
mod store;
mod transport;

pub use config::{CheckArgs, Config, QuotaArgs};
pub use domain::{BlobArgs, BlobMembership};

use service::{About, Context};

/// How the relay is called and where it listens.
pub const ABOUT: About = About {
    name: "relay",
    about: "Keeps signed envelopes and blobs for peers who are away.",
    listen: "[::]:4000",
    admin: "127.0.0.1:14000",
    aliases: &[
        ("PORT", "listen_port"),
        ("SOURCE_VERSION", "source_version"),
        ("SOURCE_CODE_URL", "source_code_url"),
    ],
    arguments: &[],
};

/// Builds the relay and serves it until asked to drain.
///
/// # Errors
/// When the database stays away or has another schema, and when the address is taken.
pub async fn serve(config: Config, cx: Context) -> anyhow::Result<()> {
    let storage = cx.ready.gate("storage");
    let listener = edge::bind(&config.listen, &cx).await?; // a taken port fails the start, not the first client
    let pool = pg::connect(&config.database, ABOUT.name, &cx.metrics).await?;
    pg::check_schema(&pool).await?;
    let app = app::App::start(pool, &config, &cx).await?;
    app.watch_storage(storage, &cx);
    edge::serve(listener, transport::Endpoint::new(app), &cx).await
}
