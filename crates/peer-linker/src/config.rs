//! Settings of the peer-linker service.

use std::time::Duration;

use edge::limit::Allowance;
use service::{duration, size};

use crate::domain::{pads, transfers};

/// Settings of the peer-linker service; what each is for stands in its help text.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    #[command(flatten)]
    pub(crate) listen: edge::ListenArgs,
    #[command(flatten)]
    pub(crate) database: pg::DatabaseArgs,
    #[command(flatten)]
    pub(crate) clients: packets::PacketArgs,
    #[command(flatten)]
    pub(crate) pads: PadArgs,
    #[command(flatten)]
    pub(crate) http: HttpArgs,
    #[command(flatten)]
    pub(crate) lease: pg::LeaseArgs,
    #[command(flatten)]
    pub(crate) peers: packets::PeerArgs,
}

/// What clients may register and ask for.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Pads")]
pub(crate) struct PadArgs {
    /// Longest name of a pad, in bytes.
    #[arg(long, env = "MAX_NAME", value_name = "BYTES", default_value_t = 1_024,
          value_parser = clap::value_parser!(u16).range(1..=65_495))]
    pub(crate) max_name: u16,
    /// Pads registered at once; more are refused.
    #[arg(long, env = "MAX_PADS", value_name = "COUNT", default_value_t = 100_000)]
    pub(crate) max_pads: usize,
    /// Pads registered at once from one address (IPv4, or IPv6 /64).
    #[arg(long, env = "MAX_PADS_PER_ADDRESS", value_name = "COUNT", default_value_t = 2_000)]
    pub(crate) max_pads_per_address: usize,
    /// Link requests that may wait at one pad.
    #[arg(long, env = "MAX_REQUESTS_PER_PAD", value_name = "COUNT", default_value_t = 64)]
    pub(crate) max_requests_per_pad: usize,
    /// Link requests that may wait in all.
    #[arg(long, env = "MAX_REQUESTS", value_name = "COUNT", default_value_t = 20_000)]
    pub(crate) max_requests: usize,
    /// Bytes of names and secrets of all link requests that wait.
    #[arg(long, env = "MAX_REQUEST_BYTES", value_name = "SIZE", default_value = "32mb",
          value_parser = size::parse_usize)]
    pub(crate) max_request_bytes: usize,
    /// Time to answer a link request; then it counts as denied.
    #[arg(long, env = "ANSWER_TIME", value_name = "TIME", default_value = "2m",
          value_parser = duration::parse)]
    pub(crate) answer_time: Duration,
    /// Time a link request may wait for a pad that is not registered yet [default: none].
    #[arg(long, env = "WAIT_FOR_PAD", value_name = "TIME", value_parser = duration::parse)]
    pub(crate) wait_for_pad: Option<Duration>,
    /// Bytes that one identity (a certificate's content; without --key an address) may send:
    /// PER_SECOND:BURST, or off.
    #[arg(long, env = "IDENTITY_BANDWIDTH", value_name = "RATE", default_value = "off")]
    pub(crate) identity_bandwidth: Allowance,
    /// Pass packets on that only the server should send (types 7 to 10 of the WebSocket
    /// generation), as the original does.
    #[arg(long, env = "PASS_SERVER_TYPES")]
    pub(crate) pass_server_types: bool,
}

/// Pads for programs that speak nothing but HTTP.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "HTTP pads")]
pub(crate) struct HttpArgs {
    /// HTTP pads in use at once; 0 switches them off.
    #[arg(long, env = "HTTP_PADS", value_name = "COUNT", default_value_t = 1_000)]
    pub(crate) http_pads: usize,
    /// Time the first of PUT and GET waits for the other.
    #[arg(long, env = "HTTP_MEET_TIME", value_name = "TIME", default_value = "5m",
          value_parser = duration::parse)]
    pub(crate) http_meet_time: Duration,
    /// Time in which nothing moves before a transfer is broken off.
    #[arg(long, env = "HTTP_STALL_TIME", value_name = "TIME", default_value = "60s",
          value_parser = duration::parse)]
    pub(crate) http_stall_time: Duration,
}

impl Config {
    /// As the command line `args` would set it; what tests start from.
    ///
    /// # Panics
    /// When an argument is unknown or wrong.
    #[must_use]
    pub fn from_args(args: &[&str]) -> Self {
        use clap::{Args, FromArgMatches};
        let command = Self::augment_args(clap::Command::new("peer-linker")).no_binary_name(true);
        let matches = command.get_matches_from(args);
        Self::from_arg_matches(&matches).expect("clap has checked the arguments")
    }

    pub(crate) fn limits(&self) -> pads::Limits {
        let pads = &self.pads;
        pads::Limits {
            name_bytes: pads.max_name.into(),
            pads: pads.max_pads,
            pads_per_address: pads.max_pads_per_address,
            requests_per_pad: pads.max_requests_per_pad,
            requests: pads.max_requests,
            request_bytes: pads.max_request_bytes,
            answer_time: pads.answer_time,
            wait_time: pads.wait_for_pad,
        }
    }

    pub(crate) fn transfers(&self) -> transfers::Bounds {
        let http = &self.http;
        transfers::Bounds {
            max: http.http_pads,
            meet: http.http_meet_time,
            stall: http.http_stall_time,
        }
    }
}
