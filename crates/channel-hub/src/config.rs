//! Settings of the channel-hub service.

use std::time::Duration;

use service::{duration, size};

use crate::domain::hub::Limits;

/// Settings of the channel-hub service; what each is for stands in its help text.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    #[command(flatten)]
    pub(crate) listen: edge::ListenArgs,
    #[command(flatten)]
    pub(crate) database: pg::DatabaseArgs,
    #[command(flatten)]
    pub(crate) clients: packets::PacketArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) lease: pg::LeaseArgs,
    #[command(flatten)]
    pub(crate) peers: packets::PeerArgs,
}

/// What clients may hold; more is answered with an error.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Channels registered at once.
    #[arg(long, env = "MAX_CHANNELS", value_name = "COUNT", default_value_t = 100_000)]
    pub(crate) max_channels: usize,
    /// Channels of one connection.
    #[arg(long, env = "MAX_CHANNELS_PER_SESSION", value_name = "COUNT", default_value_t = 256)]
    pub(crate) max_channels_per_session: usize,
    /// Channels of one address (IPv4, or IPv6 /64).
    #[arg(long, env = "MAX_CHANNELS_PER_ADDRESS", value_name = "COUNT", default_value_t = 4_096)]
    pub(crate) max_channels_per_address: usize,
    /// Longest name of a channel.
    #[arg(long, env = "MAX_NAME", value_name = "SIZE", default_value = "1kb",
          value_parser = size::parse_usize)]
    pub(crate) max_name: usize,
    /// Pad requests one connection may wait for; over WebSocket it is always one.
    #[arg(long, env = "MAX_REQUESTS_PER_SESSION", value_name = "COUNT", default_value_t = 128)]
    pub(crate) max_requests_per_session: usize,
    /// Pad requests one address may wait for (IPv4, or IPv6 /64).
    #[arg(long, env = "MAX_REQUESTS_PER_ADDRESS", value_name = "COUNT", default_value_t = 4_096)]
    pub(crate) max_requests_per_address: usize,
    /// Pad requests that may wait for the answers of one channel.
    #[arg(long, env = "MAX_REQUESTS_PER_CHANNEL", value_name = "COUNT", default_value_t = 4_096)]
    pub(crate) max_requests_per_channel: usize,
    /// Time a channel's owner has to answer a pad request.
    #[arg(long, env = "TIME_TO_ANSWER", value_name = "TIME", default_value = "60s",
          value_parser = duration::parse)]
    pub(crate) time_to_answer: Duration,
}

impl Config {
    /// As the command line `args` would set it.
    ///
    /// # Panics
    /// When an argument is unknown or wrong.
    #[must_use]
    pub fn from_args(args: &[&str]) -> Self {
        use clap::{Args, FromArgMatches};
        let command = Self::augment_args(clap::Command::new("channel-hub")).no_binary_name(true);
        let matches = command.get_matches_from(args);
        Self::from_arg_matches(&matches).expect("clap has checked the arguments")
    }

    /// The limits of the hub.
    pub(crate) fn hub_limits(&self) -> Limits {
        let limits = &self.limits;
        Limits {
            channels: limits.max_channels,
            channels_per_session: limits.max_channels_per_session,
            channels_per_address: limits.max_channels_per_address,
            name_bytes: limits.max_name,
            requests_per_session: limits.max_requests_per_session,
            requests_per_address: limits.max_requests_per_address,
            requests_per_channel: limits.max_requests_per_channel,
            time_to_answer: limits.time_to_answer,
        }
    }
}
