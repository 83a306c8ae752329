//! Who is let in: user certificates, and what checks them.

use std::{fs, path::Path, pin::Pin, sync::Arc};

use anyhow::Context as _;
use bytes::Bytes;
use proto::pad::certificate;
use service::{Clock, Context};

use crate::{PacketArgs, metrics::Metrics, verifier::Verifier};

/// Longest secret: beyond it the file named is certainly another.
const KEY_MAX_BYTES: u64 = 1 << 20;

/// The content of a verified certificate: who the operator says the client is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity(Arc<[u8]>);

impl Identity {
    /// The certificate's content.
    pub fn content(&self) -> &[u8] {
        &self.0
    }
}

/// A certificate was refused; the wire does not say why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate is refused")]
pub struct Refused;

/// Checks certificates.
pub struct Gate {
    /// Without one everybody is let in.
    key: Option<Vec<u8>>,
    rules: bool,
    program: Option<Arc<Verifier>>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

/// What is known at once about a certificate.
pub(crate) enum Verdict {
    Now(Result<Option<Identity>, Refused>),
    /// The program has to be asked.
    Later(Pin<Box<dyn Future<Output = Result<Option<Identity>, Refused>> + Send>>),
}

impl Gate {
    pub(crate) fn load(
        args: &PacketArgs,
        cx: &Context,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Self> {
        let key = args.key.as_deref().map(read_key).transpose()?;
        if key.is_none() && (args.cert_verifier.is_some() || args.cert_rules) {
            tracing::warn!("certificates are not checked: there is no --key");
        }
        let program = match (&key, &args.cert_verifier) {
            (Some(_), Some(path)) => {
                let path = std::path::absolute(path).context("no current directory")?;
                let (limit, at_once) = (args.cert_verifier_timeout, args.cert_verifiers);
                Some(Arc::new(Verifier::new(path, limit, at_once, metrics.clone())))
            }
            _ => None,
        };
        Ok(Self { key, rules: args.cert_rules, program, clock: cx.clock.clone(), metrics })
    }

    /// Whether there is no secret, so that everybody is let in.
    pub fn is_open(&self) -> bool {
        self.key.is_none()
    }

    /// Checks a certificate: its signature, then the rules, then the program. Without a secret
    /// every certificate passes and nobody has an identity.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn check(&self, certificate: &[u8]) -> Result<Option<Identity>, Refused> {
        match self.begin(certificate) {
            Verdict::Now(verdict) => verdict,
            Verdict::Later(verdict) => verdict.await,
        }
    }

    pub(crate) fn begin(&self, certificate: &[u8]) -> Verdict {
        match self.check_text(certificate) {
            Ok(None) => self.counted(Ok(None)),
            Err(why) => {
                tracing::debug!(%why, "certificate refused");
                self.counted(Err(Refused))
            }
            Ok(Some(identity)) => match &self.program {
                None => self.counted(Ok(Some(identity))),
                Some(program) => {
                    let (program, metrics) = (program.clone(), self.metrics.clone());
                    Verdict::Later(Box::pin(async move {
                        let accepted = program.accepts(identity.content()).await;
                        counted(&metrics, if accepted { Ok(Some(identity)) } else { Err(Refused) })
                    }))
                }
            },
        }
    }

    fn check_text(&self, text: &[u8]) -> Result<Option<Identity>, certificate::Refused> {
        let Some(key) = &self.key else { return Ok(None) };
        let content = certificate::verify(key, text)?;
        if self.rules {
            certificate::check_expiry(content, self.clock.now_ms())?;
        }
        Ok(Some(Identity(content.into())))
    }

    fn counted(&self, verdict: Result<Option<Identity>, Refused>) -> Verdict {
        Verdict::Now(counted(&self.metrics, verdict))
    }
}

fn counted(
    metrics: &Metrics,
    verdict: Result<Option<Identity>, Refused>,
) -> Result<Option<Identity>, Refused> {
    match verdict {
        Ok(_) => metrics.activated.inc(),
        Err(Refused) => metrics.refused.inc(),
    }
    verdict
}

fn read_key(path: &Path) -> anyhow::Result<Vec<u8>> {
    let unreadable = || format!("cannot read the key {}", path.display());
    let bytes = fs::metadata(path).with_context(unreadable)?.len();
    anyhow::ensure!(bytes <= KEY_MAX_BYTES, "{} is too long for a key", path.display());
    fs::read(path).with_context(unreadable)
}

/// The certificate in an `Authorization: Bearer` header: base64 of the whole certificate, because a
/// header holds no newline.
pub fn bearer(header: &[u8]) -> Option<Bytes> {
    let (scheme, token) = header.split_at_checked(7)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return None;
    }
    let text = str::from_utf8(token.trim_ascii()).ok()?;
    let text = proto::js::Str::from(text);
    Some(proto::base64::decode_lenient(&text).into())
}
