//! What can be typed. The doc comments here are the program's `--help`.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

/// Everything went well.
pub(crate) const EXIT_OK: u8 = 0;
/// Something failed, or `doctor` found something broken.
pub(crate) const EXIT_FAILED: u8 = 1;
/// `up`: something had to be killed while stopping; `status`: nothing runs.
pub(crate) const EXIT_UNCLEAN: u8 = 3;

/// Runs and looks after a Switchyard stack.
#[derive(Parser)]
#[command(
    name = "switchyard",
    version,
    after_help = "Exit codes: 0 done; 1 failed, or `doctor` \
    found something broken; 2 wrong usage; 3 `up` had to kill something to stop, or `status` \
    found nothing running."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the stack keeps what it keeps.
#[derive(Args, Clone)]
pub(crate) struct Place {
    /// Directory of everything the stack keeps: database, secrets, certificates, backups
    /// [default: ./data; for root, /var/lib/switchyard when others cannot reach ./data].
    #[arg(long, global = true, env = "SWITCHYARD_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// Use this Postgres instead of a private one: postgres://user:password@host:5432/database.
    #[arg(long, global = true, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,

    /// File that holds that address.
    #[arg(long, global = true, env = "DATABASE_URL_FILE", value_name = "FILE")]
    pub(crate) database_url_file: Option<PathBuf>,

    /// Directory of Postgres's programs [default: the newest of /usr/lib/postgresql/*/bin].
    #[arg(long, global = true, env = "SWITCHYARD_PG_BIN", value_name = "DIR")]
    pub(crate) pg_bin: Option<PathBuf>,

    /// System user that runs everything when started as root; made when missing.
    #[arg(
        long,
        global = true,
        env = "SWITCHYARD_USER",
        value_name = "NAME",
        default_value = "switchyard"
    )]
    pub(crate) user: String,
}

impl Place {
    /// With the address from its file, if it is given that way.
    pub(crate) fn read(mut self) -> anyhow::Result<Self> {
        if let Some(file) = self.database_url_file.as_ref().filter(|file| *file != "") {
            anyhow::ensure!(
                self.foreign_url().is_none(),
                "DATABASE_URL and DATABASE_URL_FILE are both set; keep one"
            );
            let url = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            self.database_url = Some(url.trim().to_owned());
        }
        Ok(self)
    }

    /// The foreign database's address; an empty variable counts as unset.
    pub(crate) fn foreign_url(&self) -> Option<&str> {
        self.database_url.as_deref().filter(|url| !url.is_empty())
    }
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Start everything on this machine and follow the logs until Ctrl-C.
    Up(UpArgs),
    /// Bring the database's schemas up to date.
    Migrate(MigrateArgs),
    /// Show what runs, where, and how it fares.
    Status(JsonArgs),
    /// Check the machine and the stack; every problem comes with the line that fixes it.
    Doctor(Box<DoctorArgs>),
    /// Look into the database, back it up, restore it.
    #[command(subcommand)]
    Db(DbCommand),
    /// Which key owns a peer id.
    #[command(subcommand)]
    Identity(IdentityCommand),
    /// Make a user certificate for peer-linker and channel-hub, or check one.
    SessionKey(SessionKeyArgs),
    /// Users and peers of the peerbook.
    #[command(subcommand)]
    Peerbook(PeerbookCommand),
    /// Make time-limited TURN credentials.
    TurnCred(TurnCredArgs),
    /// Print the link and QR code from which an app learns of the servers.
    Link(LinkArgs),
    /// Ask a service's admin port whether it is ready; for containers' health checks.
    Health(HealthArgs),
    /// Become another program that ends when its parent does.
    #[command(hide = true)]
    Child(ChildArgs),
}

#[derive(Args)]
pub(crate) struct UpArgs {
    /// Name or address others reach this machine by; prints the link and QR code for the app.
    #[arg(long, env = "PUBLIC_HOST", value_name = "HOST")]
    pub(crate) public: Option<String>,

    /// Run only these services.
    #[arg(long, value_name = "SERVICE", value_delimiter = ',', value_enum)]
    pub(crate) only: Vec<crate::ports::Service>,

    /// Address the services listen on [default: every address of the machine].
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<std::net::IpAddr>,

    /// Add this to every port, to run a second stack beside the first.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) port_offset: u16,

    /// Use another public port for a service: relay=4001. May be repeated.
    #[arg(long, value_name = "SERVICE=PORT")]
    pub(crate) port: Vec<crate::ports::Override>,

    /// Where the folders haproxy/ and coturn/ are [default: the current directory].
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) config_dir: PathBuf,

    /// With --public: leave HAProxy and coturn out even where they are installed.
    #[arg(long)]
    pub(crate) no_front: bool,

    /// Seconds the services get to finish what they are doing once asked to stop.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) grace: u64,

    /// Skip the round trips through the services that prove the stack works.
    #[arg(long)]
    pub(crate) no_self_check: bool,

    /// One JSON object per event instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct MigrateArgs {
    /// Only list what would be applied.
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Then let services log in as the connection strings in these files say. May be repeated.
    #[arg(long, value_name = "FILE", value_delimiter = ',', conflicts_with_all = ["dry_run", "down"])]
    pub(crate) logins: Vec<PathBuf>,

    /// Undo the newest N migrations. Deletes what they hold.
    #[arg(long, value_name = "N", requires = "i_know")]
    pub(crate) down: Option<usize>,

    /// I know that --down deletes data, and have a backup.
    #[arg(long)]
    pub(crate) i_know: bool,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct JsonArgs {
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// Look at the ports a stack with this offset would use.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) port_offset: u16,

    /// Name or address others reach the stack by [default: the running stack's].
    #[arg(long, env = "PUBLIC_HOST", value_name = "HOST")]
    pub(crate) public: Option<String>,

    /// A service that does not run under `up` but as a container or unit, by its admin port:
    /// signal=127.0.0.1:13000. May be repeated.
    #[arg(long, value_name = "SERVICE=HOST:PORT")]
    pub(crate) service: Vec<crate::ports::Deployed>,

    /// Port of a service at the proxy where it is not the usual one: relay=1444. May be repeated.
    #[arg(long, value_name = "SERVICE=PORT")]
    pub(crate) front_port: Vec<crate::ports::Override>,

    /// Certificate to trust besides those of the stack and of the public authorities. May be
    /// repeated.
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Vec<PathBuf>,

    /// TURN server to ask for an allocation, turn:HOST:3478?transport=udp. May be repeated
    /// [default: the running stack's; with --public, that host's].
    #[arg(long, value_name = "URL")]
    pub(crate) turn: Vec<String>,

    /// File of the secret shared with coturn [default: data/secrets/turn].
    #[arg(long, value_name = "FILE")]
    pub(crate) turn_secret_file: Option<PathBuf>,

    /// Name of a static pair, where coturn has no secret.
    #[arg(long, env = "TURN_USER", value_name = "NAME")]
    pub(crate) turn_user: Option<String>,

    /// Password of the static pair.
    #[arg(long, env = "TURN_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub(crate) turn_password: Option<String>,

    /// File that holds it.
    #[arg(long, value_name = "FILE", conflicts_with = "turn_password")]
    pub(crate) turn_password_file: Option<PathBuf>,

    /// Web server to compare the clock with, such as `https://example.org`.
    #[arg(long, value_name = "URL")]
    pub(crate) time_url: Option<String>,

    #[command(flatten)]
    pub(crate) mail: DoctorMailArgs,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// The peerbook's settings of these names.
#[derive(Args)]
pub(crate) struct DoctorMailArgs {
    /// Mail server to talk to; nothing is sent.
    #[arg(long, env = "PEERBOOK_SMTP_HOST", value_name = "HOST")]
    pub(crate) smtp_host: Option<String>,

    /// Its port.
    #[arg(long, env = "PEERBOOK_SMTP_PORT", value_name = "PORT", default_value_t = 587)]
    pub(crate) smtp_port: u16,

    /// Name to log in with.
    #[arg(long, env = "PEERBOOK_SMTP_USER", value_name = "NAME")]
    pub(crate) smtp_user: Option<String>,

    /// Password to log in with.
    #[arg(long, env = "PEERBOOK_SMTP_PASS", value_name = "PASSWORD", hide_env_values = true)]
    pub(crate) smtp_pass: Option<String>,

    /// Encryption towards the mail server [default: required with a login, else offered].
    #[arg(long, env = "PEERBOOK_SMTP_TLS", value_name = "WHEN", value_enum)]
    pub(crate) smtp_tls: Option<smtp::Encryption>,

    /// Certificate (PEM) of an authority to trust besides the public ones.
    #[arg(long, env = "PEERBOOK_SMTP_CA", value_name = "FILE")]
    pub(crate) smtp_ca: Option<PathBuf>,

    /// Send one mail to this address, to see it arrive.
    #[arg(long, value_name = "ADDRESS", requires = "smtp_host")]
    pub(crate) mail_to: Option<String>,

    /// Sender of that mail [default: the address it goes to].
    #[arg(long, env = "PEERBOOK_MAIL_FROM", value_name = "MAILBOX")]
    pub(crate) mail_from: Option<String>,
}

#[derive(Subcommand)]
pub(crate) enum DbCommand {
    /// Open psql on the database; what follows `--` goes to psql.
    Psql {
        /// Arguments for psql.
        #[arg(last = true)]
        arguments: Vec<OsString>,
    },
    /// Dump the database into data/backups, keeping the newest ones.
    Backup {
        /// How many dumps to keep.
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..))]
        keep: u16,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Load a dump, all of it or nothing.
    Restore {
        /// The dump, made by `switchyard db backup`.
        file: PathBuf,
        /// Replace what the database holds.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum IdentityCommand {
    /// Show the key that owns a peer id.
    Show {
        /// The peer id.
        peer: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let the next key that proves itself own a peer id.
    Release {
        /// The peer id.
        peer: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// List pinned peer ids in the order of their bytes.
    List {
        /// Only ids after this one.
        #[arg(long, default_value = "")]
        after: String,
        /// At most this many.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum PeerbookCommand {
    /// Take over users, peers and secrets from the Redis of an original peerbook (0.3.2 or 1.x).
    Import {
        /// Its Redis: redis://USER:PASSWORD@HOST:PORT/DATABASE; all but the host may be left out.
        /// Nothing there is changed.
        url: String,
        /// Only say what would be imported.
        #[arg(long)]
        dry_run: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(crate) struct SessionKeyArgs {
    /// File with the secret that the servers are started with (`--key`).
    #[arg(value_name = "SECRET")]
    pub(crate) secret: PathBuf,

    /// File with the certificate's content; with --verify, the certificate.
    #[arg(value_name = "CONTENT")]
    pub(crate) content: PathBuf,

    /// Check a certificate instead: prints ok or fail, exits with 0 or 1.
    #[arg(short = 'd', long)]
    pub(crate) verify: bool,
}

#[derive(Args)]
pub(crate) struct TurnCredArgs {
    /// Who the credentials are for; coturn's quotas count by this name.
    pub(crate) user: String,

    /// Seconds until they expire.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) ttl: u64,

    /// File of the secret shared with coturn [default: data/secrets/turn].
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct LinkArgs {
    /// Name or address apps reach the servers by.
    #[arg(env = "PUBLIC_HOST")]
    pub(crate) host: String,

    /// Port of signal behind HAProxy.
    #[arg(long, env = "HTTPS_PORT", value_name = "PORT", default_value_t = 443)]
    pub(crate) signal_port: u16,

    /// Port of relay behind HAProxy.
    #[arg(long, env = "RELAY_PORT", value_name = "PORT", default_value_t = 444)]
    pub(crate) relay_port: u16,

    /// Port of TURN over UDP and TCP.
    #[arg(long, env = "TURN_PORT", value_name = "PORT", default_value_t = 3478)]
    pub(crate) turn_port: u16,

    /// Name of coturn's static user, for the TURN entry.
    #[arg(long, env = "TURN_USER", value_name = "NAME", requires = "turn_password_file")]
    pub(crate) turn_user: Option<String>,

    /// File of that user's password.
    #[arg(long, env = "TURN_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) turn_password_file: Option<PathBuf>,

    /// File of the secret shared with coturn: the TURN entry then holds a credential made from it,
    /// for apps that cannot ask for one.
    #[arg(long, value_name = "FILE", conflicts_with = "turn_user")]
    pub(crate) turn_secret_file: Option<PathBuf>,

    /// Days until that credential expires; the link has to be read again then.
    #[arg(long, value_name = "DAYS", default_value_t = 365,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) turn_days: u16,

    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct HealthArgs {
    /// The admin port: 127.0.0.1:13000.
    pub(crate) address: std::net::SocketAddr,

    /// Seconds to wait for the answer.
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    pub(crate) timeout: u64,
}

#[derive(Args)]
pub(crate) struct ChildArgs {
    /// Process that must still be the parent.
    #[arg(long)]
    pub(crate) parent: i32,
    /// Signal to get when the parent ends: INT, TERM or KILL.
    #[arg(long)]
    pub(crate) signal: String,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    pub(crate) program: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn down_needs_an_explicit_word() {
        assert!(Cli::try_parse_from(["switchyard", "migrate", "--down", "1"]).is_err());
        assert!(Cli::try_parse_from(["switchyard", "migrate", "--down", "1", "--i-know"]).is_ok());
    }

    #[test]
    fn a_misspelt_command_gets_a_suggestion() {
        let refused = Cli::try_parse_from(["switchyard", "staus"]).err().expect("refused");
        assert!(refused.to_string().contains("status"), "{refused}");
    }
}
