//! From an accepted connection to bytes: PROXY header, then TLS, both only when they can be there.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::Arc,
};

use ppp::{HeaderResult, v1, v2};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{Instant, timeout_at},
};

use crate::{
    args::ProxyProtocol,
    client::Client,
    http::Port,
    listener::{Permit, Shared, close_at_once},
    stream::Stream,
};

/// First byte of a TLS record that carries a handshake.
const TLS_HANDSHAKE: u8 = 0x16;
/// The longest PROXY version 1 line, by its specification.
const V1_MAX: usize = 107;
/// Fixed part of a version 2 header, and how much we read after it.
const V2_HEAD: usize = 16;
const V2_MAX: usize = 2048;

/// A connection that nothing was read from yet.
pub struct Accepted {
    pub(crate) tcp: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) permit: Permit,
    pub(crate) shared: Arc<Shared>,
}

impl Accepted {
    /// The port it came through.
    pub fn port(&self) -> Port {
        Port(self.shared.clone())
    }

    /// Reads the PROXY header and shakes hands, as far as the settings and the first bytes ask.
    ///
    /// # Errors
    /// When the peer is silent for the header timeout, sends a bad header, fails the TLS
    /// handshake, or its address has too many connections. All are counted; none needs a log.
    pub async fn establish(self) -> io::Result<(Stream, Client)> {
        let Self { mut tcp, peer, mut permit, shared } = self;
        let deadline = Instant::now() + shared.header_timeout;
        let from_proxy = shared.trusted.contains(peer.ip().to_canonical());
        let mut address = peer;
        if from_proxy && shared.proxy_protocol != ProxyProtocol::Off {
            let required = shared.proxy_protocol == ProxyProtocol::Require;
            let header = timeout_at(deadline, read_header(&mut tcp, required)).await;
            match header.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
                Ok(Some(source)) => address = source,
                Ok(None) => {}
                Err(error) => {
                    shared.metrics.refused_proxy_header.inc();
                    return Err(error);
                }
            }
        }
        let client = Client::new(address, false);
        // A proxy's own address stands for many clients; the total limit is enough for it.
        if !shared.trusted.contains(client.ip) && !permit.count_under(client.limit_key()) {
            close_at_once(&tcp);
            return Err(ErrorKind::ConnectionRefused.into());
        }
        let Some(acceptor) = &shared.tls else {
            return Ok((Stream::plain(tcp, permit), client));
        };
        let mut first = [0];
        let peeked = timeout_at(deadline, tcp.peek(&mut first)).await;
        if peeked.map_err(|_| shared.metrics.refused_silent.inc()).is_err() {
            return Err(ErrorKind::TimedOut.into());
        }
        if first[0] != TLS_HANDSHAKE {
            return Ok((Stream::plain(tcp, permit), client));
        }
        match timeout_at(deadline, acceptor.accept(tcp)).await {
            Ok(Ok(tls)) => {
                shared.metrics.tls_ok.inc();
                let certificate = crate::tls::certificate(&tls);
                Ok((Stream::tls(tls.into(), permit), Client { tls: true, certificate, ..client }))
            }
            failed => {
                shared.metrics.tls_failed.inc();
                Err(failed.map_or(ErrorKind::TimedOut.into(), |handshake| match handshake {
                    Err(error) => error,
                    Ok(_) => ErrorKind::Other.into(),
                }))
            }
        }
    }
}

/// The address a PROXY header names; `None` when there is no header, or one about the proxy itself.
async fn read_header(tcp: &mut TcpStream, required: bool) -> io::Result<Option<SocketAddr>> {
    let mut first = [0; 1];
    tcp.peek(&mut first).await?;
    match first[0] {
        b'\r' => read_v2(tcp).await,
        // No HTTP method in use begins like this but PROPFIND, PROPPATCH, PUT, POST and PATCH.
        b'P' if required || peek_prefix(tcp, b"PROXY ").await? => read_v1(tcp).await,
        _ if required => Err(ErrorKind::InvalidData.into()),
        _ => Ok(None),
    }
}

/// Whether the peer begins with `prefix`; takes nothing away from the stream.
///
/// Waits for more only by way of a short sleep, as a peek cannot wait for a second byte.
async fn peek_prefix(tcp: &TcpStream, prefix: &[u8]) -> io::Result<bool> {
    let mut begin = [0; 6];
    loop {
        let seen = tcp.peek(&mut begin[..prefix.len()]).await?;
        if seen == 0 || begin[..seen] != prefix[..seen] {
            return Ok(false);
        }
        if seen == prefix.len() {
            return Ok(true);
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn read_v2(tcp: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; V2_HEAD];
    tcp.read_exact(&mut header).await?;
    let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if rest > V2_MAX || !header.starts_with(v2::PROTOCOL_PREFIX) {
        return Err(ErrorKind::InvalidData.into());
    }
    header.resize(V2_HEAD + rest, 0);
    tcp.read_exact(&mut header[V2_HEAD..]).await?;
    let HeaderResult::V2(Ok(parsed)) = HeaderResult::parse(&header) else {
        return Err(ErrorKind::InvalidData.into());
    };
    Ok(match (parsed.command, &parsed.addresses) {
        (v2::Command::Proxy, v2::Addresses::IPv4(ip)) => {
            Some((ip.source_address, ip.source_port).into())
        }
        (v2::Command::Proxy, v2::Addresses::IPv6(ip)) => {
            Some((ip.source_address, ip.source_port).into())
        }
        _ => None,
    })
}

async fn read_v1(tcp: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut line = Vec::with_capacity(V1_MAX);
    while !line.ends_with(b"\r\n") {
        if line.len() == V1_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
        line.push(tcp.read_u8().await?);
    }
    let HeaderResult::V1(Ok(parsed)) = HeaderResult::parse(&line) else {
        return Err(ErrorKind::InvalidData.into());
    };
    Ok(match parsed.addresses {
        v1::Addresses::Tcp4(ip) => Some((ip.source_address, ip.source_port).into()),
        v1::Addresses::Tcp6(ip) => Some((ip.source_address, ip.source_port).into()),
        v1::Addresses::Unknown => None,
    })
}
