//! Connections to other nodes: to addresses that were checked, in bounded time and bytes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::domain::egress::{Refused, Rules, Target};

/// How long one request may take, from the look-up of the name to the last byte.
const DEADLINE: Duration = Duration::from_secs(3);

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("no answer in time")]
    Time,
    #[error("the answer is too long")]
    Long,
    #[error("answered {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error("no WebSocket: {0}")]
    WebSocket(String),
}

/// A connection of either kind.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

type Io = Box<dyn Duplex>;

/// Connects, by the operator's rules.
#[derive(Clone)]
pub(crate) struct Outgoing {
    rules: Rules,
    tls: TlsConnector,
}

/// What came back, and from where.
pub(crate) struct Answer {
    pub(crate) body: Bytes,
    pub(crate) from: IpAddr,
}

impl Outgoing {
    /// Trusts the certificate authorities that browsers do.
    pub(crate) fn new(rules: Rules) -> anyhow::Result<Self> {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { rules, tls: TlsConnector::from(Arc::new(config)) })
    }

    /// `GET url/path`, an answer of 200 with at most `most` bytes. Redirects are not followed.
    pub(crate) async fn get(&self, url: &str, path: &str, most: usize) -> Result<Answer, Failed> {
        let target = self.rules.target(url)?;
        timeout(DEADLINE, async {
            let (io, from) = self.connect(&target).await?;
            let body = ask(io, &target.authority, path, most).await?;
            Ok(Answer { body, from })
        })
        .await
        .map_err(|_| Failed::Time)?
    }

    /// As [`Outgoing::get`], in plain HTTP from an address the DHT named.
    pub(crate) async fn probe(
        &self,
        address: SocketAddr,
        path: &str,
        most: usize,
    ) -> Result<Answer, Failed> {
        self.rules.port(address.port())?;
        let addresses = self.rules.admit(vec![address])?;
        timeout(DEADLINE, async {
            let io: Io = Box::new(dial(&addresses).await?.0);
            let body = ask(io, &address.to_string(), path, most).await?;
            Ok(Answer { body, from: address.ip() })
        })
        .await
        .map_err(|_| Failed::Time)?
    }

    /// A WebSocket at `url/path`.
    pub(crate) async fn websocket(
        &self,
        url: &str,
        path: &str,
        config: WebSocketConfig,
    ) -> Result<WebSocketStream<Io>, Failed> {
        let target = self.rules.target(url)?;
        timeout(DEADLINE, async {
            let (io, _) = self.connect(&target).await?;
            let scheme = if target.tls { "wss" } else { "ws" };
            let request = format!("{scheme}://{}{path}", target.authority);
            let shaken = client_async_with_config(request, io, Some(config)).await;
            shaken.map(|(socket, _)| socket).map_err(|why| Failed::WebSocket(why.to_string()))
        })
        .await
        .map_err(|_| Failed::Time)?
    }

    /// Looks the name up once, checks all it stands for, and connects to one of exactly those.
    async fn connect(&self, target: &Target) -> Result<(Io, IpAddr), Failed> {
        let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await?;
        let addresses = self.rules.admit(found.collect())?;
        let (tcp, from) = dial(&addresses).await?;
        if !target.tls {
            return Ok((Box::new(tcp), from));
        }
        let name = ServerName::try_from(target.host.clone()).map_err(|_| Refused::Url)?;
        Ok((Box::new(self.tls.connect(name, tcp).await?), from))
    }
}

async fn dial(addresses: &[SocketAddr]) -> std::io::Result<(TcpStream, IpAddr)> {
    let tcp = TcpStream::connect(addresses).await?;
    tcp.set_nodelay(true)?;
    let from = tcp.peer_addr()?.ip();
    Ok((tcp, from))
}

async fn ask(io: Io, host: &str, path: &str, most: usize) -> Result<Bytes, Failed> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(io)).await?;
    let request = Request::get(path)
        .header(HOST, host)
        .header("accept", "application/json")
        .header("connection", "close")
        .body(Empty::new())
        .map_err(|_| Refused::Url)?;
    let exchange = async {
        let mut answer = sender.send_request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(Failed::Status(answer.status()));
        }
        let mut body = Vec::new();
        while let Some(frame) = answer.body_mut().frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if body.len() + data.len() > most {
                return Err(Failed::Long);
            }
            body.extend_from_slice(&data);
        }
        Ok(Bytes::from(body))
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => return answer,
        // What came before the end is still to be read.
        _ = connection => {}
    }
    exchange.await
}
