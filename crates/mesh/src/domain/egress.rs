//! Where this node may connect to when somebody else named the address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::Uri;
use ipnet::IpNet;

/// What the operator decides about it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// Private addresses and plain HTTP are fine: a network of one's own, or a test.
    pub(crate) allow_private: bool,
    /// Never these.
    pub(crate) denied: Vec<IpNet>,
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("this is no address of a node")]
    Url,
    #[error("plain HTTP is for private networks")]
    Plain,
    #[error("this port is not for nodes")]
    Port,
    #[error("the address is not a public one")]
    Address,
}

/// A node's address in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) tls: bool,
    /// A name, or an address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// As it goes into the `Host` header.
    pub(crate) authority: String,
}

impl Rules {
    /// Reads `https://HOST[:PORT]`.
    pub(crate) fn target(&self, url: &str) -> Result<Target, Refused> {
        let uri: Uri = url.parse().map_err(|_| Refused::Url)?;
        let authority = uri.authority().ok_or(Refused::Url)?.as_str();
        // The rest of the URL is ours to append, and "http://a/" would not be what the node signs.
        let tls = match uri.scheme_str() {
            Some("https") if url == format!("https://{authority}") => true,
            Some("http") if url == format!("http://{authority}") => false,
            _ => return Err(Refused::Url),
        };
        if authority.contains('@') || url.len() > 255 {
            return Err(Refused::Url);
        }
        if !tls && !self.allow_private {
            return Err(Refused::Plain);
        }
        let host = uri.host().ok_or(Refused::Url)?;
        let behind = authority.strip_prefix(host).ok_or(Refused::Url)?;
        let port = match behind.strip_prefix(':') {
            Some(port) => port.parse().map_err(|_| Refused::Url)?,
            None if tls => 443,
            None => 80,
        };
        self.port(port)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.parse::<IpAddr>().is_err() && !is_name(&host) {
            return Err(Refused::Url);
        }
        Ok(Target { tls, host, port, authority: authority.to_owned() })
    }

    /// Whether all of what a name stands for may be connected to; then exactly these.
    pub(crate) fn admit(&self, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refused> {
        let fine = !found.is_empty() && found.iter().all(|address| self.allows(address.ip()));
        if fine { Ok(found) } else { Err(Refused::Address) }
    }

    /// Whether a port may be connected to.
    pub(crate) fn port(&self, port: u16) -> Result<(), Refused> {
        // 448 is where the stack's own HAProxy serves nodes.
        if matches!(port, 80 | 443 | 448) || port >= 1024 { Ok(()) } else { Err(Refused::Port) }
    }

    fn allows(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        !self.denied.iter().any(|net| net.contains(&ip)) && (self.allow_private || is_global(ip))
    }
}

/// Labels of letters, digits and hyphens, the last of them no number: `2130706433` and `0x7f.1`
/// are addresses to some resolvers.
fn is_name(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let last = host.rsplit('.').next().unwrap_or_default();
    host.split('.').all(label) && !last.starts_with(|c: char| c.is_ascii_digit())
}

/// Whether an address is one of the public Internet's single machines.
fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_global_v4(ip),
        IpAddr::V6(ip) => is_global_v6(ip),
    }
}

fn is_global_v4(ip: Ipv4Addr) -> bool {
    let reserved = match ip.octets() {
        [0 | 10 | 127, ..] | [169, 254, ..] | [192, 168, ..] | [192, 0, 0 | 2, _] => true,
        [100, second, ..] => (64..128).contains(&second),
        [172, second, ..] => (16..32).contains(&second),
        [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        [first, ..] => first >= 224,
    };
    !reserved
}

fn is_global_v6(ip: Ipv6Addr) -> bool {
    let reserved = match ip.segments() {
        // Documentation, protocol assignments with Teredo, and 6to4, which hides an IPv4 address.
        [0x2001, 0xdb8, ..] | [0x2001, 0, ..] | [0x2002, ..] => true,
        [0x3fff, second, ..] => second < 0x1000,
        [first, ..] => first & 0xe000 != 0x2000,
    };
    !reserved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict() -> Rules {
        Rules::default()
    }

    #[test]
    fn only_public_addresses_pass_and_one_bad_one_refuses_the_name() {
        let bad = "0.0.0.0 10.1.2.3 100.64.0.1 127.0.0.1 169.254.169.254 172.16.0.1 172.31.255.255 \
                   192.0.0.8 192.0.2.1 192.168.1.1 198.18.0.1 198.19.1.1 198.51.100.7 203.0.113.7 \
                   224.0.0.1 255.255.255.255 :: ::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 fe80::1 fc00::1 \
                   fd12::1 ff02::1 2001:db8::1 2001::1 2002:7f00:1:: 3fff:1::1 64:ff9b::7f00:1";
        let good = "1.1.1.1 100.63.0.1 172.32.0.1 192.0.1.1 198.20.0.1 223.255.255.255 \
                    2606:4700::1111 ::ffff:8.8.8.8 2a00::1 3fff:1000::1";
        let at = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 443);
        for ip in bad.split_whitespace() {
            assert_eq!(strict().admit(vec![at(ip)]), Err(Refused::Address), "{ip}");
            assert_eq!(strict().admit(vec![at("1.1.1.1"), at(ip)]), Err(Refused::Address), "{ip}");
        }
        for ip in good.split_whitespace() {
            assert_eq!(strict().admit(vec![at(ip)]), Ok(vec![at(ip)]), "{ip}");
        }
        assert_eq!(strict().admit(Vec::new()), Err(Refused::Address));
        let private = Rules { allow_private: true, denied: vec!["10.0.0.0/8".parse().unwrap()] };
        assert!(private.admit(vec![at("127.0.0.1")]).is_ok());
        assert!(private.admit(vec![at("10.0.0.1")]).is_err());
        assert!(private.admit(vec![at("::ffff:10.0.0.1")]).is_err());
    }

    #[test]
    fn addresses_of_nodes_are_origins_and_nothing_else() {
        let target = strict().target("https://mesh.example.org").unwrap();
        assert_eq!(
            (target.host.as_str(), target.port, target.tls),
            ("mesh.example.org", 443, true)
        );
        assert_eq!(strict().target("https://[2606:4700::1]:8443").unwrap().host, "2606:4700::1");
        let bad = "https://mesh.example.org/ https://mesh.example.org/x https://a@b.example ftp://a.example \
                   https://2130706433 https://0x7f.1 https://127.1 https://a..b https:// \
                   https://a.example:0 https://a.example:22 https://a.example:99999 https://a.example: \
                   https://a.example?x https://017700000001 mesh.example.org";
        for url in bad.split_whitespace() {
            assert!(strict().target(url).is_err(), "{url}");
        }
        assert_eq!(strict().target("http://a.example"), Err(Refused::Plain));
        let private = Rules { allow_private: true, ..strict() };
        assert_eq!(private.target("http://127.0.0.1:8000").unwrap().port, 8000);
    }
}
