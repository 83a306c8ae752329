//! Settings of the channel-hub service.

/// Settings of the channel-hub service; what each is for stands in its help text.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    #[command(flatten)]
    pub(crate) listen: edge::ListenArgs,
    #[command(flatten)]
    pub(crate) database: pg::DatabaseArgs,
}
