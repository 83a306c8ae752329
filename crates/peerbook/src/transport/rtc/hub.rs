//! One UDP socket for all data channels: which datagram is whose.
//!
//! A client's first datagram is a STUN request whose user name begins with the name we gave its
//! connection; from then on its address tells.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use parking_lot::Mutex;
use service::Context;
use smallvec::SmallVec;
use tokio::{
    net::UdpSocket,
    sync::{Notify, mpsc},
};

use super::metrics::Metrics;

/// Datagrams and words of one connection that wait for its task; more are dropped, as networks do.
pub(super) const INBOX: usize = 128;
/// Addresses one connection may come from at a time; the oldest is forgotten.
const SOURCES: usize = 8;
/// Longer datagrams are no WebRTC.
const DATAGRAM_MAX: usize = 2048;
/// STUN (RFC 8489): header, magic cookie, and the attribute USERNAME.
const STUN_HEADER: usize = 20;
const STUN_COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const STUN_USERNAME: u16 = 0x0006;

/// What reaches a connection's task.
#[derive(Debug)]
pub(super) enum Arrived {
    /// A datagram.
    Datagram {
        /// Its bytes.
        bytes: Vec<u8>,
        /// Where it comes from.
        source: SocketAddr,
        /// When it came.
        at: Instant,
    },
    /// The client wants it ended.
    Hangup,
}

/// One UDP socket and the connections behind it.
pub(super) struct Hub {
    socket: UdpSocket,
    /// What clients are told to send to.
    pub(super) addresses: Vec<SocketAddr>,
    routes: Mutex<Routes>,
    /// A connection was forgotten.
    left: Notify,
    metrics: Arc<Metrics>,
}

/// Bounded by the connections there may be.
#[derive(Default)]
struct Routes {
    by_name: HashMap<String, Route>,
    by_source: HashMap<SocketAddr, String>,
}

struct Route {
    inbox: mpsc::Sender<Arrived>,
    sources: SmallVec<[SocketAddr; 2]>,
    /// Where its `Location` points.
    id: String,
}

impl Hub {
    pub(super) fn new(
        socket: UdpSocket,
        addresses: Vec<SocketAddr>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { socket, addresses, routes: Mutex::default(), left: Notify::new(), metrics }
    }

    /// Has datagrams for `name` reach the receiver, until [`Hub::close`].
    pub(super) fn open(&self, name: &str, id: &str) -> mpsc::Receiver<Arrived> {
        let (inbox, arrived) = mpsc::channel(INBOX);
        let route = Route { inbox, sources: SmallVec::new(), id: id.to_owned() };
        self.routes.lock().by_name.insert(name.to_owned(), route);
        arrived
    }

    /// Forgets a connection.
    pub(super) fn close(&self, name: &str) {
        let mut routes = self.routes.lock();
        let Some(route) = routes.by_name.remove(name) else { return };
        self.left.notify_one();
        for source in route.sources {
            if routes.by_source.get(&source).is_some_and(|owner| owner == name) {
                routes.by_source.remove(&source);
            }
        }
    }

    /// Ends the connection whose `Location` has this id, if it is one of this process.
    pub(super) fn hang_up(&self, id: &str) {
        let routes = self.routes.lock();
        if let Some(route) = routes.by_name.values().find(|route| route.id == id) {
            let _ = route.inbox.try_send(Arrived::Hangup); // full: it ends by its own deadline
        }
    }

    /// The address among ours that clients of `source`'s family send to.
    pub(super) fn address_for(&self, source: SocketAddr) -> Option<SocketAddr> {
        self.addresses.iter().find(|own| own.is_ipv4() == source.is_ipv4()).copied()
    }

    /// Sends a datagram, or drops it when the socket is full.
    pub(super) fn send(&self, bytes: &[u8], to: SocketAddr) {
        let to = match (self.socket.local_addr(), to) {
            // A socket of both families knows the older addresses as mapped ones.
            (Ok(SocketAddr::V6(_)), SocketAddr::V4(v4)) => {
                (v4.ip().to_ipv6_mapped(), v4.port()).into()
            }
            (_, to) => to,
        };
        if self.socket.try_send_to(bytes, to).is_err() {
            self.metrics.dropped.inc();
        }
    }

    /// Reads the socket until the drain has ended every connection.
    pub(super) async fn run(self: Arc<Self>, cx: Context) {
        let (draining, killed) = (cx.stop.draining(), cx.stop.killed());
        let mut buffer = [0; DATAGRAM_MAX];
        while !(draining.is_cancelled() && self.routes.lock().by_name.is_empty()) {
            tokio::select! {
                read = self.socket.recv_from(&mut buffer) => match read {
                    Ok((len, source)) => self.pass_on(&buffer[..len], source),
                    // An earlier datagram could not be delivered.
                    Err(why) => tracing::debug!(%why, "socket of the data channels"),
                },
                () = self.left.notified() => {}
                () = draining.cancelled(), if !draining.is_cancelled() => {}
                () = killed.cancelled() => return,
            }
        }
    }

    fn pass_on(&self, bytes: &[u8], source: SocketAddr) {
        let ip = match source.ip() {
            IpAddr::V6(ip) => ip.to_canonical(),
            ip => ip,
        };
        let source = SocketAddr::new(ip, source.port());
        let mut routes = self.routes.lock();
        let inbox = routes.find(bytes, source);
        drop(routes);
        let arrived = Arrived::Datagram { bytes: bytes.to_vec(), source, at: Instant::now() };
        let taken = inbox.is_some_and(|inbox| inbox.try_send(arrived).is_ok());
        if !taken {
            self.metrics.dropped.inc();
        }
    }
}

impl Routes {
    fn find(&mut self, bytes: &[u8], source: SocketAddr) -> Option<mpsc::Sender<Arrived>> {
        let Some(name) = stun_user(bytes) else {
            let name = self.by_source.get(&source)?;
            return self.by_name.get(name).map(|route| route.inbox.clone());
        };
        let name = name.split(':').next()?;
        let route = self.by_name.get_mut(name)?;
        if !route.sources.contains(&source) {
            if route.sources.len() == SOURCES {
                let oldest = route.sources.remove(0);
                self.by_source.remove(&oldest);
            }
            route.sources.push(source);
            self.by_source.insert(source, name.to_owned());
        }
        Some(route.inbox.clone())
    }
}

/// The user name in a STUN message, if it is one with a user name.
fn stun_user(bytes: &[u8]) -> Option<&str> {
    let is_stun = bytes.len() >= STUN_HEADER && bytes[0] < 4 && bytes[4..8] == STUN_COOKIE;
    if !is_stun {
        return None;
    }
    let mut rest = &bytes[STUN_HEADER..];
    while let Some((head, behind)) = rest.split_at_checked(4) {
        let (kind, len) = (u16::from_be_bytes([head[0], head[1]]), [head[2], head[3]]);
        let len = usize::from(u16::from_be_bytes(len));
        let value = behind.get(..len)?;
        if kind == STUN_USERNAME {
            return std::str::from_utf8(value).ok();
        }
        rest = behind.get(len.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stun(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0, 1, 0, 0];
        bytes.extend_from_slice(&STUN_COOKIE);
        bytes.extend_from_slice(&[7; 12]);
        for (kind, value) in attributes {
            bytes.extend_from_slice(&kind.to_be_bytes());
            bytes.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    #[test]
    fn a_stun_message_tells_whose_it_is_however_it_is_built() {
        let found = stun(&[(0x8022, b"abc"), (STUN_USERNAME, b"ours:theirs")]);
        assert_eq!(stun_user(&found), Some("ours:theirs"));
        assert_eq!(stun_user(&stun(&[(0x8022, b"abc")])), None);
        for len in 0..found.len() {
            let _ = stun_user(&found[..len]); // cut anywhere, it is read without a panic
        }
        let mut lying = stun(&[(0x8022, b"abcd")]);
        lying[22..24].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(stun_user(&lying), None);
        assert_eq!(stun_user(&[22; 40]), None, "DTLS");
    }

    #[test]
    fn an_address_leads_to_the_connection_that_was_last_named_from_it() {
        let mut routes = Routes::default();
        let mut inboxes = Vec::new();
        for name in ["a", "b"] {
            let (inbox, arrived) = mpsc::channel(1);
            inboxes.push(arrived);
            let route = Route { inbox, sources: SmallVec::new(), id: String::new() };
            routes.by_name.insert(name.to_owned(), route);
        }
        let source = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert!(routes.find(&[22; 40], source(1)).is_none(), "nobody was named from there");
        assert!(routes.find(&stun(&[(STUN_USERNAME, b"x:y")]), source(1)).is_none());
        let named = stun(&[(STUN_USERNAME, b"a:y")]);
        for port in 1..=20 {
            assert!(routes.find(&named, source(port)).is_some());
        }
        assert_eq!(routes.by_source.len(), SOURCES);
        assert!(routes.find(&[22; 40], source(1)).is_none(), "forgotten");
        assert!(routes.find(&[22; 40], source(20)).is_some());
    }
}
