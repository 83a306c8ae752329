//! Connections as a client would make them: TCP, and TLS whose certificate is really verified.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::layout::Layout;
use crate::{clock, tls};

/// How long one step may take.
pub(super) const STEP: Duration = Duration::from_secs(5);

/// A connection of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Whose certificates are believed.
#[derive(Clone)]
pub(super) struct Trust(TlsConnector);

/// A certificate that was shown and verified.
#[derive(Debug)]
pub(super) struct Shown {
    /// Days until it ends.
    pub(super) days: i64,
    /// `ECDSA P-256`, `RSA 2048` and the like.
    pub(super) key: String,
    /// Whether handshakes with it are cheap.
    pub(super) cheap: bool,
    /// Whether it vouches for itself.
    pub(super) own: bool,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Unreached {
    /// The name has no address.
    Unknown(String),
    /// Nobody answers on that port.
    Closed(String),
    /// Nothing came back at all.
    Silent,
    /// The certificate's time is over, or has not come.
    Expired,
    /// The certificate is for another name.
    OtherName,
    /// Nobody we believe vouches for the certificate.
    Untrusted,
    /// The handshake failed otherwise.
    Tls(String),
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(why) => write!(f, "the name has no address: {why}"),
            Self::Closed(why) => write!(f, "no connection: {why}"),
            Self::Silent => write!(f, "no answer within {} s", STEP.as_secs()),
            Self::Expired => write!(f, "the certificate has expired, or is not valid yet"),
            Self::OtherName => write!(f, "the certificate is for another name"),
            Self::Untrusted => write!(f, "the certificate is vouched for by nobody known here"),
            Self::Tls(why) => write!(f, "no TLS: {why}"),
        }
    }
}

impl Trust {
    /// The public authorities, the stack's own certificates, and those in `files`.
    pub(super) fn new(layout: &Layout, files: &[PathBuf]) -> anyhow::Result<Self> {
        let own = tls::all(layout).into_iter().map(|own| own.certificate);
        let mut known = Vec::new();
        for file in own.chain(files.iter().cloned()) {
            let read = || anyhow::Ok(CertificateDer::from_pem_file(&file)?);
            known.push(read().with_context(|| format!("no certificate in {}", file.display()))?);
        }
        Self::with(known)
    }

    fn with(known: Vec<CertificateDer<'static>>) -> anyhow::Result<Self> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for certificate in &known {
            roots.add(certificate.clone()).context("a certificate cannot be used")?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let public = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone());
        let verifier = Verifier { public: public.build()?, known };
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous() // only in name: the verifier is stricter than "any", see there
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// A connection to `host` and the certificate it showed.
    pub(super) async fn tls(
        &self,
        host: &str,
        port: u16,
    ) -> Result<(TlsStream<TcpStream>, Shown), Unreached> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|why| Unreached::Unknown(why.to_string()))?;
        let stream = tcp(host, port).await?;
        let handshake = timeout(STEP, self.0.connect(name, stream)).await;
        let stream = handshake.map_err(|_| Unreached::Silent)?.map_err(|why| refused(&why))?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).and_then(shown);
        let shown = shown.ok_or_else(|| Unreached::Tls("an unreadable certificate".to_owned()))?;
        Ok((stream, shown))
    }
}

/// Verifies as usual, but takes a certificate that was named to us even if it says that it is an
/// authority, as those of `openssl req -x509` do: clients that pin it do not mind.
#[derive(Debug)]
struct Verifier {
    public: Arc<WebPkiServerVerifier>,
    known: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.public.verify_server_cert(certificate, others, name, ocsp, now);
        match verified {
            // Times have been looked at before this, names have not.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if self.known.iter().any(|known| known == certificate) =>
            {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.public.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.public.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.public.supported_verify_schemes()
    }
}

/// Every address of a name.
pub(super) async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, Unreached> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found = timeout(STEP, lookup_host((host, port))).await.map_err(|_| Unreached::Silent)?;
    let found: Vec<_> = found.map_err(|why| Unreached::Unknown(why.to_string()))?.collect();
    if found.is_empty() {
        return Err(Unreached::Unknown("it was not found".to_owned()));
    }
    Ok(found)
}

/// A connection to the first address that answers.
pub(super) async fn tcp(host: &str, port: u16) -> Result<TcpStream, Unreached> {
    let addresses = addresses(host, port).await?;
    let connected = timeout(STEP, TcpStream::connect(&addresses[..])).await;
    let stream = connected.map_err(|_| Unreached::Silent)?;
    stream.map_err(|why| Unreached::Closed(why.to_string()))
}

/// What rustls says, sorted by what has to be done about it.
fn refused(why: &std::io::Error) -> Unreached {
    let said = why.get_ref().and_then(|why| why.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(said)) = said else {
        return Unreached::Tls(why.to_string());
    };
    match said {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Unreached::Expired,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Unreached::OtherName
        }
        CertificateError::UnknownIssuer => Unreached::Untrusted,
        other => Unreached::Tls(other.to_string()),
    }
}

fn shown(certificate: &CertificateDer<'_>) -> Option<Shown> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let now_s = i64::try_from(clock::since_epoch().as_secs()).ok()?;
    let days = (certificate.validity().not_after.timestamp() - now_s).div_euclid(86_400);
    let (key, cheap) = match certificate.public_key().parsed().ok()? {
        PublicKey::EC(point) => (format!("ECDSA P-{}", point.key_size()), point.key_size() == 256),
        PublicKey::RSA(key) => (format!("RSA {}", key.key_size()), false),
        _ => ("another kind of key".to_owned(), true),
    };
    let own = certificate.issuer() == certificate.subject();
    Some(Shown { days, key, cheap, own })
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
    use rustls::ServerConfig;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// What a client finds that reaches a server with this certificate by the name `localhost`.
    async fn meets(params: CertificateParams, trusting: bool) -> Result<Shown, Unreached> {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.serialize_der().try_into().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
        let serving = async {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = acceptor.accept(stream).await; // the client may well break off
        };
        let trust = Trust::with(trusting.then_some(certificate).into_iter().collect()).unwrap();
        let (found, ()) = tokio::join!(trust.tls("localhost", port), serving);
        found.map(|(_, shown)| shown)
    }

    fn named(name: &str) -> CertificateParams {
        CertificateParams::new(vec![name.to_owned()]).unwrap()
    }

    #[tokio::test]
    async fn a_known_certificate_is_taken_even_if_it_calls_itself_an_authority() {
        for ca in [IsCa::NoCa, IsCa::ExplicitNoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
            let mut params = named("localhost");
            params.is_ca = ca;
            let shown = meets(params, true).await.unwrap();
            assert!(shown.own && shown.cheap && shown.days > 1_000, "{shown:?}");
            assert_eq!(shown.key, "ECDSA P-256");
        }
    }

    #[tokio::test]
    async fn what_is_wrong_with_a_certificate_is_told_apart() {
        assert!(matches!(meets(named("localhost"), false).await, Err(Unreached::Untrusted)));
        for ca in [IsCa::NoCa, IsCa::Ca(BasicConstraints::Unconstrained)] {
            let mut other = named("example.org");
            other.is_ca = ca;
            let found = meets(other, true).await;
            assert!(matches!(found, Err(Unreached::OtherName)), "{found:?}");
            let mut old = named("localhost");
            old.is_ca = ca;
            (old.not_before, old.not_after) =
                (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
            let found = meets(old, true).await;
            assert!(matches!(found, Err(Unreached::Expired)), "{found:?}");
        }
    }
}
