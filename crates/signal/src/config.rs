//! Settings of the signal service.

use std::time::Duration;

use edge::{
    limit::{Allowance, Rate},
    meter::Allowances,
};
use service::{duration, size};
use turn::TurnArgs;

/// Settings of the signal service; what each is for stands in its help text.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    #[command(flatten)]
    pub(crate) listen: edge::ListenArgs,
    #[command(flatten)]
    pub(crate) database: pg::DatabaseArgs,
    #[command(flatten)]
    pub(crate) identity: identity::PolicyArgs,
    #[command(flatten)]
    pub(crate) sockets: SocketArgs,
    #[command(flatten)]
    pub(crate) presence: PresenceArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) resume: ResumeArgs,
    #[command(flatten)]
    pub(crate) ice: IceArgs,
    #[command(flatten)]
    pub(crate) check: CheckArgs,
    #[command(flatten)]
    pub(crate) lease: pg::LeaseArgs,
    #[command(flatten)]
    pub(crate) bus: bus::BusArgs,
}

/// How sockets are kept.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Sockets")]
pub(crate) struct SocketArgs {
    /// Longest message [default: 1mb; 100mb under the open policy].
    #[arg(long, env = "MAX_MESSAGE", value_name = "SIZE", value_parser = size::parse_usize)]
    pub(crate) max_message: Option<usize>,
    /// Time a socket may stay without registering.
    #[arg(long, env = "REGISTRATION_DEADLINE", value_name = "TIME", default_value = "60s",
          value_parser = duration::parse)]
    pub(crate) registration_deadline: Duration,
    /// Silence after which a client is pinged.
    #[arg(long, env = "PING_INTERVAL", value_name = "TIME", default_value = "25s",
          value_parser = duration::parse)]
    pub(crate) ping_interval: Duration,
    /// Silence after which a client is taken for gone.
    #[arg(long, env = "IDLE_TIMEOUT", value_name = "TIME", default_value = "75s",
          value_parser = duration::parse)]
    pub(crate) idle_timeout: Duration,
    /// Bytes that may wait for a client to read them; more closes it with 1013.
    #[arg(long, env = "OUTBOX_BYTES", value_name = "SIZE", default_value = "2mb",
          value_parser = size::parse_usize)]
    pub(crate) outbox_bytes: usize,
    /// Frames that may wait for a client to read them; more closes it with 1013.
    #[arg(long, env = "OUTBOX_FRAMES", value_name = "COUNT", default_value_t = 4_096)]
    pub(crate) outbox_frames: usize,
}

/// Who is told what about whom.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Presence")]
pub(crate) struct PresenceArgs {
    /// Peers registered at once; more are refused.
    #[arg(long, env = "MAX_PEERS", value_name = "COUNT", default_value_t = 100_000)]
    pub(crate) max_peers: usize,
    /// Peers listed in a snapshot; the latest to register are kept.
    #[arg(long, env = "SNAPSHOT_MAX_PEERS", value_name = "COUNT", default_value_t = 10_000)]
    pub(crate) snapshot_max_peers: usize,
    /// Departed peers listed in a snapshot; the latest to leave are kept.
    #[arg(long, env = "SNAPSHOT_MAX_DEPARTED", value_name = "COUNT", default_value_t = 1_000)]
    pub(crate) snapshot_max_departed: usize,
    /// Shortest time between two builds of the snapshot.
    #[arg(long, env = "SNAPSHOT_INTERVAL", value_name = "TIME", default_value = "50ms",
          value_parser = duration::parse)]
    pub(crate) snapshot_interval: Duration,
    /// How long it is remembered when a peer left.
    #[arg(long, env = "LAST_SEEN_AGE", value_name = "TIME", default_value = "7d",
          value_parser = duration::parse)]
    pub(crate) last_seen_age: Duration,
    /// Departed peers held in memory.
    #[arg(long, env = "LAST_SEEN_MAX", value_name = "COUNT", default_value_t = 100_000)]
    pub(crate) last_seen_max: usize,
    /// Bytes of presence events a slow client may lag behind before it is closed with 1013.
    #[arg(long, env = "PRESENCE_LOG", value_name = "SIZE", default_value = "8mb",
          value_parser = size::parse_usize)]
    pub(crate) presence_log: usize,
    /// Peers one client may name in presence_subscribe.
    #[arg(long, env = "MAX_SUBSCRIBED", value_name = "COUNT", default_value_t = 1_000)]
    pub(crate) max_subscribed: usize,
    /// Where the program's source is offered, told in every register_ack.
    #[arg(long, env = "SOURCE_URL", value_name = "URL", default_value = "")]
    pub(crate) source_url: String,
}

/// What clients may spend; all off by default under the open policy.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Limits (PER_SECOND:BURST, or off; off under the open policy)")]
pub(crate) struct LimitArgs {
    /// Frames from one client [default: 500:5000].
    #[arg(long, env = "PEER_FRAMES", value_name = "RATE")]
    pub(crate) peer_frames: Option<Allowance>,
    /// Bytes from one client [default: 4mb:16mb].
    #[arg(long, env = "PEER_BYTES", value_name = "RATE")]
    pub(crate) peer_bytes: Option<Allowance>,
    /// Frames from one address (IPv4, or IPv6 /64) [default: 10000:50000].
    #[arg(long, env = "ADDRESS_FRAMES", value_name = "RATE")]
    pub(crate) address_frames: Option<Allowance>,
    /// Bytes from one address [default: 32mb:128mb].
    #[arg(long, env = "ADDRESS_BYTES", value_name = "RATE")]
    pub(crate) address_bytes: Option<Allowance>,
    /// Register frames from one address [default: 100:3000].
    #[arg(long, env = "ADDRESS_REGISTERS", value_name = "RATE")]
    pub(crate) address_registers: Option<Allowance>,
}

/// What is kept for clients that asked for a resume token.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Resume")]
pub(crate) struct ResumeArgs {
    /// Time to come back with a resume token; 0 hands out none.
    #[arg(long, env = "RESUME_WINDOW", value_name = "TIME", default_value = "30s",
          value_parser = duration::parse)]
    pub(crate) resume_window: Duration,
    /// Signals kept per session.
    #[arg(long, env = "RESUME_FRAMES", value_name = "COUNT", default_value_t = 256)]
    pub(crate) resume_frames: usize,
    /// Bytes of signals kept per session.
    #[arg(long, env = "RESUME_BYTES", value_name = "SIZE", default_value = "256kb",
          value_parser = size::parse_usize)]
    pub(crate) resume_bytes: usize,
    /// Bytes of signals kept for all sessions together.
    #[arg(long, env = "RESUME_TOTAL_BYTES", value_name = "SIZE", default_value = "64mb",
          value_parser = size::parse_usize)]
    pub(crate) resume_total_bytes: usize,
}

/// ICE servers for clients that ask.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "TURN")]
pub(crate) struct IceArgs {
    #[command(flatten)]
    pub(crate) turn: TurnArgs,
    /// How long a credential is good for.
    #[arg(long, env = "TURN_TTL", value_name = "TIME", default_value = "12h",
          value_parser = duration::parse)]
    pub(crate) turn_ttl: Duration,
}

/// The connectivity page.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Connectivity page")]
pub(crate) struct CheckArgs {
    /// What `/check` does: `relay` gives the page a TURN credential, `page` does not, `off` is no page.
    #[arg(long, env = "CHECK", value_name = "MODE", default_value = "relay")]
    pub(crate) check: CheckMode,
    /// How long the page's credential works at least; at most twice as long.
    #[arg(long, env = "CHECK_TTL", value_name = "TIME", default_value = "2m",
          value_parser = duration::parse)]
    pub(crate) check_ttl: Duration,
    /// Other services to measure the way to, as NAME=URL, such as relay=https://HOST:444/health.
    #[arg(long, env = "CHECK_SERVICES", value_name = "LIST", value_delimiter = ',')]
    pub(crate) check_services: Vec<CheckedService>,
}

/// What the connectivity page may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CheckMode {
    /// Everything.
    Relay,
    /// Everything that needs no TURN credential.
    Page,
    /// There is none.
    Off,
}

/// A service the connectivity page measures the way to.
#[derive(Clone, Debug)]
pub(crate) struct CheckedService {
    pub(crate) name: String,
    pub(crate) url: String,
}

impl CheckedService {
    /// Scheme, host and port.
    pub(crate) fn origin(&self) -> &str {
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("", &self.url));
        let host = rest.split('/').next().unwrap_or("");
        &self.url[..scheme.len() + 3 + host.len()]
    }
}

impl std::str::FromStr for CheckedService {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text}: expected NAME=http://HOST/… or NAME=https://HOST/…");
        let (name, url) = text.split_once('=').ok_or_else(wrong)?;
        let uri: http::Uri = url.parse().map_err(|_| wrong())?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        // What stands in a header that browsers act upon.
        let plain = url.bytes().all(|byte| byte.is_ascii_graphic() && !b";,'\"".contains(&byte));
        if !known || !plain || uri.authority().is_none() || name.is_empty() {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), url: url.to_owned() })
    }
}

impl Config {
    /// The defaults, listening at `listen` with the database at `url`; what tests start from.
    ///
    /// # Panics
    /// When a default does not parse, which the tests of this crate rule out.
    #[must_use]
    pub fn at(listen: &str, url: &str) -> Self {
        Self::from_args(&["--listen", listen, "--database-url", url])
    }

    /// As the command line `args` would set it.
    ///
    /// # Panics
    /// When an argument is unknown or wrong.
    #[must_use]
    pub fn from_args(args: &[&str]) -> Self {
        use clap::{Args, FromArgMatches};
        let command = Self::augment_args(clap::Command::new("signal")).no_binary_name(true);
        let matches = command.get_matches_from(args);
        Self::from_arg_matches(&matches).expect("clap has checked the arguments")
    }

    /// The limits in force: the defaults, or none under the open policy, where nothing is set.
    pub(crate) fn allowances(&self) -> Allowances {
        const MB: u32 = 1 << 20;
        let LimitArgs { peer_frames, peer_bytes, address_frames, address_bytes, .. } = self.limits;
        Allowances {
            peer_frames: self.rate(peer_frames, 500, 5_000),
            peer_bytes: self.rate(peer_bytes, 4 * MB, 16 * MB),
            address_frames: self.rate(address_frames, 10_000, 50_000),
            address_bytes: self.rate(address_bytes, 32 * MB, 128 * MB),
        }
    }

    /// Registrations of one address in force; `None` is no limit.
    pub(crate) fn address_registers(&self) -> Option<Rate> {
        self.rate(self.limits.address_registers, 100, 3_000)
    }

    fn rate(&self, set: Option<Allowance>, per_second: u32, burst: u32) -> Option<Rate> {
        match set {
            Some(Allowance(rate)) => rate,
            None if self.identity.identity_policy.is_open() => None,
            None => Some(Rate { burst, per_second }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_on_unless_the_policy_is_open() {
        let with = |settings: &[&str]| {
            let base = ["--listen", "[::]:0", "--database-url", "postgres:///x"];
            Config::from_args(&[&base, settings].concat())
        };
        assert_eq!(with(&[]).allowances().peer_frames.unwrap().per_second, 500);
        assert!(with(&["--peer-frames", "off"]).allowances().peer_frames.is_none());
        let open = with(&["--identity-policy", "open", "--peer-bytes", "1mb:2mb"]);
        assert!(open.address_registers().is_none());
        let open = open.allowances();
        assert!(open.peer_frames.is_none());
        assert_eq!(open.peer_bytes.unwrap().burst, 2 << 20);
    }

    #[test]
    fn services_to_be_measured_have_a_name_and_a_plain_url() {
        let read = |text: &str| text.parse::<CheckedService>();
        let relay = read("relay=https://h.example:444/health").unwrap();
        assert_eq!((relay.name.as_str(), relay.origin()), ("relay", "https://h.example:444"));
        assert_eq!(read("mesh=http://[::1]:8000").unwrap().origin(), "http://[::1]:8000");
        for wrong in ["relay", "=https://x/", "a=ftp://x", "a=/x", "a=https://x/;script-src", "a=x"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
