//! Flags and environment in, checked settings out.

use std::time::Duration;

use crate::domain::BlobArgs;

use identity::PolicyArgs;

/// Settings of a relay. Every flag is also a variable with `RELAY_` in front.
#[derive(clap::Args, Clone, Debug)]
pub struct Config {
    /// The public socket.
    #[command(flatten)]
    pub listen: edge::ListenArgs,
    /// The database.
    #[command(flatten)]
    pub database: pg::DatabaseArgs,
    /// Who may speak for a peer id.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Rules that `strict` turns on and that can be chosen one by one
    #[command(flatten)]
    pub checks: CheckArgs,
    /// What one mailbox, sender or address may use
    #[command(flatten)]
    pub quotas: QuotaArgs,
    /// What blobs may use
    #[command(flatten)]
    pub blobs: BlobArgs,
    /// Largest request body, inflated or not
    #[arg(
        long,
        env = "BODY_LIMIT",
        value_parser = service::size::parse_usize,
        default_value = "20mb",
        help_heading = "Limits",
    )]
    pub body_limit: usize,
    /// Memory for request bodies of more than 64 KiB, all together; further ones wait, then get 503
    #[arg(
        long,
        env = "BODY_MEMORY",
        value_parser = service::size::parse_usize,
        default_value = "256mb",
        help_heading = "Limits",
    )]
    pub body_memory: usize,
    /// How long a request body may take to arrive
    #[arg(
        long,
        env = "BODY_DEADLINE",
        value_parser = service::duration::parse,
        default_value = "60s",
        help_heading = "Limits",
    )]
    pub body_deadline: Duration,
    /// Seconds an envelope waits for its recipient
    #[arg(
        long,
        env = "TTL_SECONDS",
        default_value_t = 86_400,
        value_parser = clap::value_parser!(u32).range(1..=31_536_000),
        help_heading = "Retention",
    )]
    pub ttl_seconds: u32,
    /// Seconds an unfinished chunked upload is kept
    #[arg(
        long,
        env = "UPLOAD_TTL_SECONDS",
        default_value_t = 21_600,
        value_parser = clap::value_parser!(u32).range(1..=31_536_000),
        help_heading = "Retention",
    )]
    pub upload_ttl_seconds: u32,
    /// Days a group nobody writes to is remembered
    #[arg(
        long,
        env = "MEMBERSHIP_DAYS",
        default_value_t = 365,
        value_parser = clap::value_parser!(u32).range(1..=36_500),
        help_heading = "Retention",
    )]
    pub membership_days: u32,
    /// Connections that write batches of envelopes at the same time; more means smaller batches
    #[arg(
        long,
        env = "WRITE_LANES",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=64),
        help_heading = "Database",
    )]
    pub write_lanes: u32,
    /// Open event streams and long polls this process serves
    #[arg(long, env = "MAX_STREAMS", default_value_t = 20_000, help_heading = "Limits")]
    pub max_streams: usize,
    /// Version shown in the pages that name the source
    #[arg(
        long,
        env = "SOURCE_VERSION",
        default_value = env!("CARGO_PKG_VERSION"),
        help_heading = "Source",
    )]
    pub source_version: String,
    /// Where the source of this program can be had
    #[arg(long, env = "SOURCE_CODE_URL", default_value = "", help_heading = "Source")]
    pub source_code_url: String,
}

/// Checks beyond the policy; unset means as the policy says.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct CheckArgs {
    /// Require fetches and streams to be signed by the owner of the mailbox [strict: true]
    #[arg(long, env = "SIGNED_FETCH", help_heading = "Identity")]
    pub signed_fetch: Option<bool>,
    /// Refuse writes whose `ts` is further from our clock than this; 0 never [strict: 10m]
    #[arg(
        long,
        env = "CLOCK_SKEW",
        value_parser = service::duration::parse,
        help_heading = "Identity",
    )]
    pub clock_skew: Option<Duration>,
    /// Let only a provisional member claim a provisional group [strict: true]
    #[arg(long, env = "CLAIM_BY_MEMBERS", help_heading = "Identity")]
    pub claim_by_members: Option<bool>,
    /// Refuse a members update older than the one in force [strict: true]
    #[arg(long, env = "MEMBERS_MONOTONIC", help_heading = "Identity")]
    pub members_monotonic: Option<bool>,
    /// Refuse base64 without padding in payload, sig and signingPub [strict: true]
    #[arg(long, env = "PADDED_BASE64", help_heading = "Identity")]
    pub padded_base64: Option<bool>,
}

/// Quotas; 0 means none.
#[derive(clap::Args, Clone, Debug)]
pub struct QuotaArgs {
    /// Envelopes one mailbox holds
    #[arg(long, env = "MAILBOX_MESSAGES", default_value_t = 250_000, help_heading = "Quotas")]
    pub mailbox_messages: u64,
    /// Bytes one mailbox holds
    #[arg(
        long,
        env = "MAILBOX_BYTES",
        value_parser = service::size::parse,
        default_value = "2gb",
        help_heading = "Quotas",
    )]
    pub mailbox_bytes: u64,
    /// Envelopes one sender may store a second, a group message counting once per recipient
    #[arg(long, env = "SENDER_MESSAGES", default_value_t = 0, help_heading = "Quotas")]
    pub sender_messages: u32,
    /// Bytes one sender may store a second
    #[arg(
        long,
        env = "SENDER_BYTES",
        value_parser = service::size::parse,
        default_value = "0",
        help_heading = "Quotas",
    )]
    pub sender_bytes: u64,
    /// Requests one address may make a second, with bursts of ten times as many
    #[arg(long, env = "ADDRESS_REQUESTS", default_value_t = 20_000, help_heading = "Quotas")]
    pub address_requests: u32,
}

#[cfg(test)]
impl Config {
    /// The defaults, with `args` on top.
    pub(crate) fn for_tests(args: &[&str]) -> Self {
        use clap::{Args as _, FromArgMatches as _};
        let command = Self::augment_args(clap::Command::new("relay").no_binary_name(true));
        let matches = command.try_get_matches_from(args).expect("valid arguments");
        Self::from_arg_matches(&matches).expect("valid arguments")
    }
}
