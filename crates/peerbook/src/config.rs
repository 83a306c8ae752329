//! Settings of the peerbook service.

#[cfg(feature = "webrtc")]
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use edge::limit::Allowance;
use service::{duration, size};

use crate::domain::{ice::IceArgs, mail::MailArgs};

/// Settings of the peerbook service; what each is for stands in its help text.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    #[command(flatten)]
    pub(crate) listen: edge::ListenArgs,
    #[command(flatten)]
    pub(crate) database: pg::DatabaseArgs,
    /// Where clients reach us, such as `https://book.example.org`: what links in mail begin with
    /// and what proofs are made for. Request headers are never believed for that.
    #[arg(
        long,
        env = "PUBLIC_URL",
        value_name = "URL",
        default_value = "http://localhost:17777",
        value_parser = public_url
    )]
    pub(crate) public_url: String,
    #[command(flatten)]
    pub(crate) sockets: SocketArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) proof: ProofArgs,
    #[command(flatten)]
    pub(crate) mail: MailArgs,
    #[command(flatten)]
    pub(crate) ice: IceArgs,
    #[command(flatten)]
    pub(crate) lease: pg::LeaseArgs,
    #[command(flatten)]
    pub(crate) bus: bus::BusArgs,
    #[cfg(feature = "webrtc")]
    #[command(flatten)]
    pub(crate) rtc: RtcArgs,
}

/// Connections by WebRTC.
#[cfg(feature = "webrtc")]
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "WebRTC")]
pub(crate) struct RtcArgs {
    /// UDP address for connections by WebRTC; without it `/offer` answers 404.
    #[arg(long, env = "RTC_LISTEN", value_name = "ADDRESS")]
    pub(crate) rtc_listen: Option<SocketAddr>,
    /// Our addresses as clients see them [default: the one listened at].
    #[arg(long, env = "RTC_PUBLIC_IP", value_name = "IP", value_delimiter = ',')]
    pub(crate) rtc_public_ip: Vec<IpAddr>,
    /// Whose offers are taken besides those of verified peers: they may register.
    #[arg(long, env = "RTC_STRANGERS", value_name = "WHO", default_value = "bearer")]
    pub(crate) rtc_strangers: Strangers,
    /// Connections at a time.
    #[arg(long, env = "RTC_MAX", value_name = "COUNT", default_value_t = 2_000)]
    pub(crate) rtc_max: usize,
    /// Connections at a time from one address (IPv4, or IPv6 /64).
    #[arg(long, env = "RTC_MAX_PER_ADDRESS", value_name = "COUNT", default_value_t = 32)]
    pub(crate) rtc_max_per_address: usize,
    /// How long a connection may take until its channel is open.
    #[arg(long, env = "RTC_CONNECT_WITHIN", value_name = "TIME", default_value = "30s",
          value_parser = duration::parse)]
    pub(crate) rtc_connect_within: Duration,
    /// How long a connection lasts; clients come again.
    #[arg(long, env = "RTC_MAX_AGE", value_name = "TIME", default_value = "1h",
          value_parser = duration::parse)]
    pub(crate) rtc_max_age: Duration,
}

/// Whose offers are taken besides those of verified peers.
#[cfg(feature = "webrtc")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Strangers {
    /// Nobody's.
    None,
    /// Of those with any `Authorization: Bearer`, as clients send that want to register. The others
    /// hear 401, by which clients know that they have to log in.
    Bearer,
    /// Everybody's.
    All,
}

/// How sockets are kept.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sockets")]
pub(crate) struct SocketArgs {
    /// Longest message; a longer one closes the socket with 1009.
    #[arg(long, env = "MAX_MESSAGE", value_name = "SIZE", default_value = "64kb",
          value_parser = size::parse_usize)]
    pub(crate) max_message: usize,
    /// Silence after which a client is pinged.
    #[arg(long, env = "PING_INTERVAL", value_name = "TIME", default_value = "50s",
          value_parser = duration::parse)]
    pub(crate) ping_interval: Duration,
    /// Silence after which a client is taken for gone.
    #[arg(long, env = "IDLE_TIMEOUT", value_name = "TIME", default_value = "60s",
          value_parser = duration::parse)]
    pub(crate) idle_timeout: Duration,
    /// Bytes that may wait for a client to read them; more closes it with 1013.
    #[arg(long, env = "OUTBOX_BYTES", value_name = "SIZE", default_value = "1mb",
          value_parser = size::parse_usize)]
    pub(crate) outbox_bytes: usize,
    /// Messages that may wait for a client to read them; more closes it with 1013.
    #[arg(long, env = "OUTBOX_FRAMES", value_name = "COUNT", default_value_t = 4_096)]
    pub(crate) outbox_frames: usize,
}

/// What clients may spend, and what a user may have.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Limits (rates as PER_SECOND:BURST, or off)")]
pub(crate) struct LimitArgs {
    /// Verified peers of one user.
    #[arg(long, env = "MAX_PEERS_PER_USER", value_name = "COUNT", default_value = "20",
          value_parser = clap::value_parser!(i64).range(1..=1000))]
    pub(crate) max_peers_per_user: i64,
    /// Unverified peers of one user.
    #[arg(long, env = "MAX_REQUESTS_PER_USER", value_name = "COUNT", default_value = "20",
          value_parser = clap::value_parser!(i64).range(1..=1000))]
    pub(crate) max_requests_per_user: i64,
    /// Requests of all users together that may wait for an answer.
    #[arg(long, env = "MAX_REQUESTS", value_name = "COUNT", default_value = "100000",
          value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) max_requests: i64,
    /// How long a request waits for an answer.
    #[arg(long, env = "REQUEST_AGE", value_name = "TIME", default_value = "7d",
          value_parser = duration::parse)]
    pub(crate) request_age: Duration,
    /// New requests at once from one address (IPv4, or IPv6 /64); one comes back each second.
    #[arg(long, env = "ADDRESS_REQUESTS", value_name = "COUNT", default_value = "30",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) address_requests: u32,
    /// How long a user is not written to again about the same waiting connection.
    #[arg(long, env = "REMIND_AFTER", value_name = "TIME", default_value = "10m",
          value_parser = duration::parse)]
    pub(crate) remind_after: Duration,
    /// How long a pairing code is good.
    #[arg(long, env = "PAIRING_AGE", value_name = "TIME", default_value = "5m",
          value_parser = duration::parse)]
    pub(crate) pairing_age: Duration,
    /// Messages from one connection.
    #[arg(long, env = "PEER_FRAMES", value_name = "RATE", default_value = "500:5000")]
    pub(crate) peer_frames: Allowance,
    /// Messages from one address.
    #[arg(long, env = "ADDRESS_FRAMES", value_name = "RATE", default_value = "10000:50000")]
    pub(crate) address_frames: Allowance,
    /// Bytes from one address.
    #[arg(long, env = "ADDRESS_BYTES", value_name = "RATE", default_value = "32mb:128mb")]
    pub(crate) address_bytes: Allowance,
    /// HTTP requests from one address, handshakes included.
    #[arg(long, env = "ADDRESS_REQUESTS_HTTP", value_name = "RATE", default_value = "100:1000")]
    pub(crate) address_http: Allowance,
}

/// What proves a fingerprint.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Proof")]
pub(crate) struct ProofArgs {
    /// Ask TLS clients for a certificate: one whose SHA-256 is the peer's fingerprint proves it.
    /// Browsers that have certificates ask their user which to show.
    #[arg(long, env = "CLIENT_CERTIFICATES")]
    pub(crate) client_certificates: bool,
    /// Pass on offers and answers even when the SDP names another fingerprint than the sender's.
    #[arg(long, env = "NO_SDP_CHECK")]
    pub(crate) no_sdp_check: bool,
}

impl Config {
    /// As the command line `args` would set it.
    ///
    /// # Panics
    /// When an argument is unknown or wrong.
    #[must_use]
    pub fn from_args(args: &[&str]) -> Self {
        use clap::{Args, FromArgMatches};
        let command = Self::augment_args(clap::Command::new("peerbook")).no_binary_name(true);
        let matches = command.get_matches_from(args);
        Self::from_arg_matches(&matches).expect("clap has checked the arguments")
    }

    /// Host and port of the public URL, as clients write them.
    pub(crate) fn host(&self) -> &str {
        self.public_url
            .split_once("://")
            .map_or("", |(_, host)| host.split('/').next().unwrap_or(""))
    }
}

/// An absolute URL without query, with no slash at its end.
fn public_url(text: &str) -> Result<String, String> {
    let wrong =
        || "expected http://HOST or https://HOST, perhaps with a port and a path".to_owned();
    let uri: http::Uri = text.parse().map_err(|_| wrong())?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    if !known || uri.authority().is_none() || uri.query().is_some() {
        return Err(wrong());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_the_public_url_is_what_proofs_are_made_for() {
        let with = |url: &str| {
            let base = ["--listen", "[::]:0", "--database-url", "postgres:///x", "--public-url"];
            Config::from_args(&[&base[..], &[url]].concat())
        };
        assert_eq!(with("https://book.example.org/").host(), "book.example.org");
        assert_eq!(with("http://localhost:17777/pb").host(), "localhost:17777");
        assert_eq!(with("https://x.org/").public_url, "https://x.org");
        for wrong in ["", "book.example.org", "ftp://x", "https://x/?q"] {
            assert!(public_url(wrong).is_err(), "{wrong}");
        }
    }
}
