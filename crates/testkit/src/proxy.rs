//! A TCP proxy in the test's own process: a round-robin balancer, and a link that can be cut,
//! slowed down or broken.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

/// Connections of one proxy at a time.
const CONNECTIONS: usize = 4_096;

/// Passes connections on to its targets in turn; one that refuses is left out. Ends, with all its
/// connections, when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    link: watch::Sender<Link>,
    accepting: JoinHandle<()>,
}

/// How the link is.
#[derive(Clone, Debug, Default)]
struct Link {
    /// Nothing passes and nobody is told, as when a cable is pulled.
    cut: bool,
    /// Every read waits this long before it is passed on.
    delay: Duration,
    /// Grows when all connections are to be broken.
    broken: u64,
}

impl Proxy {
    /// Listens on a port of the loopback.
    ///
    /// # Errors
    /// When there is none.
    pub async fn to(targets: &[SocketAddr]) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (link, state) = watch::channel(Link::default());
        let targets: Arc<[SocketAddr]> = targets.into();
        #[expect(clippy::disallowed_methods, reason = "a test has no service context")]
        let accepting = tokio::spawn(accept(listener, targets, state));
        Ok(Self { address, link, accepting })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nothing passes any more, and nobody is told. What is sent meanwhile arrives after
    /// [`Proxy::heal`], as far as buffers hold it.
    pub fn cut(&self) {
        self.link.send_modify(|link| link.cut = true);
    }

    /// Every read is passed on `delay` later, 16 KiB at most at a time.
    pub fn slow_down(&self, delay: Duration) {
        self.link.send_modify(|link| link.delay = delay);
    }

    /// The link is as new.
    pub fn heal(&self) {
        self.link.send_modify(|link| (link.cut, link.delay) = (false, Duration::ZERO));
    }

    /// Breaks all connections there are.
    pub fn break_connections(&self) {
        self.link.send_modify(|link| link.broken += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, targets: Arc<[SocketAddr]>, link: watch::Receiver<Link>) {
    let next = Arc::new(AtomicUsize::new(0));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((client, _)) = listener.accept().await else { continue };
        if connections.len() < CONNECTIONS {
            connections.spawn(serve(client, targets.clone(), next.clone(), link.clone()));
        }
    }
}

async fn serve(
    client: TcpStream,
    targets: Arc<[SocketAddr]>,
    next: Arc<AtomicUsize>,
    mut link: watch::Receiver<Link>,
) {
    let _ = client.set_nodelay(true);
    let broken = link.borrow().broken;
    let Some(server) = connect(&targets, &next, &mut link).await else { return };
    let _ = server.set_nodelay(true);
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    let mut breaking = link.clone();
    let both = async {
        tokio::join!(
            copy(from_client, to_server, link.clone()),
            copy(from_server, to_client, link.clone())
        );
    };
    tokio::select! {
        () = both => {}
        _ = breaking.wait_for(|link| link.broken > broken) => {}
    }
}

/// A connection to the next target in turn that takes one.
async fn connect(
    targets: &[SocketAddr],
    next: &AtomicUsize,
    link: &mut watch::Receiver<Link>,
) -> Option<TcpStream> {
    link.wait_for(|link| !link.cut).await.ok()?;
    let first = next.fetch_add(1, Ordering::Relaxed);
    for step in 0..targets.len() {
        if let Ok(server) = TcpStream::connect(targets[(first + step) % targets.len()]).await {
            return Some(server);
        }
    }
    None
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut link: watch::Receiver<Link>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let Ok(delay) = link.wait_for(|link| !link.cut).await.map(|link| link.delay) else { break };
        if !delay.is_zero() {
            sleep(delay).await;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo(mark: u8) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test")]
        let serving = tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut connection, _)) = listener.accept().await {
                connection.write_all(&[mark]).await.unwrap();
                open.push(connection);
            }
        });
        (address, serving)
    }

    async fn mark(proxy: &Proxy) -> (TcpStream, u8) {
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        let mark = client.read_u8().await.unwrap();
        (client, mark)
    }

    #[tokio::test]
    async fn targets_take_turns_and_dead_ones_are_left_out() {
        let ((a, _one), (b, two)) = (echo(b'a').await, echo(b'b').await);
        let proxy = Proxy::to(&[a, b]).await.unwrap();
        let (first, second) = (mark(&proxy).await.1, mark(&proxy).await.1);
        assert_eq!((first, second), (b'a', b'b'));
        two.abort();
        let _ = two.await;
        for _ in 0..3 {
            assert_eq!(mark(&proxy).await.1, b'a');
        }
    }

    #[tokio::test]
    async fn a_cut_link_is_silent_and_a_broken_one_ends() {
        let (a, _one) = echo(b'a').await;
        let proxy = Proxy::to(&[a]).await.unwrap();
        let (mut client, _) = mark(&proxy).await;
        proxy.cut();
        let mut other = TcpStream::connect(proxy.address()).await.unwrap();
        let silent = tokio::time::timeout(Duration::from_millis(50), other.read_u8()).await;
        assert!(silent.is_err());
        proxy.heal();
        assert_eq!(other.read_u8().await.unwrap(), b'a');
        proxy.break_connections();
        assert!(client.read_u8().await.is_err());
    }
}
