//! How a mail leaves: to a mail server, or to a directory.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};

use super::args::{MailArgs, SmtpTls};

/// Longest wait for any one answer of the mail server.
const SMTP_TIMEOUT: Duration = Duration::from_secs(20);

/// Where mail goes.
pub(super) enum Courier {
    /// Nowhere: none is taken.
    Off,
    /// To files, for development.
    Directory { directory: PathBuf, next: AtomicU64 },
    /// To a mail server.
    Smtp(Box<AsyncSmtpTransport<Tokio1Executor>>),
}

/// Why a mail did not leave.
#[derive(Debug, thiserror::Error)]
pub(super) enum CourierError {
    /// The mail server refused this mail or its recipient for good.
    #[error("refused by the mail server")]
    Refused(#[source] lettre::transport::smtp::Error),
    /// The mail server is away or asked to come back.
    #[error("the mail server cannot take it now")]
    Smtp(#[source] lettre::transport::smtp::Error),
    /// The file could not be written.
    #[error("cannot write the mail")]
    File(#[from] std::io::Error),
}

impl Courier {
    /// The courier the settings ask for.
    pub(super) fn new(args: &MailArgs, host: &str) -> anyhow::Result<Self> {
        // Here and not in the parser: it does not compare what comes from the environment.
        let server = args.smtp_host.as_ref().filter(|host| !host.is_empty());
        anyhow::ensure!(
            server.is_none() || args.mail_dir.is_none(),
            "a mail server and a mail directory are both set; keep one"
        );
        anyhow::ensure!(
            args.smtp_user.is_none() || args.smtp_pass.is_some(),
            "a name for the mail server is set and no password"
        );
        if let Some(directory) = &args.mail_dir {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
            return Ok(Self::Directory { directory: directory.clone(), next: AtomicU64::new(0) });
        }
        let Some(server) = server else { return Ok(Self::Off) };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(server)
            .port(args.smtp_port)
            .tls(tls(args, server)?)
            .timeout(Some(SMTP_TIMEOUT))
            .hello_name(ClientId::Domain(host.to_owned()));
        if let (Some(user), Some(password)) = (&args.smtp_user, &args.smtp_pass) {
            builder = builder.credentials(Credentials::new(user.clone(), password.clone()));
        }
        Ok(Self::Smtp(Box::new(builder.build())))
    }

    /// Hands a mail over; `link` is what a development log may show.
    pub(super) async fn send(
        &self,
        mail: Message,
        link: Option<&str>,
        now_ms: i64,
    ) -> Result<(), CourierError> {
        match self {
            Self::Off => Ok(()),
            Self::Directory { directory, next } => {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let path = directory.join(format!("{now_ms}-{number:04}.eml"));
                write(&path, &mail.formatted()).await?;
                tracing::info!(link = link.unwrap_or("none"), file = %path.display(), "mail written");
                Ok(())
            }
            Self::Smtp(transport) => match transport.send(mail).await {
                Ok(_) => Ok(()),
                // A refused login is the operator's to mend, not the mail's fault.
                Err(why) if why.is_permanent() && !is_login(&why) => {
                    Err(CourierError::Refused(why))
                }
                Err(why) => Err(CourierError::Smtp(why)),
            },
        }
    }
}

/// 530, 534, 535 and 538 are about the login (RFC 4954).
fn is_login(why: &lettre::transport::smtp::Error) -> bool {
    why.status().is_some_and(|code| matches!(u16::from(code), 530 | 534 | 535 | 538))
}

/// The file appears whole or not at all.
async fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let unfinished = path.with_extension("part");
    tokio::fs::write(&unfinished, bytes).await?;
    tokio::fs::rename(&unfinished, path).await
}

fn tls(args: &MailArgs, server: &str) -> anyhow::Result<Tls> {
    let when = args.smtp_tls();
    if when == SmtpTls::Off {
        return Ok(Tls::None);
    }
    let mut parameters = TlsParameters::builder(server.to_owned());
    if let Some(path) = &args.smtp_ca {
        let pem = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let authority = Certificate::from_pem(&pem)
            .with_context(|| format!("{} holds no certificate", path.display()))?;
        parameters = parameters.add_root_certificate(authority);
    }
    let parameters = parameters.build_rustls().context("TLS towards the mail server")?;
    Ok(match when {
        SmtpTls::Off => Tls::None,
        SmtpTls::Offered => Tls::Opportunistic(parameters),
        SmtpTls::Required => Tls::Required(parameters),
        SmtpTls::Implicit => Tls::Wrapper(parameters),
    })
}
