//! STUN and TURN, as a browser would use them: a real allocation over each transport.

mod client;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use client::{Trouble, Wire};

use super::Finding;
use super::reach::{self, Trust, Unreached};
use crate::cli::DoctorArgs;
use crate::clock;
use crate::layout::Layout;

/// What credentials made here are for; coturn's quotas count by it.
const USER: &str = "switchyard-doctor";
const LIFETIME: Duration = Duration::from_secs(120);

/// One address of a TURN server.
#[derive(Debug, PartialEq, Eq)]
struct Server {
    host: String,
    port: u16,
    transport: Transport,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
    Tls,
}

impl Transport {
    fn check(self) -> &'static str {
        match self {
            Self::Udp => "turn over udp",
            Self::Tcp => "turn over tcp",
            Self::Tls => "turn over tls",
        }
    }

    fn firewall(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp | Self::Tls => "tcp",
        }
    }
}

/// Name and password.
struct Credential {
    name: String,
    password: String,
    /// Where it comes from, for who has to mend it.
    source: String,
}

/// Asks each of `urls` for an allocation, and one for the address it sees us by.
pub(super) async fn check(
    layout: &Layout,
    args: &DoctorArgs,
    trust: &Trust,
    urls: &[String],
) -> Vec<Finding> {
    if urls.is_empty() {
        let found = "not set up; `switchyard up --public HOST` does where coturn is installed";
        return vec![Finding::ok("turn", found)];
    }
    let credential = match credential(layout, args) {
        Ok(credential) => credential,
        Err(finding) => return vec![finding],
    };
    let mut findings = Vec::new();
    let mut seen = false;
    for url in urls {
        let Some(server) = parse(url) else {
            let fix =
                "turn:HOST:3478?transport=udp, turn:HOST:3478?transport=tcp or turns:HOST:5349";
            findings.push(Finding::broken("turn", format!("`{url}` is no address of TURN"), fix));
            continue;
        };
        if server.transport == Transport::Udp && !seen {
            seen = true;
            findings.push(reflexive(&server).await);
        }
        findings.push(allocation(&server, &credential, trust).await);
    }
    findings
}

fn credential(layout: &Layout, args: &DoctorArgs) -> Result<Credential, Finding> {
    // An empty variable counts as unset.
    if let Some(name) = args.turn_user.as_ref().filter(|name| !name.is_empty()) {
        let (password, source) = static_password(args)?;
        return Ok(Credential { name: name.clone(), password, source });
    }
    let path = args.turn_secret_file.clone().unwrap_or_else(|| layout.secrets().join("turn"));
    let secret = std::fs::read_to_string(&path).map_err(|why| {
        let found = format!("no secret shared with coturn: {}: {why}", path.display());
        Finding::broken("turn", found, "switchyard doctor --turn-secret-file FILE")
    })?;
    let made = turn::mint(secret.trim().as_bytes(), USER, LIFETIME, clock::now_ms());
    let source = format!("the secret in {}", path.display());
    Ok(Credential { name: made.username, password: made.credential, source })
}

/// The static pair's password, and where it comes from.
fn static_password(args: &DoctorArgs) -> Result<(String, String), Finding> {
    if let Some(path) = &args.turn_password_file {
        let password = std::fs::read_to_string(path).map_err(|why| {
            let found = format!("no password for TURN: {}: {why}", path.display());
            Finding::broken("turn", found, "switchyard doctor --turn-password-file FILE")
        })?;
        let source = format!("TURN_USER and {}", path.display());
        return Ok((password.trim().to_owned(), source));
    }
    let password = args.turn_password.clone().filter(|password| !password.is_empty());
    let password = password.ok_or_else(|| {
        let found = "a static name is set (TURN_USER) and no password";
        Finding::broken("turn", found, "TURN_PASSWORD=…")
    })?;
    Ok((password, "TURN_USER and TURN_PASSWORD".to_owned()))
}

async fn reflexive(server: &Server) -> Finding {
    const CHECK: &str = "stun";
    let asked = async {
        let address = first_address(server).await?;
        Wire::udp(address).await?.reflexive().await
    };
    match asked.await {
        Ok(address) => Finding::ok(CHECK, format!("seen from there, we are {address}")),
        Err(trouble) => {
            let (found, fix) = explain(&trouble, server, "");
            Finding::broken(CHECK, found, fix)
        }
    }
}

async fn allocation(server: &Server, credential: &Credential, trust: &Trust) -> Finding {
    let check = server.transport.check();
    let asked = async {
        let address = first_address(server).await?;
        let mut wire = open(server, address, trust).await?;
        let granted = wire.allocate(&credential.name, &credential.password).await?;
        Ok((address.ip(), granted.relayed))
    };
    match asked.await {
        Ok((at, relayed)) if is_public(at) && !is_public(relayed.ip()) => Finding::broken(
            check,
            format!("relays from {relayed}, which nobody outside reaches"),
            format!("external-ip={at}/{}   # in coturn's configuration", relayed.ip()),
        ),
        Ok((_, relayed)) => Finding::ok(check, format!("relays from {relayed}")),
        Err(Failure::Certificate(why)) => {
            let found = format!("{}:{}: {why}", server.host, server.port);
            Finding::broken(check, found, super::front::certificate_fix(&why))
        }
        Err(Failure::Trouble(trouble)) => {
            let (found, fix) = explain(&trouble, server, &credential.source);
            Finding::broken(check, found, fix)
        }
    }
}

/// Why there is no allocation.
enum Failure {
    Certificate(Unreached),
    Trouble(Trouble),
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<Unreached> for Trouble {
    fn from(why: Unreached) -> Self {
        match why {
            Unreached::Silent => Self::Silent,
            other => Self::Broken(other.to_string()),
        }
    }
}

async fn first_address(server: &Server) -> Result<SocketAddr, Trouble> {
    let found = reach::addresses(&server.host, server.port).await?;
    found.first().copied().ok_or(Trouble::Nonsense("no address"))
}

async fn open(server: &Server, address: SocketAddr, trust: &Trust) -> Result<Wire, Failure> {
    Ok(match server.transport {
        Transport::Udp => Wire::udp(address).await?,
        Transport::Tcp => {
            let stream = reach::tcp(&server.host, server.port).await.map_err(Trouble::from)?;
            Wire::Stream(Box::new(stream))
        }
        Transport::Tls => match trust.tls(&server.host, server.port).await {
            Ok((stream, _)) => Wire::Stream(Box::new(stream)),
            Err(why @ (Unreached::Expired | Unreached::OtherName | Unreached::Untrusted)) => {
                return Err(Failure::Certificate(why));
            }
            Err(why) => return Err(Trouble::from(why).into()),
        },
    })
}

/// What to say, and the line that mends it.
fn explain(trouble: &Trouble, server: &Server, source: &str) -> (String, String) {
    let Server { host, port, transport } = server;
    let place = format!("{host}:{port}");
    match trouble {
        Trouble::Silent => (
            format!("{place} does not answer"),
            format!("ufw allow {port}/{}   # and in the provider's firewall", transport.firewall()),
        ),
        Trouble::Broken(why) => (
            format!("{place}: {why}"),
            format!("ss -lntup 'sport = {port}'   # does turnserver listen there?"),
        ),
        Trouble::Refused(401 | 441, _) => (
            format!("{place} refuses the credentials made from {source}"),
            "switchyard up --public HOST   # starts coturn with that secret; elsewhere put it \
             behind static-auth-secret=, or a static pair behind user="
                .to_owned(),
        ),
        Trouble::Refused(403, _) => (
            format!("{place} forbids it"),
            "diff coturn/turnserver.conf /etc/turnserver.conf   # allowed-peer-ip, denied-peer-ip"
                .to_owned(),
        ),
        Trouble::Refused(486, _) => (
            format!("{place} has reached its quota"),
            "user-quota= and total-quota=   # in coturn's configuration".to_owned(),
        ),
        Trouble::Refused(508, _) => (
            format!("{place} has no port left"),
            "min-port=49152 and max-port=51819   # in coturn's configuration".to_owned(),
        ),
        Trouble::Refused(code, reason) => (
            format!("{place} answers {code} {reason}"),
            "journalctl -u coturn   # or the lines of coturn under `switchyard up`".to_owned(),
        ),
        Trouble::Nonsense(why) => (
            format!("{place} answers, but {why}"),
            format!("ss -lntup 'sport = {port}'   # is it turnserver that listens there?"),
        ),
    }
}

/// `turn:HOST[:PORT][?transport=udp|tcp]`, `turns:` (RFC 7065).
fn parse(url: &str) -> Option<Server> {
    let (scheme, rest) = url.split_once(':')?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let transport = match (scheme, query) {
        ("turn", "" | "transport=udp") => Transport::Udp,
        ("turn", "transport=tcp") => Transport::Tcp,
        ("turns", "" | "transport=tcp") => Transport::Tls,
        _ => return None,
    };
    let standard = if transport == Transport::Tls { 5349 } else { 3478 };
    let (host, port) = crate::ports::host_and_port(place, standard)?;
    Some(Server { host, port, transport })
}

/// Whether others on the Internet could reach it.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [first, second, ..] = ip.octets();
            let shared = first == 100 && (64..128).contains(&second);
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || shared)
        }
        IpAddr::V6(ip) => ip.segments()[0] & 0xE000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_turn_are_read_as_browsers_read_them() {
        let at =
            |host: &str, port, transport| Some(Server { host: host.to_owned(), port, transport });
        assert_eq!(parse("turn:a.example"), at("a.example", 3478, Transport::Udp));
        assert_eq!(parse("turn:a:3000?transport=tcp"), at("a", 3000, Transport::Tcp));
        assert_eq!(parse("turns:[2001:db8::1]:5350"), at("2001:db8::1", 5350, Transport::Tls));
        for wrong in ["stun:a", "turn:", "turn:a:0", "turn:a:port", "turn:a?transport=sctp"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn addresses_behind_a_nat_are_not_public() {
        for (ip, public) in [
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("8.8.8.8", true),
            ("fd00::1", false),
            ("2a00::1", true),
            ("127.0.0.1", false),
        ] {
            assert_eq!(is_public(ip.parse().unwrap()), public, "{ip}");
        }
    }
}
