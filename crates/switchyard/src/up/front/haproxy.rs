//! HAProxy: TLS, limits per address, the originals' ports.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use super::{Plan, Program, pair};
use crate::cli::UpArgs;
use crate::ports::Service;

/// Its own metrics, on loopback.
const METRICS: u16 = 8405;
/// The first port anybody may open, where the kernel does not say.
const UNPRIVILEGED: u16 = 1024;

/// HAProxy as it is going to run.
#[derive(Debug)]
pub(super) struct HaProxy {
    program: PathBuf,
    config: PathBuf,
    /// Added to every port.
    offset: u16,
}

impl HaProxy {
    /// HAProxy, when it is installed, configured, and may open its ports.
    pub(super) fn find(args: &UpArgs) -> Option<Self> {
        let (program, config) = pair(&args.config_dir, "haproxy", "haproxy/haproxy.cfg")?;
        let found = Self { program, config, offset: args.port_offset };
        let lowest = found.ports().into_iter().min()?;
        (rustix::process::geteuid().is_root() || lowest >= first_open_port()).then_some(found)
    }

    /// The port a service is reached on.
    pub(super) fn port(&self, service: Service) -> u16 {
        service.front_port().saturating_add(self.offset)
    }

    /// Every port it opens, whichever services run: its configuration is one file.
    pub(super) fn ports(&self) -> Vec<u16> {
        let public = Service::ALL.into_iter().map(|service| self.port(service));
        public.chain([METRICS.saturating_add(self.offset)]).collect()
    }

    /// The process. As root it starts as root, to open its ports, and gives that up itself.
    pub(super) fn program(&self, plan: &Plan) -> Program {
        let account = plan.layout.account();
        let mut environment: Vec<(OsString, OsString)> = Vec::new();
        let mut set = |name: String, value: OsString| environment.push((name.into(), value));
        set("TLS_PEM".into(), plan.certificate.both.clone().into());
        set("METRICS_PORT".into(), METRICS.saturating_add(self.offset).to_string().into());
        if account.drops() {
            set("RUN_AS_USER".into(), account.uid().to_string().into());
            set("RUN_AS_GROUP".into(), account.gid().to_string().into());
        }
        for service in Service::ALL {
            set(service.front_variable().into(), self.port(service).to_string().into());
        }
        for planned in &plan.services {
            let place = &planned.place;
            set(place.service.variable("ADDRESS"), place.local().to_string().into());
            set(place.service.variable("ADMIN_PORT"), place.admin.port().to_string().into());
        }
        let arguments = ["-W", "-db", "-f"].map(OsString::from).into_iter();
        let arguments = arguments.chain([self.config.clone().into()]).collect();
        let program = super::front("haproxy", &self.program, arguments, environment, Signal::USR1);
        Program { privileged: account.drops(), ..program }
    }

    #[cfg(test)]
    pub(super) fn at(offset: u16) -> Self {
        Self { program: PathBuf::new(), config: PathBuf::new(), offset }
    }
}

fn first_open_port() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(UNPRIVILEGED)
}
