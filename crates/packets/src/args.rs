//! Settings both services share.

use std::{path::PathBuf, time::Duration};

use service::{duration, size};

/// The original programs' arguments and what they are here. `-k`, `--key`, `-c`,
/// `--cert-verifier` and `-h` are the same.
pub const ARGUMENTS: &[(&str, &str)] = &[
    ("-p", "--listen-port"),
    ("-sc", "--tls-cert"),
    ("--ssl-cert", "--tls-cert"),
    ("-sk", "--tls-key"),
    ("--ssl-key", "--tls-key"),
    // As the original's guide spells it.
    ("--ssk-key", "--tls-key"),
    ("-wd", "--dump-packets"),
    ("-wb", "--websocket-log"),
];

/// Who may use the service, and what one connection may use of it.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Clients")]
pub struct PacketArgs {
    /// Secret with which user certificates are made: the file's bytes, whatever they are. Without
    /// it everybody may use the service.
    #[arg(short, long, env = "KEY_PATH", value_name = "FILE")]
    pub key: Option<PathBuf>,

    /// Program that has the last word on a certificate: run with its content as the one argument,
    /// it accepts by exit code 0. Ignored without `--key`.
    #[arg(short, long, env = "CERT_VERIFIER", value_name = "EXEC")]
    pub cert_verifier: Option<PathBuf>,

    /// Refuse certificates whose content has a line `expires=` with a time that is over: seconds
    /// since 1970, or the last day as YYYYMMDD (UTC). Ignored without `--key`.
    #[arg(long, env = "CERT_RULES")]
    pub cert_rules: bool,

    /// Time the verifier has; then it is killed and the certificate refused.
    #[arg(long, env = "CERT_VERIFIER_TIMEOUT", value_name = "TIME", default_value = "10s",
          value_parser = duration::parse)]
    pub cert_verifier_timeout: Duration,

    /// Verifiers that run at once; more wait for their turn, no longer than one may run.
    #[arg(long, env = "CERT_VERIFIERS", value_name = "COUNT", default_value_t = 16)]
    pub cert_verifiers: usize,

    /// Time a client has to activate its session.
    #[arg(long, env = "ACTIVATION_TIMEOUT", value_name = "TIME", default_value = "10m",
          value_parser = duration::parse)]
    pub activation_timeout: Duration,

    /// Refused activations after which a connection is closed.
    #[arg(long, env = "ACTIVATION_TRIES", value_name = "COUNT", default_value_t = 100)]
    pub activation_tries: u32,

    /// Time between a WebSocket's opening or last pong and the next ping.
    #[arg(long, env = "PING_INTERVAL", value_name = "TIME", default_value = "5m",
          value_parser = duration::parse)]
    pub ping_interval: Duration,

    /// Time a WebSocket client has to answer a ping; then its connection is dropped.
    #[arg(long, env = "PONG_TIMEOUT", value_name = "TIME", default_value = "10s",
          value_parser = duration::parse)]
    pub pong_timeout: Duration,

    /// Bytes of payload that may wait for one client; its partner is not read while more do.
    #[arg(long, env = "PAYLOAD_MARK", value_name = "SIZE", default_value = "1mb",
          value_parser = size::parse_usize)]
    pub payload_mark: usize,

    /// Bytes of the service's own packets that may wait for one client; more close it.
    #[arg(long, env = "CONTROL_MAX", value_name = "SIZE", default_value = "1mb",
          value_parser = size::parse_usize)]
    pub control_max: usize,

    /// Time a client may read nothing of what waits for it; then its connection is dropped.
    /// Unacknowledged bytes end it after `--send-timeout`, if that is less.
    #[arg(long, env = "WRITE_DEADLINE", value_name = "TIME", default_value = "60s",
          value_parser = duration::parse)]
    pub write_deadline: Duration,

    /// Log the first bytes of every packet, in hexadecimal, for looking for a fault.
    #[arg(long, env = "DUMP_PACKETS")]
    pub dump_packets: bool,

    /// Accepted for the original's command lines; there is nothing left that it sets.
    #[arg(long, value_name = "BITMAP", hide = true)]
    pub websocket_log: Option<u8>,
}

impl Default for PacketArgs {
    /// The defaults of the command line; what tests start from.
    fn default() -> Self {
        Self {
            key: None,
            cert_verifier: None,
            cert_rules: false,
            cert_verifier_timeout: Duration::from_secs(10),
            cert_verifiers: 16,
            activation_timeout: Duration::from_secs(600),
            activation_tries: 100,
            ping_interval: Duration::from_secs(300),
            pong_timeout: Duration::from_secs(10),
            payload_mark: 1 << 20,
            control_max: 1 << 20,
            write_deadline: Duration::from_secs(60),
            dump_packets: false,
            websocket_log: None,
        }
    }
}

/// Bytes of control packets that may wait for another process: it stands for many clients, and is
/// told of all there is when it calls.
const SIBLING_CONTROL_MAX: usize = 64 << 20;
/// As good as never.
pub(crate) const FAR: Duration = Duration::from_secs(30 * 86_400);

/// What every connection keeps to.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) activation_timeout: Duration,
    pub(crate) activation_tries: u32,
    pub(crate) ping_interval: Duration,
    pub(crate) pong_timeout: Duration,
    pub(crate) payload_mark: usize,
    pub(crate) control_max: usize,
    pub(crate) write_deadline: Duration,
    pub(crate) dump_packets: bool,
    /// How long a farewell may take.
    pub(crate) close_timeout: Duration,
}

impl Limits {
    pub(crate) fn of(args: &PacketArgs) -> Self {
        Self {
            activation_timeout: args.activation_timeout,
            activation_tries: args.activation_tries,
            ping_interval: args.ping_interval,
            pong_timeout: args.pong_timeout,
            payload_mark: args.payload_mark,
            control_max: args.control_max,
            write_deadline: args.write_deadline,
            dump_packets: args.dump_packets,
            close_timeout: Duration::from_secs(5),
        }
    }

    /// For a connection with another process of the service. The client behind it may read as
    /// slowly as its own limits let it; the lease and the kernel tell whether the process lives.
    pub(crate) fn between_siblings(&self) -> Self {
        Self {
            ping_interval: FAR,
            pong_timeout: FAR,
            write_deadline: FAR,
            control_max: self.control_max.max(SIBLING_CONTROL_MAX),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    fn command() -> Command {
        edge::ListenArgs::augment_args(PacketArgs::augment_args(Command::new("test")))
    }

    #[test]
    fn every_translated_argument_leads_to_one_of_ours() {
        let command = command();
        for (old, flag) in ARGUMENTS {
            let known =
                command.get_arguments().any(|arg| arg.get_long() == flag.strip_prefix("--"));
            assert!(known, "{old} leads to {flag}");
        }
        for (short, long) in [('k', "key"), ('c', "cert-verifier")] {
            let same = command.get_arguments().find(|arg| arg.get_short() == Some(short));
            assert_eq!(same.and_then(clap::Arg::get_long), Some(long));
        }
    }

    #[test]
    fn the_defaults_of_tests_are_those_of_the_command_line() {
        let matches = command().get_matches_from(["test", "--listen", "[::]:1"]);
        let parsed = PacketArgs::from_arg_matches(&matches).expect("everything has a default");
        assert_eq!(format!("{parsed:?}"), format!("{:?}", PacketArgs::default()));
    }
}
