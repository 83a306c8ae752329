//! TLS with a certificate that may change while we run.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use parking_lot::RwLock;
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    server::{ClientHello, ResolvesServerCert, ServerSessionMemoryCache},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use service::Context;
use tokio_rustls::TlsAcceptor;

use crate::metrics::Metrics;

/// How often the certificate's files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);
/// Sessions kept for TLS 1.2 clients that resume by id; the others carry a ticket.
const SESSIONS: usize = 10_000;

/// TLS 1.2 and 1.3 with resumption, on the certificate in `cert` and `key`.
///
/// The files are watched; a broken replacement is logged and the old certificate stays.
pub(crate) fn acceptor(
    cert: &Path,
    key: &Path,
    metrics: &Arc<Metrics>,
    cx: &Context,
) -> anyhow::Result<TlsAcceptor> {
    let files = Files { cert: cert.to_owned(), key: key.to_owned() };
    let provider = Arc::new(ring::default_provider());
    let current = Arc::new(Current(RwLock::new(files.load(&provider)?)));
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .context("TLS versions")?
        .with_no_client_auth()
        .with_cert_resolver(current.clone());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new().context("TLS tickets")?;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    let stop = cx.stop.draining().clone();
    let metrics = metrics.clone();
    cx.spawn("certificate", async move {
        stop.run_until_cancelled(watch(files, current, provider, metrics)).await;
    });
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn watch(
    files: Files,
    current: Arc<Current>,
    provider: Arc<CryptoProvider>,
    metrics: Arc<Metrics>,
) {
    let mut seen = files.stamp();
    loop {
        tokio::time::sleep(RELOAD_INTERVAL).await;
        let stamp = files.stamp();
        if stamp == seen {
            continue;
        }
        seen = stamp;
        match files.load(&provider) {
            Ok(certificate) => {
                metrics.certificate_ok.inc();
                *current.0.write() = certificate;
                tracing::info!(file = %files.cert.display(), "certificate reloaded");
            }
            Err(error) => {
                metrics.certificate_failed.inc();
                let error = format!("{error:#}");
                tracing::error!(error, "new certificate is unusable, keeping the old one");
            }
        }
    }
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

struct Files {
    cert: PathBuf,
    key: PathBuf,
}

/// When and how large: enough to notice that a file was replaced.
type Stamp = [Option<(SystemTime, u64)>; 2];

impl Files {
    fn stamp(&self) -> Stamp {
        [&self.cert, &self.key].map(|file| {
            let about = fs::metadata(file).ok()?;
            Some((about.modified().ok()?, about.len()))
        })
    }

    fn load(&self, provider: &CryptoProvider) -> anyhow::Result<Arc<CertifiedKey>> {
        let read =
            |file: &Path| fs::read(file).with_context(|| format!("cannot read {}", file.display()));
        let chain = CertificateDer::pem_slice_iter(&read(&self.cert)?)
            .collect::<Result<Vec<_>, _>>()
            .with_context(|| format!("{} is not PEM", self.cert.display()))?;
        anyhow::ensure!(!chain.is_empty(), "{} has no certificate", self.cert.display());
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .with_context(|| format!("{} has no private key", self.key.display()))?;
        let certified = CertifiedKey::from_der(chain, key, provider)
            .context("certificate and key cannot be used together")?;
        Ok(Arc::new(certified))
    }
}
