//! Connections between the processes of one service.
//!
//! ```text
//! TLS 1.3, both sides with the key of the secret they share      siblings::keys
//! 1 version, 1 wire, 16 the dialing process's node               bytes, from who dialed
//! then packets both ways, as a client of that generation has them, without its encryption;
//! with 2 for the wire HTTP/1.1, in which who dialed is the client
//! ```
//! What the packets say is the service's. One connection carries what two clients say to each other,
//! or what two processes do: payload that waits in one holds up no other, and TCP itself is what
//! stops the far sender.

mod args;
mod keys;

use std::{convert::Infallible, io, net::IpAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use edge::{Accepted, Body, BoxError, Client as Peer, Listener, Stream};
use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use service::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::{
    Client, Line, Packets, Wire,
    pump::{Session, pump},
    serve::Common,
    wire::Codec,
};

pub use self::{args::PeerArgs, keys::SECRET_BYTES};

/// What is spoken. Another version is another service for as long as an upgrade takes.
const VERSION: u8 = 1;
/// Length of what the dialing side says first.
const PREAMBLE_BYTES: usize = 2 + NODE_BYTES;
/// Length of a node's number.
pub const NODE_BYTES: usize = 16;
/// What stands for HTTP where else a wire does.
const HTTP: u8 = 2;
/// How long it may take until a sibling has answered the call.
const DIAL: Duration = Duration::from_secs(2);
/// Silence after which the kernel looks whether a sibling's machine is still there.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// The other processes of the service, as this one reaches them.
#[derive(Clone)]
pub struct Siblings {
    common: Arc<Common>,
    connector: TlsConnector,
    address: Arc<str>,
    cx: Context,
}

/// A connection with a sibling, on which nothing has been said yet.
pub struct Sibling {
    stream: Stream,
    codec: Codec,
    peer: Peer,
    line: Line,
    node: [u8; NODE_BYTES],
    common: Arc<Common>,
    cx: Context,
}

impl Packets {
    /// Opens the port for siblings, at `vantage` unless the arguments say where.
    ///
    /// # Errors
    /// When the address is taken or no address.
    pub async fn siblings(
        &self,
        args: &PeerArgs,
        secret: &[u8; SECRET_BYTES],
        vantage: IpAddr,
        cx: &Context,
    ) -> anyhow::Result<(Siblings, Listener)> {
        let (server, client) = keys::tls(secret)?;
        let listener = edge::bind_within(&args.listen(vantage), server, cx).await?;
        let address =
            args.peer_address.clone().unwrap_or_else(|| listener.local_addr().to_string());
        let siblings = Siblings {
            common: Arc::new(self.common().between_siblings()),
            connector: TlsConnector::from(client),
            address: address.into(),
            cx: cx.clone(),
        };
        Ok((siblings, listener))
    }
}

impl Siblings {
    /// Where siblings reach this process: `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Takes siblings' connections until asked to drain; `greet` says what to do on one that brings
    /// packets, `http` answers requests.
    pub async fn serve<C: Client, F>(
        self,
        mut listener: Listener,
        greet: impl Fn(&Sibling) -> C + Clone + Send + Sync + 'static,
        http: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    ) where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        while let Some(accepted) =
            self.cx.stop.draining().run_until_cancelled(listener.accept()).await
        {
            let (siblings, greet, http) = (self.clone(), greet.clone(), http.clone());
            self.cx.spawn("sibling-in", async move {
                if let Err(error) = siblings.answer(accepted, greet, http).await {
                    siblings.common.metrics.siblings_refused.inc();
                    tracing::debug!(%error, "not a sibling");
                }
            });
        }
        self.common.sockets.drain();
    }

    /// Calls the sibling at `address`, to speak to it in the packets of `wire`. `node` tells it who
    /// calls.
    ///
    /// # Errors
    /// When nobody answers there within two seconds, or not a process of this service.
    pub async fn dial(
        &self,
        address: &str,
        wire: Wire,
        node: &[u8; NODE_BYTES],
    ) -> io::Result<Sibling> {
        let (stream, peer) = self.call(address, wire as u8, node).await?;
        Ok(self.begin(stream, peer, wire, *node))
    }

    /// Has the sibling at `address` answer a request, on a connection for it alone.
    ///
    /// # Errors
    /// As [`Siblings::dial`], and when the connection breaks before the answer.
    pub async fn ask(
        &self,
        address: &str,
        node: &[u8; NODE_BYTES],
        request: Request<Body>,
    ) -> Result<Response<Incoming>, BoxError> {
        let (stream, _) = self.call(address, HTTP, node).await?;
        let (mut asking, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let (metrics, killed) = (self.common.metrics.clone(), self.cx.stop.killed().clone());
        self.cx.spawn("sibling-http", async move {
            metrics.siblings.inc();
            // What breaks shows in the request's or the answer's body.
            let _ = killed.run_until_cancelled(connection).await;
            metrics.siblings.dec();
        });
        Ok(asking.send_request(request).await?)
    }

    async fn call(
        &self,
        address: &str,
        what: u8,
        node: &[u8; NODE_BYTES],
    ) -> io::Result<(Stream, Peer)> {
        let dialing = async {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            rustix::net::sockopt::set_socket_keepalive(&tcp, true)?;
            rustix::net::sockopt::set_tcp_keepidle(&tcp, KEEPALIVE)?;
            rustix::net::sockopt::set_tcp_keepintvl(&tcp, KEEPALIVE)?;
            let peer = tcp.peer_addr()?;
            let name = ServerName::IpAddress(peer.ip().into());
            let mut tls = self.connector.connect(name, tcp).await?;
            let mut preamble = [0; PREAMBLE_BYTES];
            (preamble[0], preamble[1]) = (VERSION, what);
            preamble[2..].copy_from_slice(node);
            tls.write_all(&preamble).await?;
            tls.flush().await?;
            let peer = Peer { ip: peer.ip(), port: peer.port(), tls: true, certificate: None };
            Ok((Stream::dialed(tls), peer))
        };
        timeout(DIAL, dialing).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn answer<C: Client, F>(
        &self,
        accepted: Accepted,
        greet: impl Fn(&Sibling) -> C,
        http: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    ) -> io::Result<()>
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let port = accepted.port();
        let opening = async {
            let (mut stream, peer) = accepted.establish().await?;
            if !peer.tls {
                return Err(io::Error::from(io::ErrorKind::PermissionDenied));
            }
            let mut preamble = [0; PREAMBLE_BYTES];
            timeout(DIAL, stream.read_exact(&mut preamble)).await??;
            Ok((stream, peer, preamble))
        };
        let opened = self.cx.stop.draining().run_until_cancelled(opening).await;
        let Some((stream, peer, [version, what, node @ ..])) = opened.transpose()? else {
            return Ok(());
        };
        let wire = [Wire::WebSocket, Wire::Encrypted].into_iter().find(|one| *one as u8 == what);
        match wire {
            _ if version != VERSION => Err(io::ErrorKind::Unsupported.into()),
            Some(wire) => {
                let sibling = self.begin(stream, peer, wire, node);
                let client = greet(&sibling);
                sibling.run(client);
                Ok(())
            }
            None if what == HTTP => {
                let service = tower::service_fn(move |request| {
                    let answer = http(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                self.common.metrics.siblings.inc();
                edge::serve_connection(stream, peer, service, port, self.cx.stop.clone()).await;
                self.common.metrics.siblings.dec();
                Ok(())
            }
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn begin(&self, stream: Stream, peer: Peer, wire: Wire, node: [u8; NODE_BYTES]) -> Sibling {
        let codec = match wire {
            Wire::WebSocket => Codec::of_server(),
            Wire::Encrypted => Codec::within_tls(BytesMut::new()),
        };
        let common = self.common.clone();
        let line = Line::new(wire, common.limits.clone(), common.metrics.clone());
        Sibling { stream, codec, peer, line, node, common, cx: self.cx.clone() }
    }
}

impl Sibling {
    /// What is sent to it.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// The process that called.
    pub fn node(&self) -> &[u8; NODE_BYTES] {
        &self.node
    }

    /// Hands its packets to `client` until the connection is over.
    pub fn run<C: Client>(self, client: C) {
        let Self { stream, codec, peer, line, common, cx, .. } = self;
        let session = Session::active(client, peer, line, common);
        cx.spawn("sibling", pump(stream, codec, session, &cx));
    }
}
