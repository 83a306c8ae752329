//! HAProxy and coturn in front of the services, where they are installed and configured.
//!
//! Their configurations are files of the project that read what varies from the environment
//! (HAProxy) or from flags (coturn); nothing is generated. Without them the services are
//! reached on their own ports, where they speak TLS and plain text alike.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::plan::Plan;
use crate::layout::Layout;
use crate::ports::{Place, Service};
use crate::secrets;
use crate::supervise::Program;

const GRACE: Duration = Duration::from_secs(10);

/// What stands in front.
#[derive(Debug, Default)]
pub(super) struct Front {
    /// HAProxy's program and configuration.
    haproxy: Option<(PathBuf, PathBuf)>,
    /// coturn's.
    coturn: Option<(PathBuf, PathBuf)>,
    /// What signal needs to hand out TURN credentials.
    pub(super) turn: Option<Turn>,
}

/// TURN as clients see it.
#[derive(Debug)]
pub(super) struct Turn {
    /// File of the secret shared with coturn.
    pub(super) secret_file: PathBuf,
    /// `turn:host:3478?transport=udp` and so on.
    pub(super) urls: Vec<String>,
}

impl Front {
    /// Looks for programs and configurations; without a public name nothing stands in front.
    pub(super) fn find(
        config_dir: &Path,
        public: Option<&str>,
        layout: &Layout,
    ) -> anyhow::Result<Self> {
        let Some(host) = public else { return Ok(Self::default()) };
        let pair = |program: &str, config: &str| {
            let config = std::path::absolute(config_dir.join(config)).ok()?;
            Some((installed(program)?, config)).filter(|(_, config)| config.exists())
        };
        let haproxy = pair("haproxy", "haproxy/haproxy.cfg");
        let coturn = pair("turnserver", "coturn/turnserver.conf");
        let mut turn = None;
        if coturn.is_some() {
            let secret_file = layout.secrets().join("turn");
            secrets::keep(&secret_file, layout.account())?;
            let host = bracketed(host);
            let url = |transport| format!("turn:{host}:3478?transport={transport}");
            turn = Some(Turn { secret_file, urls: vec![url("udp"), url("tcp")] });
        }
        Ok(Self { haproxy, coturn, turn })
    }

    /// The address clients are told.
    pub(super) fn url(&self, place: &Place, public: Option<&str>) -> String {
        let Some(host) = public else {
            let scheme = place.service.scheme(false);
            return format!("{scheme}://{}", place.local());
        };
        let port = match (&self.haproxy, place.service) {
            (None, _) => place.public.port(),
            (Some(_), Service::Signal) => 443,
            (Some(_), Service::Relay) => 444,
        };
        format!("{}://{}:{port}", place.service.scheme(true), bracketed(host))
    }

    /// What there is to run.
    pub(super) fn programs(&self, plan: &Plan) -> Vec<Program> {
        let host = plan.public.clone().unwrap_or_default();
        let mut programs = Vec::new();
        if let Some((path, config)) = &self.haproxy {
            let mut environment: Vec<(OsString, OsString)> = vec![
                ("PUBLIC_HOST".into(), host.clone().into()),
                ("TLS_CERT".into(), plan.certificate.certificate.clone().into()),
                ("TLS_KEY".into(), plan.certificate.key.clone().into()),
            ];
            for planned in &plan.services {
                let name = planned.place.service.variable("ADDRESS");
                environment.push((name.into(), planned.place.local().to_string().into()));
            }
            let arguments = vec!["-W".into(), "-db".into(), "-f".into(), config.into()];
            programs.push(front("haproxy", path, arguments, environment, Signal::USR1));
        }
        if let (Some((path, config)), Some(turn)) = (&self.coturn, &self.turn) {
            let secret = std::fs::read_to_string(&turn.secret_file).unwrap_or_default();
            let arguments = vec![
                "-c".into(),
                config.into(),
                format!("--realm={host}").into(),
                format!("--static-auth-secret={}", secret.trim()).into(),
            ];
            programs.push(front("coturn", path, arguments, Vec::new(), Signal::TERM));
        }
        programs
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
    }
}

/// IPv6 addresses need brackets in a URL.
fn bracketed(host: &str) -> String {
    if host.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{host}]") } else { host.to_owned() }
}

fn installed(program: &str) -> Option<PathBuf> {
    let directories = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    directories.iter().map(|directory| Path::new(directory).join(program)).find(|p| p.exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::places;

    #[test]
    fn addresses_follow_what_stands_in_front() {
        let place = places(&[Service::Signal], None, 0, &[]).unwrap()[0];
        let bare = Front::default();
        assert_eq!(bare.url(&place, None), "ws://127.0.0.1:3000");
        assert_eq!(bare.url(&place, Some("2001:db8::1")), "wss://[2001:db8::1]:3000");
        let front = Front { haproxy: Some(Default::default()), ..Front::default() };
        assert_eq!(front.url(&place, Some("example.org")), "wss://example.org:443");
    }
}
