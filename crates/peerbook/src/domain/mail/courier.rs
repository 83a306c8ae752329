//! How a mail leaves: to a mail server, or to a directory.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use lettre::{AsyncTransport, Message};

use super::args::MailArgs;

/// Longest wait for any one answer of the mail server.
const SMTP_TIMEOUT: Duration = Duration::from_secs(20);

/// Where mail goes.
pub(super) enum Courier {
    /// Nowhere: none is taken.
    Off,
    /// To files, for development.
    Directory { directory: PathBuf, next: AtomicU64 },
    /// To a mail server.
    Smtp(Box<smtp::Transport>),
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
        let server = args.server();
        anyhow::ensure!(
            server.is_none() || args.mail_dir.is_none(),
            "a mail server and a mail directory are both set; keep one"
        );
        if let Some(directory) = &args.mail_dir {
            std::fs::create_dir_all(directory)
                .with_context(|| format!("cannot make {}", directory.display()))?;
            return Ok(Self::Directory { directory: directory.clone(), next: AtomicU64::new(0) });
        }
        let Some(server) = server else { return Ok(Self::Off) };
        Ok(Self::Smtp(Box::new(server.transport(SMTP_TIMEOUT, Some(host))?)))
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
