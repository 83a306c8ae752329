//! The listening socket, and who may come in.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use parking_lot::Mutex;
use rustls::ServerConfig;
use service::Context;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::{
    args::{ListenArgs, ProxyProtocol},
    client::{LimitKey, Trusted},
    establish::Accepted,
    metrics::Metrics,
    tls,
    ws::Sockets,
};

/// Connections the kernel queues while the accept loop is busy.
const BACKLOG: i32 = 4096;
/// Pause after an accept error that will not go away by itself at once (no descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time before and between the kernel's probes of a silent connection.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// A bound public port.
pub struct Listener {
    tcp: TcpListener,
    shared: Arc<Shared>,
}

/// What every connection of one port needs.
pub(crate) struct Shared {
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) trusted: Trusted,
    pub(crate) proxy_protocol: ProxyProtocol,
    pub(crate) header_timeout: Duration,
    pub(crate) keep_alive_timeout: Duration,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sockets: Sockets,
    doors: Arc<Doors>,
}

/// Binds the port and loads the certificate, so that either failing fails the start.
///
/// `[::]` serves IPv4 too, and becomes `0.0.0.0` on a machine without IPv6.
///
/// # Errors
/// When the address does not parse or is taken, or the certificate cannot be used.
pub async fn bind(args: &ListenArgs, cx: &Context) -> anyhow::Result<Listener> {
    open(args, Tls::Files { asking: false }, cx).await
}

/// As [`bind`], asking TLS clients for a certificate, which they need not have. Any will do, so
/// long as they hold its key: [`crate::Client::certificate`] tells which it was. Browsers with
/// certificates of their own then ask their user which to show.
///
/// # Errors
/// As [`bind`].
pub async fn bind_asking(args: &ListenArgs, cx: &Context) -> anyhow::Result<Listener> {
    open(args, Tls::Files { asking: true }, cx).await
}

/// As [`bind`], with a TLS set-up of the service's own instead of certificates in files: for ports
/// that are not the public's. Plain connections are let in here too; [`crate::Client::tls`] tells.
///
/// # Errors
/// As [`bind`].
pub async fn bind_within(
    args: &ListenArgs,
    tls: Arc<ServerConfig>,
    cx: &Context,
) -> anyhow::Result<Listener> {
    open(args, Tls::Given(tls), cx).await
}

/// Where the set-up of TLS comes from.
enum Tls {
    /// The certificate in the arguments, if there is one.
    Files {
        /// Whether clients are asked for theirs.
        asking: bool,
    },
    Given(Arc<ServerConfig>),
}

async fn open(args: &ListenArgs, tls: Tls, cx: &Context) -> anyhow::Result<Listener> {
    let mut address: SocketAddr = match args.listen.parse() {
        Ok(address) => address,
        Err(_) => tokio::net::lookup_host(&args.listen)
            .await
            .ok()
            .and_then(|mut found| found.next())
            .with_context(|| format!("cannot listen on {:?}: not an address", args.listen))?,
    };
    if let Some(port) = args.listen_port {
        address.set_port(port);
    }
    let metrics = Metrics::register(&cx.metrics);
    let tls = match (tls, &args.tls_cert, &args.tls_key) {
        (Tls::Given(config), ..) => Some(TlsAcceptor::from(config)),
        (Tls::Files { asking }, Some(cert), Some(key)) => {
            Some(tls::acceptor(cert, key, asking, &metrics, cx)?)
        }
        _ => None,
    };
    let tcp = listen(address, args.send_timeout)
        .or_else(|error| match address.ip() {
            IpAddr::V6(ip) if ip.is_unspecified() && error.kind() != io::ErrorKind::AddrInUse => {
                let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
                listen(everywhere, args.send_timeout)
            }
            _ => Err(error),
        })
        .with_context(|| format!("cannot listen on {address}"))?;
    let doors = Doors {
        max: args.max_connections,
        max_per_address: args.max_connections_per_address,
        inside: AtomicUsize::new(0),
        by_address: Mutex::new(HashMap::new()),
        metrics: metrics.clone(),
    };
    let shared = Shared {
        tls,
        trusted: Trusted::new(&args.trusted_proxies),
        proxy_protocol: args.proxy_protocol,
        header_timeout: args.header_timeout,
        keep_alive_timeout: args.keep_alive_timeout,
        metrics,
        sockets: Sockets::default(),
        doors: Arc::new(doors),
    };
    Ok(Listener { tcp, shared: Arc::new(shared) })
}

/// Everything set here is inherited by accepted sockets, which saves those calls per connection.
fn listen(address: SocketAddr, send_timeout: Duration) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(send_timeout))?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

impl Listener {
    /// The address that was bound; tells the port when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.tcp.local_addr().expect("a bound socket has an address")
    }

    /// The next connection; call [`Accepted::establish`] in a task of its own.
    ///
    /// Connections over the total limit are closed here. Never fails: without free
    /// descriptors it waits until there are some.
    pub async fn accept(&mut self) -> Accepted {
        loop {
            match self.tcp.accept().await {
                Ok((tcp, peer)) => {
                    if let Some(permit) = Doors::enter(&self.shared.doors) {
                        return Accepted { tcp, peer, permit, shared: self.shared.clone() };
                    }
                    close_at_once(&tcp);
                }
                Err(error) if is_about_one_connection(&error) => {}
                Err(error) => {
                    self.shared.metrics.accept_errors.inc();
                    tracing::warn!(%error, "cannot accept connections, pausing");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Makes the close a reset, so that a flood leaves nothing behind in TIME_WAIT.
pub(crate) fn close_at_once(tcp: &TcpStream) {
    let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
}

/// Counts who is inside.
struct Doors {
    max: usize,
    max_per_address: usize,
    inside: AtomicUsize,
    by_address: Mutex<HashMap<LimitKey, usize>>,
    metrics: Arc<Metrics>,
}

impl Doors {
    fn enter(doors: &Arc<Self>) -> Option<Permit> {
        if doors.inside.fetch_add(1, Ordering::Relaxed) >= doors.max {
            doors.inside.fetch_sub(1, Ordering::Relaxed);
            doors.metrics.refused_total.inc();
            return None;
        }
        doors.metrics.connections.inc();
        doors.metrics.open.inc();
        Some(Permit { doors: doors.clone(), address: None })
    }
}

/// A place inside; given back when dropped.
pub(crate) struct Permit {
    doors: Arc<Doors>,
    address: Option<LimitKey>,
}

impl Permit {
    /// Counts the connection under its address too; `false` when that has enough of them.
    pub(crate) fn count_under(&mut self, key: LimitKey) -> bool {
        let mut by_address = self.doors.by_address.lock();
        let count = by_address.entry(key).or_default();
        if *count >= self.doors.max_per_address {
            self.doors.metrics.refused_address.inc();
            return false;
        }
        *count += 1;
        self.address = Some(key);
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(key) = self.address {
            let mut by_address = self.doors.by_address.lock();
            if let Some(count) = by_address.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    by_address.remove(&key);
                }
            }
        }
        self.doors.inside.fetch_sub(1, Ordering::Relaxed);
        self.doors.metrics.open.dec();
    }
}
