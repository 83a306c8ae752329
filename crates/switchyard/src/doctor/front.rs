//! What clients come through: names, certificates, HAProxy, up to an answer of the service.

use anyhow::{Context as _, ensure};
use http::{HeaderValue, Method};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{self, client::IntoClientRequest as _};

use super::Finding;
use super::reach::{self, STEP, Shown, Stream, Trust, Unreached};
use crate::cli::DoctorArgs;
use crate::http as client;
use crate::ports::{self, Service};
use crate::state::State;

/// Warned about when it ends sooner.
const DAYS_ENOUGH: i64 = 30;

/// One public address of a service.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    service: Service,
    host: String,
    port: u16,
}

/// The public addresses of the running stack, or those that a stack on `public` would have.
pub(super) fn endpoints(
    state: Option<&State>,
    public: Option<&str>,
    args: &DoctorArgs,
) -> Vec<Endpoint> {
    if let Some(public) = public {
        let at = |service: Service| {
            let usual = || service.front_port().saturating_add(args.port_offset);
            let port = ports::chosen(&args.front_port, service).unwrap_or_else(usual);
            Endpoint { service, host: public.to_owned(), port }
        };
        // Of a deployed stack, those that were deployed.
        let there = |service: &Service| {
            args.service.is_empty() || args.service.iter().any(|one| one.service == *service)
        };
        return Service::ALL.into_iter().filter(there).map(at).collect();
    }
    let services = state.into_iter().flat_map(|state| &state.services);
    services
        .filter_map(|(name, running)| {
            let service = Service::ALL.into_iter().find(|service| service.name() == name)?;
            let place = running.url.strip_prefix(service.scheme(true))?.strip_prefix("://")?;
            let (host, port) = ports::host_and_port(place, service.front_port())?;
            Some(Endpoint { service, host, port })
        })
        .collect()
}

/// The name or address that clients use.
pub(super) fn host(endpoints: &[Endpoint]) -> Option<&str> {
    endpoints.first().map(|endpoint| endpoint.host.as_str())
}

/// The TURN servers to ask: named ones, the running stack's, or where `public` would have them.
pub(super) fn turn_urls(
    args: &DoctorArgs,
    state: Option<&State>,
    public: Option<&str>,
) -> Vec<String> {
    if !args.turn.is_empty() {
        return args.turn.clone();
    }
    match (public, state) {
        (Some(host), _) => crate::up::turn_urls(host, args.port_offset),
        (None, Some(state)) => state.turn.clone(),
        (None, None) => Vec::new(),
    }
}

/// Connects to each as a client would.
pub(super) async fn check(endpoints: &[Endpoint], trust: &Trust) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut shown_before = Vec::new();
    for endpoint in endpoints {
        let Endpoint { service, host, port } = endpoint;
        let place = format!("{} at {host}:{port}", service.name());
        let (stream, shown) = match trust.tls(host, *port).await {
            Ok(connected) => connected,
            Err(why) => {
                let fix = unreached_fix(&why, host, *port);
                findings.push(Finding::broken("proxy", format!("{place}: {why}"), fix));
                continue;
            }
        };
        findings.push(match answer(stream, endpoint).await {
            Ok(what) => Finding::ok("proxy", format!("{place} {what}")),
            Err(why) => {
                let fix = format!("switchyard status   # is a {} ready?", service.name());
                Finding::broken("proxy", format!("{place}: {why:#}"), fix)
            }
        });
        // Every port shows the same one, as a rule.
        let facts = (host.clone(), shown.days, shown.key.clone());
        if !shown_before.contains(&facts) {
            shown_before.push(facts);
            findings.push(certificate(host, &shown));
        }
    }
    findings
}

/// The answer a client is looking for: the other protocol, or HTTP of the service's own.
async fn answer(
    stream: impl Stream + 'static,
    endpoint: &Endpoint,
) -> anyhow::Result<&'static str> {
    let Endpoint { service, host, port } = endpoint;
    let authority = format!("{}:{port}", crate::up::bracketed(host));
    let subprotocol = match service {
        Service::Signal => None,
        Service::PeerLinker | Service::ChannelHub => Some(service.name()),
        Service::Relay | Service::Peerbook | Service::Mesh => {
            let asked = client::over(stream, &authority, Method::GET, "/", Vec::new());
            let answer = timeout(STEP, asked).await.context("no answer in time")??;
            ensure!(answer.status < 500, "answers {}", answer.status);
            return Ok("answers");
        }
    };
    let mut request = format!("wss://{authority}/").into_client_request()?;
    if let Some(name) = subprotocol {
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(name));
    }
    let upgraded = timeout(STEP, tokio_tungstenite::client_async(request, stream)).await;
    match upgraded.context("no answer in time")? {
        Ok(_) => Ok("becomes a WebSocket"),
        Err(tungstenite::Error::Http(answer)) => {
            anyhow::bail!("answers {} instead of becoming a WebSocket", answer.status().as_u16())
        }
        Err(why) => Err(why.into()),
    }
}

fn certificate(host: &str, shown: &Shown) -> Finding {
    const CHECK: &str = "certificate";
    let Shown { days, key, cheap, own } = shown;
    let kind = if *own { "self-signed, " } else { "" };
    let found = format!("shown for {host}: {kind}{key}, for {days} more days");
    if *days < DAYS_ENOUGH {
        return Finding::warn(CHECK, found, certificate_fix(&Unreached::Expired));
    }
    if !cheap {
        let found = format!("{found}; a handshake costs several times that of ECDSA P-256");
        let fix = "certbot renew --force-renewal --key-type ecdsa --elliptic-curve secp256r1";
        return Finding::warn(CHECK, found, fix);
    }
    Finding::ok(CHECK, found)
}

/// The line that mends a certificate.
pub(super) fn certificate_fix(why: &Unreached) -> String {
    match why {
        Unreached::OtherName => "switchyard up --public HOST   # with the name clients use",
        Unreached::Untrusted => "switchyard doctor --certificate FILE   # if it is self-signed",
        _ => "rm data/tls/HOST.*   # the next `switchyard up` makes a new one; or renew yours",
    }
    .to_owned()
}

fn unreached_fix(why: &Unreached, host: &str, port: u16) -> String {
    match why {
        Unreached::Unknown(_) => format!("getent hosts {host}   # needs an A or AAAA record"),
        Unreached::Closed(_) => {
            format!("ss -ltnp 'sport = {port}'   # does HAProxy run, and listen there?")
        }
        Unreached::Silent => format!("ufw allow {port}/tcp   # and in the provider's firewall"),
        Unreached::Expired | Unreached::OtherName | Unreached::Untrusted => certificate_fix(why),
        Unreached::Tls(_) => format!("openssl s_client -connect {host}:{port} </dev/null"),
    }
}

/// The name resolves, and here as far as that can be told.
pub(super) async fn names(host: &str) -> Vec<Finding> {
    const CHECK: &str = "dns";
    if host.parse::<std::net::IpAddr>().is_ok() {
        return vec![Finding::ok(CHECK, format!("not needed: {host} is an address"))];
    }
    let found = match reach::addresses(host, 0).await {
        Ok(found) => found,
        Err(why) => {
            let fix = format!("getent hosts {host}   # needs an A or AAAA record");
            return vec![Finding::broken(CHECK, format!("{host}: {why}"), fix)];
        }
    };
    let list = found.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ");
    let ours = found.iter().any(|address| std::net::UdpSocket::bind((address.ip(), 0)).is_ok());
    let whose = if ours { "this machine" } else { "a NAT's or another machine's" };
    let mut findings = vec![Finding::ok(CHECK, format!("{host} is {list}: {whose}"))];
    // HAProxy serves all by name on 443; useful when all of the names are there, or none.
    let prefixes = ["signal", "relay", "pad", "hub", "book", "mesh"];
    let mut missing = Vec::new();
    for prefix in prefixes {
        let name = format!("{prefix}.{host}");
        if reach::addresses(&name, 0).await.is_err() {
            missing.push(name);
        }
    }
    if !missing.is_empty() && missing.len() < prefixes.len() {
        let fix = format!("*.{host}. CNAME {host}.   # or a record for each");
        findings.push(Finding::warn(CHECK, format!("no address for {}", missing.join(", ")), fix));
    }
    findings
}
