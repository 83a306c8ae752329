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
    DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    server::{
        ClientHello, ResolvesServerCert, ServerSessionMemoryCache,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject};
use service::Context;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::metrics::Metrics;

/// How often the certificate's files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);
/// Sessions kept for TLS 1.2 clients that resume by id; the others carry a ticket.
const SESSIONS: usize = 10_000;

/// TLS 1.2 and 1.3 with resumption, on the certificate in `cert` and `key`; `asking` for one of
/// the client's.
///
/// The files are watched; a broken replacement is logged and the old certificate stays.
pub(crate) fn acceptor(
    cert: &Path,
    key: &Path,
    asking: bool,
    metrics: &Arc<Metrics>,
    cx: &Context,
) -> anyhow::Result<TlsAcceptor> {
    let files = Files { cert: cert.to_owned(), key: key.to_owned() };
    let provider = Arc::new(ring::default_provider());
    let current = Arc::new(Current(RwLock::new(files.load(&provider)?)));
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .context("TLS versions")?;
    let builder = match asking {
        true => builder.with_client_cert_verifier(Arc::new(AnyHolder(provider.clone()))),
        false => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(current.clone());
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

/// SHA-256 of the certificate a client has shown.
pub(crate) fn certificate(stream: &TlsStream<TcpStream>) -> Option<[u8; 32]> {
    let chain = stream.get_ref().1.peer_certificates()?;
    Some(Sha256::digest(chain.first()?).into())
}

/// Takes any client certificate whose key the client holds: its digest is all that counts.
#[derive(Debug)]
struct AnyHolder(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyHolder {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
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
