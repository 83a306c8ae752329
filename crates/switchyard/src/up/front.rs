//! HAProxy and coturn in front of the services, where they are installed and configured.
//!
//! Their configurations are files of the project that read what varies from the environment
//! (HAProxy), or that it is put behind in a private copy (coturn). Without them the services are
//! reached on their own ports, where they speak TLS and plain text alike.

mod coturn;
mod haproxy;

use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use rustix::process::Signal;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

pub(super) use self::coturn::Turn;
pub(crate) use self::coturn::urls as turn_urls;
use self::haproxy::HaProxy;
use super::plan::Plan;
use crate::cli::UpArgs;
use crate::layout::Layout;
use crate::ports::{self, Place};
use crate::supervise::Program;
use crate::tls::Certificate;

/// Services close what they serve first, and clients may take their time to notice.
const GRACE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(30);

/// What stands in front.
#[derive(Debug, Default)]
pub(super) struct Front {
    haproxy: Option<HaProxy>,
    /// coturn, and what services need to hand out credentials for it.
    pub(super) turn: Option<Turn>,
}

impl Front {
    /// Looks for programs and configurations; without a public name, or when told so, nothing
    /// stands in front.
    ///
    /// # Errors
    /// When a port they need is taken.
    pub(super) fn find(
        args: &UpArgs,
        certificate: &Certificate,
        layout: &Layout,
    ) -> anyhow::Result<Self> {
        let host = args.public.as_deref().filter(|host| !host.is_empty());
        let Some(host) = host.filter(|_| !args.no_front) else { return Ok(Self::default()) };
        let haproxy = HaProxy::find(args);
        let turn = Turn::find(args, host, certificate, layout)?;
        let front = Self { haproxy, turn };
        front.require_free()?;
        Ok(front)
    }

    /// The address clients are told.
    pub(super) fn url(&self, place: &Place, public: Option<&str>) -> String {
        let Some(host) = public else {
            let scheme = place.service.scheme(false);
            return format!("{scheme}://{}", place.local());
        };
        let port = match &self.haproxy {
            None => place.public.port(),
            Some(haproxy) => haproxy.port(place.service),
        };
        format!("{}://{}:{port}", place.service.scheme(true), bracketed(host))
    }

    /// What there is not, for who asked for a public name.
    pub(super) fn missing(&self) -> Option<&'static str> {
        match (&self.haproxy, &self.turn) {
            (Some(_), Some(_)) => None,
            (Some(_), None) => Some("no TURN: coturn is not installed, or --config-dir has none"),
            (None, Some(_)) => Some("no HAProxy: the services are reached on their own ports"),
            (None, None) => Some("no HAProxy and no TURN: services are reached on their own ports"),
        }
    }

    /// Whether HAProxy passes connections on, so that services may believe what it says of them.
    pub(super) fn forwards(&self) -> bool {
        self.haproxy.is_some()
    }

    /// What there is to run.
    pub(super) fn programs(&self, plan: &Plan) -> Vec<Program> {
        let haproxy = self.haproxy.as_ref().map(|haproxy| haproxy.program(plan));
        haproxy.into_iter().chain(self.turn.as_ref().map(Turn::program)).collect()
    }

    /// Waits until every port takes connections.
    ///
    /// # Errors
    /// When one does not within `limit`.
    pub(super) async fn reachable(&self, limit: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        for port in self.ports() {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
                if Instant::now() >= deadline {
                    bail!(
                        "nothing answers on port {port}: the lines of haproxy and coturn say why"
                    );
                }
                sleep(POLL).await;
            }
        }
        Ok(())
    }

    fn ports(&self) -> Vec<u16> {
        let haproxy = self.haproxy.as_ref().map_or(Vec::new(), HaProxy::ports);
        haproxy.into_iter().chain(self.turn.as_ref().map_or(Vec::new(), Turn::ports)).collect()
    }

    fn require_free(&self) -> anyhow::Result<()> {
        let taken: Vec<String> = self
            .ports()
            .into_iter()
            .filter(|port| !ports::is_free((Ipv6Addr::UNSPECIFIED, *port).into()))
            .map(|port| port.to_string())
            .collect();
        if taken.is_empty() {
            return Ok(());
        }
        bail!(
            "HAProxy and coturn need port {}, where something listens already: stop it, or start \
             with --no-front",
            taken.join(" and ")
        )
    }
}

fn front(
    name: &'static str,
    path: &Path,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    ask: Signal,
) -> Program {
    Program {
        name,
        path: path.to_owned(),
        arguments,
        environment,
        hidden: Vec::new(),
        directory: "/".into(),
        ask,
        insist: Signal::KILL,
        death: "TERM",
        grace: GRACE,
        privileged: false,
    }
}

/// The program and its configuration, when both are there.
fn pair(config_dir: &Path, program: &str, config: &str) -> Option<(PathBuf, PathBuf)> {
    let config = std::path::absolute(config_dir.join(config)).ok()?;
    Some((installed(program)?, config)).filter(|(_, config)| config.exists())
}

/// IPv6 addresses need brackets in a URL.
pub(crate) fn bracketed(host: &str) -> String {
    if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() }
}

fn installed(program: &str) -> Option<PathBuf> {
    let directories = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    directories.iter().map(|directory| Path::new(directory).join(program)).find(|p| p.exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::{Service, places};

    #[test]
    fn addresses_follow_what_stands_in_front() {
        let place = places(&[Service::Signal], None, 0, &[]).unwrap()[0];
        let bare = Front::default();
        assert_eq!(bare.url(&place, None), "ws://127.0.0.1:3000");
        assert_eq!(bare.url(&place, Some("2001:db8::1")), "wss://[2001:db8::1]:3000");
        let front = Front { haproxy: Some(HaProxy::at(10)), ..Front::default() };
        assert_eq!(front.url(&place, Some("example.org")), "wss://example.org:453");
    }
}
