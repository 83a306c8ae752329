//! Connections between the processes of one service.
//!
//! ```text
//! TLS 1.3, both sides with the key of the secret they share      siblings::keys
//! 1 version, 1 wire, 16 the dialing process's node               bytes, from who dialed
//! then packets both ways, as a client of that generation has them, without its encryption
//! ```
//! What the packets say is the service's. One connection carries what two clients say to each other,
//! or what two processes do: payload that waits in one holds up no other, and TCP itself is what
//! stops the far sender.

mod args;
mod keys;

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use edge::{Client as Peer, Listener, Stream};
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

    /// Takes siblings' connections until asked to drain; `greet` says what to do on one.
    pub async fn serve<C: Client>(
        self,
        mut listener: Listener,
        greet: impl Fn(&Sibling) -> C + Clone + Send + Sync + 'static,
    ) {
        while let Some(accepted) =
            self.cx.stop.draining().run_until_cancelled(listener.accept()).await
        {
            let (siblings, greet) = (self.clone(), greet.clone());
            self.cx.spawn("sibling-in", async move {
                let opening = async {
                    let (stream, peer) = accepted.establish().await?;
                    siblings.answer(stream, peer).await
                };
                let opened = siblings.cx.stop.draining().run_until_cancelled(opening).await;
                match opened {
                    Some(Ok(sibling)) => {
                        let client = greet(&sibling);
                        sibling.run(client);
                    }
                    Some(Err(error)) => {
                        siblings.common.metrics.siblings_refused.inc();
                        tracing::debug!(%error, "not a sibling");
                    }
                    None => {}
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
            (preamble[0], preamble[1]) = (VERSION, wire as u8);
            preamble[2..].copy_from_slice(node);
            tls.write_all(&preamble).await?;
            tls.flush().await?;
            let peer = Peer { ip: peer.ip(), port: peer.port(), tls: true, certificate: None };
            Ok(self.begin(Stream::dialed(tls), peer, wire, *node))
        };
        match timeout(DIAL, dialing).await {
            Ok(dialed) => dialed,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn answer(&self, mut stream: Stream, peer: Peer) -> io::Result<Sibling> {
        if !peer.tls {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut preamble = [0; PREAMBLE_BYTES];
        timeout(DIAL, stream.read_exact(&mut preamble)).await??;
        let [version, wire, node @ ..] = preamble;
        let wire = [Wire::WebSocket, Wire::Encrypted].into_iter().find(|one| *one as u8 == wire);
        match wire {
            Some(wire) if version == VERSION => Ok(self.begin(stream, peer, wire, node)),
            _ => Err(io::ErrorKind::Unsupported.into()),
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
