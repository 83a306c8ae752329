//! Settings of mail and of the links in it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;
use service::duration;
use smtp::{Encryption, Server};

/// How links are mailed.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Mail")]
pub(crate) struct MailArgs {
    /// Mail server. Without it, and without a mail directory, no mail is sent.
    #[arg(long, env = "SMTP_HOST", value_name = "HOST")]
    pub(crate) smtp_host: Option<String>,
    /// Its port.
    #[arg(long, env = "SMTP_PORT", value_name = "PORT", default_value_t = 587)]
    pub(crate) smtp_port: u16,
    /// Name to log in with; no login without.
    #[arg(long, env = "SMTP_USER", value_name = "NAME")]
    pub(crate) smtp_user: Option<String>,
    /// Password to log in with.
    #[arg(long, env = "SMTP_PASS", value_name = "PASSWORD", hide_env_values = true)]
    pub(crate) smtp_pass: Option<String>,
    /// Encryption towards the mail server [default: required with a login, else offered].
    #[arg(long, env = "SMTP_TLS", value_name = "WHEN")]
    pub(crate) smtp_tls: Option<Encryption>,
    /// File with the certificate (PEM) of an authority to trust besides the public ones.
    #[arg(long, env = "SMTP_CA", value_name = "FILE")]
    pub(crate) smtp_ca: Option<PathBuf>,
    /// Sender of all mail; PeerBook, at `peerbook@` and the host of the public URL, unless set.
    #[arg(long, env = "MAIL_FROM", value_name = "MAILBOX")]
    pub(crate) mail_from: Option<Mailbox>,
    /// For development: write every mail to a file in this directory and its link to the log.
    #[arg(long, env = "MAIL_DIR", value_name = "DIRECTORY")]
    pub(crate) mail_dir: Option<PathBuf>,
    /// Who gets what is posted to /support; refused without.
    #[arg(long, env = "SUPPORT_ADDRESS", value_name = "MAILBOX")]
    pub(crate) support_address: Option<Mailbox>,
    /// Shortest time between two mails to one address.
    #[arg(long, env = "MAIL_INTERVAL", value_name = "TIME", default_value = "60s",
          value_parser = duration::parse)]
    pub(crate) mail_interval: Duration,
    /// Most mails to one address in a day.
    #[arg(long, env = "MAIL_PER_DAY", value_name = "COUNT", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) mail_per_day: u32,
    /// Most mails in an hour one client (IPv4 address, IPv6 /64) may cause.
    #[arg(long, env = "MAIL_PER_CLIENT", value_name = "COUNT", default_value_t = 60,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) mail_per_client: u32,
    /// Most mails that wait to be sent; more are not taken.
    #[arg(long, env = "MAIL_WAITING", value_name = "COUNT", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) mail_waiting: u32,
    /// How long a link may be used.
    #[arg(long, env = "TOKEN_TTL", value_name = "TIME", default_value = "300s",
          value_parser = duration::parse)]
    pub(crate) token_ttl: Duration,
    /// Ask everybody for a one-time password, so that a first visit begins with its set-up.
    #[arg(long, env = "REQUIRE_TOTP")]
    pub(crate) require_totp: bool,
}

impl MailArgs {
    /// The mail server, if there is one.
    pub(super) fn server(&self) -> Option<Server<'_>> {
        Some(Server {
            host: self.smtp_host.as_deref().filter(|host| !host.is_empty())?,
            port: self.smtp_port,
            user: self.smtp_user.as_deref(),
            password: self.smtp_pass.as_deref(),
            encryption: self.smtp_tls,
            authority: self.smtp_ca.as_deref(),
        })
    }
}

impl fmt::Debug for MailArgs {
    /// Leaves the password out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailArgs").field("smtp_host", &self.smtp_host).finish_non_exhaustive()
    }
}
