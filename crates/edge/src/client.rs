//! Who is at the other end.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The client behind a connection, as far as trusted proxies tell; in every request's extensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address; never an IPv4 address in IPv6 clothing.
    pub ip: IpAddr,
    /// Its port; 0 when only a header named it.
    pub port: u16,
    /// Whether it came by TLS, to us or to a trusted proxy that says so.
    pub tls: bool,
    /// SHA-256 of the certificate whose key it has shown to hold in the TLS handshake, on ports
    /// that ask for one ([`crate::bind_asking`]). Who signed it was not looked at.
    pub certificate: Option<[u8; 32]>,
}

/// What limits count by: an IPv4 address, or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LimitKey {
    /// One IPv4 address.
    V4([u8; 4]),
    /// The first 64 bits of an IPv6 address, which one subscriber usually has to itself.
    V6([u8; 8]),
}

impl Client {
    pub(crate) fn new(address: SocketAddr, tls: bool) -> Self {
        Self { ip: address.ip().to_canonical(), port: address.port(), tls, certificate: None }
    }

    /// The key under which limits count this client.
    pub fn limit_key(&self) -> LimitKey {
        LimitKey::from(self.ip)
    }

    /// This client, or the one it forwards for when it is a trusted proxy.
    ///
    /// Reads `X-Forwarded-For` from the right, because everything left of the last untrusted
    /// hop was written by that hop.
    pub(crate) fn behind(self, headers: &HeaderMap, trusted: &Trusted) -> Self {
        if !trusted.contains(self.ip) {
            return self;
        }
        // A proxy's certificate is the proxy's.
        let mut client = Self { certificate: None, ..self };
        if let Some(proto) = headers.get(FORWARDED_PROTO) {
            client.tls |= proto.as_bytes().eq_ignore_ascii_case(b"https");
        }
        let lines = headers.get_all(FORWARDED_FOR).iter().rev();
        for hop in lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')) {
            let Some(address) = parse_hop(hop) else { break };
            (client.ip, client.port) = (address.to_canonical(), 0);
            if !trusted.contains(client.ip) {
                break;
            }
        }
        client
    }
}

impl From<IpAddr> for LimitKey {
    fn from(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => {
                let octets = ip.octets();
                Self::V6(*octets.first_chunk().expect("16 bytes begin with 8"))
            }
        }
    }
}

/// Networks whose word about other addresses is believed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trusted(Vec<IpNet>);

impl Trusted {
    pub(crate) fn new(networks: &[IpNet]) -> Self {
        Self(networks.to_vec())
    }

    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&ip))
    }
}

/// One element of `X-Forwarded-For`: an address, perhaps with a port or in brackets.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    text.parse()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, forwarded: &[&str]) -> String {
        let trusted = Trusted(vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        Client::new(peer.parse().unwrap(), false).behind(&headers, &trusted).ip.to_string()
    }

    #[test]
    fn a_header_from_a_stranger_is_ignored() {
        assert_eq!(seen("192.0.2.1:5", &["203.0.113.9"]), "192.0.2.1");
    }

    #[test]
    fn the_rightmost_untrusted_hop_is_the_client() {
        assert_eq!(seen("10.0.0.1:5", &["1.1.1.1, 203.0.113.9, 10.0.0.7"]), "203.0.113.9");
        assert_eq!(seen("10.0.0.1:5", &["1.1.1.1", "203.0.113.9"]), "203.0.113.9");
        assert_eq!(seen("[::ffff:10.0.0.1]:5", &["::ffff:203.0.113.9"]), "203.0.113.9");
        assert_eq!(seen("[fd00::1]:5", &["[2001:db8::1]:443"]), "2001:db8::1");
    }

    #[test]
    fn nonsense_stops_the_walk() {
        assert_eq!(seen("10.0.0.1:5", &["203.0.113.9, unknown"]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1:5", &["203.0.113.9, unknown, 10.0.0.9"]), "10.0.0.9");
        assert_eq!(seen("10.0.0.1:5", &[]), "10.0.0.1");
    }

    #[test]
    fn neighbours_in_a_64_share_a_key() {
        let key = |ip: &str| LimitKey::from(ip.parse::<IpAddr>().unwrap());
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::2"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
    }
}
