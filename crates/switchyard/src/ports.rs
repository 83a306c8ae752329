//! The services, their names and their ports.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, bail};
use clap::ValueEnum;

/// A service the launcher can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Service {
    /// Find each other, agree on a session.
    Signal,
    /// Leave a message for someone offline.
    Relay,
    /// Be linked to another peer, and pass data.
    PeerLinker,
    /// List channels, and ask their hosts for pads.
    ChannelHub,
    /// Keep an address book of one's own devices, and signal between them.
    Peerbook,
    /// Rooms, DHT records and TURN for browsers, paid with work.
    Mesh,
}

impl Service {
    /// All of them, in the order of the table.
    pub(crate) const ALL: [Self; 6] =
        [Self::Signal, Self::Relay, Self::PeerLinker, Self::ChannelHub, Self::Peerbook, Self::Mesh];

    /// Name of the binary, the schema and, in capitals, of the variables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Relay => "relay",
            Self::PeerLinker => "peer-linker",
            Self::ChannelHub => "channel-hub",
            Self::Peerbook => "peerbook",
            Self::Mesh => "mesh",
        }
    }

    /// Name of a setting's environment variable.
    pub(crate) fn variable(self, setting: &str) -> String {
        format!("{}_{setting}", self.name().to_uppercase().replace('-', "_"))
    }

    /// The role the service works as.
    pub(crate) fn role(self) -> &'static str {
        match self {
            Self::Signal => "switchyard_signal",
            Self::Relay => "switchyard_relay",
            Self::PeerLinker => "switchyard_peer_linker",
            Self::ChannelHub => "switchyard_channel_hub",
            Self::Peerbook => "switchyard_peerbook",
            Self::Mesh => "switchyard_mesh",
        }
    }

    fn public_port(self) -> u16 {
        match self {
            Self::Signal => 3000,
            Self::Relay => 4000,
            Self::PeerLinker => 8080,
            Self::ChannelHub => 8081,
            Self::Peerbook => 17_777,
            Self::Mesh => 8000,
        }
    }

    fn admin_port(self) -> u16 {
        self.public_port() + 10_000
    }

    /// The port HAProxy answers on for it.
    pub(crate) fn front_port(self) -> u16 {
        match self {
            Self::Signal => 443,
            Self::Relay => 444,
            Self::PeerLinker => 445,
            Self::ChannelHub => 446,
            Self::Peerbook => 447,
            Self::Mesh => 448,
        }
    }

    /// The variable that tells HAProxy's configuration so.
    pub(crate) fn front_variable(self) -> &'static str {
        match self {
            Self::Signal => "HTTPS_PORT",
            Self::Relay => "RELAY_PORT",
            Self::PeerLinker => "PAD_PORT",
            Self::ChannelHub => "HUB_PORT",
            Self::Peerbook => "PEERBOOK_PORT",
            Self::Mesh => "MESH_PORT",
        }
    }

    /// `ws`/`wss` or `http`/`https`.
    pub(crate) fn scheme(self, tls: bool) -> &'static str {
        match (self, tls) {
            (Self::Signal | Self::PeerLinker | Self::ChannelHub, false) => "ws",
            (Self::Signal | Self::PeerLinker | Self::ChannelHub, true) => "wss",
            (Self::Relay | Self::Peerbook | Self::Mesh, false) => "http",
            (Self::Relay | Self::Peerbook | Self::Mesh, true) => "https",
        }
    }
}

/// `--port SERVICE=PORT`.
#[derive(Clone, Debug)]
pub(crate) struct Override {
    service: Service,
    port: u16,
}

impl FromStr for Override {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (service, port) = text.split_once('=').ok_or("expected SERVICE=PORT")?;
        let service = Service::from_str(service, true)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or("expected a port number")?;
        Ok(Self { service, port })
    }
}

/// `--service SERVICE=HOST:PORT`: one that something else than the launcher runs.
#[derive(Clone, Debug)]
pub(crate) struct Deployed {
    /// The service.
    pub(crate) service: Service,
    /// Name or address of where its admin port is.
    pub(crate) host: String,
    /// That port.
    pub(crate) port: u16,
}

impl FromStr for Deployed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (service, place) = text.split_once('=').ok_or("expected SERVICE=HOST:PORT")?;
        let service = Service::from_str(service, true)?;
        let (host, port) =
            host_and_port(place, service.admin_port()).ok_or("expected HOST:PORT")?;
        Ok(Self { service, host, port })
    }
}

/// `HOST`, `HOST:PORT`, `[V6]` or `[V6]:PORT`; `None` when it is neither.
pub(crate) fn host_and_port(text: &str, standard: u16) -> Option<(String, u16)> {
    let text = text.trim_end_matches('/');
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = match port {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None => standard,
    };
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

/// The port chosen for `service`, the last one if several were.
pub(crate) fn chosen(overrides: &[Override], service: Service) -> Option<u16> {
    overrides.iter().rev().find(|chosen| chosen.service == service).map(|chosen| chosen.port)
}

/// Where one service listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The service.
    pub(crate) service: Service,
    /// What clients connect to.
    pub(crate) public: SocketAddr,
    /// Health and metrics, on loopback.
    pub(crate) admin: SocketAddr,
}

impl Place {
    /// The public port as reached from this machine.
    pub(crate) fn local(&self) -> SocketAddr {
        let ip = match self.public.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
            ip => ip,
        };
        SocketAddr::new(ip, self.public.port())
    }
}

/// Places for the services asked for: `only`, or all when that is empty.
pub(crate) fn places(
    only: &[Service],
    listen: Option<IpAddr>,
    offset: u16,
    overrides: &[Override],
) -> anyhow::Result<Vec<Place>> {
    let listen = listen.unwrap_or_else(every_address);
    let asked = |service: &Service| only.is_empty() || only.contains(service);
    Service::ALL
        .into_iter()
        .filter(asked)
        .map(|service| {
            let public = match chosen(overrides, service) {
                Some(port) => port,
                None => shifted(service.public_port(), offset)?,
            };
            let admin = shifted(service.admin_port(), offset)?;
            Ok(Place {
                service,
                public: SocketAddr::new(listen, public),
                admin: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), admin),
            })
        })
        .collect()
}

fn shifted(port: u16, offset: u16) -> anyhow::Result<u16> {
    port.checked_add(offset).with_context(|| format!("port {port} + {offset} is no port"))
}

/// The wildcard that covers IPv4 and IPv6, or IPv4's where the kernel has no IPv6.
fn every_address() -> IpAddr {
    if Path::new("/proc/net/if_inet6").exists() {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    }
}

/// Refuses with the occupied ports when something listens where a service would.
pub(crate) fn require_free(places: &[Place]) -> anyhow::Result<()> {
    let taken: Vec<String> = places
        .iter()
        .flat_map(|place| [(place.service, place.public), (place.service, place.admin)])
        .filter(|(_, address)| !is_free(*address))
        .map(|(service, address)| format!("{} ({})", address.port(), service.name()))
        .collect();
    if taken.is_empty() {
        return Ok(());
    }
    bail!(
        "something already listens on port {}: stop it, or start with --port-offset 100",
        taken.join(" and ")
    )
}

/// Whether a listener could be opened there now.
pub(crate) fn is_free(address: SocketAddr) -> bool {
    use socket2::{Domain, Socket, Type};
    let attempt = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?; // connections in TIME_WAIT are no obstacle
        socket.bind(&address.into())?;
        socket.listen(1)
    };
    attempt().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_move_every_port_and_overrides_win() {
        let chosen = "relay=4444".parse().unwrap();
        let places = places(&[], None, 100, &[chosen]).unwrap();
        let ports: Vec<_> =
            places.iter().map(|place| (place.public.port(), place.admin.port())).collect();
        assert_eq!(
            ports,
            [
                (3100, 13_100),
                (4444, 14_100),
                (8180, 18_180),
                (8181, 18_181),
                (17_877, 27_877),
                (8100, 18_100)
            ]
        );
    }

    #[test]
    fn deployed_services_are_named_with_their_admin_ports() {
        let read = |text: &str| {
            text.parse::<Deployed>().map(|one| (one.service.name(), one.host, one.port))
        };
        assert_eq!(read("signal=signal:13001").unwrap(), ("signal", "signal".into(), 13_001));
        assert_eq!(read("mesh=[::1]").unwrap(), ("mesh", "::1".into(), 18_000));
        for wrong in ["signal", "signal=", "nobody=h:1", "relay=h:0"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_offset_beyond_the_last_port_is_refused() {
        assert!(places(&[], None, 60_000, &[]).is_err());
    }

    #[test]
    fn a_bound_port_is_not_free() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(!is_free(address));
        drop(listener);
        assert!(is_free(address));
    }

    #[test]
    fn nonsense_overrides_are_refused() {
        for text in ["relay", "relay=0", "relay=99999", "mail=25"] {
            assert!(text.parse::<Override>().is_err(), "{text}");
        }
    }
}
