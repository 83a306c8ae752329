//! What is going to run, decided before anything does.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;

use super::front::{self, Front};
use super::programs;
use super::reach;
use super::roles::Urls;
use crate::cli::UpArgs;
use crate::layout::Layout;
use crate::ports::{self, Service};
use crate::supervise::Program;
use crate::tls::{self, Certificate};

/// Variables of the originals that would apply to several services at once, and the stack's own.
const HIDDEN: [&str; 5] =
    ["PORT", "DATABASE_URL", "DATABASE_URL_FILE", "SWITCHYARD_DATA", "NOTIFY_SOCKET"];

/// The whole stack.
pub(super) struct Plan {
    /// Where it keeps things.
    pub(super) layout: Layout,
    /// What it runs.
    pub(super) services: Vec<Planned>,
    /// HAProxy and coturn, as far as they are there.
    pub(super) front: Front,
    /// What the services show when asked for TLS.
    pub(super) certificate: Certificate,
    /// The name others use.
    pub(super) public: Option<String>,
    /// Whether Postgres is ours.
    pub(super) private_database: bool,
    /// Whether to skip the proof.
    pub(super) no_self_check: bool,
    grace: Duration,
}

/// One service.
pub(super) struct Planned {
    /// Which, and its ports.
    pub(super) place: ports::Place,
    /// What clients are told.
    pub(super) url: String,
}

impl Plan {
    pub(super) fn new(
        args: &UpArgs,
        places: Vec<ports::Place>,
        layout: Layout,
        private_database: bool,
    ) -> anyhow::Result<Self> {
        let public = args.public.clone().filter(|host| !host.is_empty());
        let certificate = tls::keep(&layout, public.as_deref().unwrap_or("localhost"))?;
        let front = Front::find(args, &certificate, &layout)?;
        let services = places
            .into_iter()
            .map(|place| Planned { place, url: front.url(&place, public.as_deref()) })
            .collect();
        Ok(Self {
            layout,
            services,
            front,
            certificate,
            public,
            private_database,
            no_self_check: args.no_self_check,
            grace: Duration::from_secs(args.grace),
        })
    }

    /// The addresses of a service as clients are told them.
    pub(super) fn urls(&self, service: Service) -> Vec<String> {
        let of = |planned: &&Planned| planned.place.service == service;
        self.services.iter().filter(of).map(|planned| planned.url.clone()).collect()
    }

    /// The services to run once the database is there.
    pub(super) fn programs(&self, urls: &Urls) -> anyhow::Result<Vec<Program>> {
        let mut programs = Vec::new();
        for (service, url) in urls {
            let planned = self.services.iter().find(|planned| planned.place.service == *service);
            if let Some(planned) = planned {
                programs.push(self.program(planned, url)?);
            }
        }
        Ok(programs)
    }

    fn program(&self, planned: &Planned, url: &std::path::Path) -> anyhow::Result<Program> {
        let service = planned.place.service;
        let mut environment: Vec<(OsString, OsString)> = Vec::new();
        // Freed pages go back soon instead of after a second: the stack shares one machine.
        environment.push(("MIMALLOC_PURGE_DELAY".into(), "10".into()));
        let mut set = |setting: &str, value: OsString| {
            environment.push((service.variable(setting).into(), value));
        };
        set("LISTEN", planned.place.public.to_string().into());
        set("ADMIN_LISTEN", planned.place.admin.to_string().into());
        set("DATABASE_URL_FILE", url.into());
        set("TLS_CERT", self.certificate.certificate.clone().into());
        set("TLS_KEY", self.certificate.key.clone().into());
        if self.front.forwards() {
            set("TRUSTED_PROXIES", "127.0.0.0/8,::1/128".into());
            // What is not HTTP can say whose it is in no other way.
            if matches!(service, Service::PeerLinker | Service::ChannelHub) {
                set("PROXY_PROTOCOL", "accept".into());
            }
        }
        // No balancer watches us: clients may be told to leave at once.
        set("DRAIN_LAG", "0s".into());
        set("DRAIN_GRACE", format!("{}s", self.grace.as_secs()).into());
        if service == Service::Peerbook {
            if !is_set(&["PEERBOOK_PUBLIC_URL", "PB_HOME_URL"]) {
                set("PUBLIC_URL", planned.url.clone().into());
            }
            if !is_set(&["PEERBOOK_SMTP_HOST", "PB_SMTP_HOST", "PEERBOOK_MAIL_DIR"]) {
                let mail = self.layout.data().join("mail");
                self.layout.make_private(&mail)?;
                set("MAIL_DIR", mail.into());
            }
            if !is_set(&["PEERBOOK_RTC_LISTEN"]) {
                let public_ips = is_set(&["PEERBOOK_RTC_PUBLIC_IP"]);
                for (name, value) in reach::rtc(&planned.place, self.public.as_deref(), public_ips)
                {
                    set(name, value.into());
                }
            }
        }
        // Without a public name the page's reader may be on another machine than these addresses.
        if service == Service::Signal
            && self.public.is_some()
            && !is_set(&["SIGNAL_CHECK_SERVICES"])
        {
            let services = self.services.iter().map(|one| (one.place.service, one.url.as_str()));
            let checked = reach::checked(services);
            if !checked.is_empty() {
                set("CHECK_SERVICES", checked.into());
            }
        }
        // A stack on a laptop joins no public network unless told to.
        if service == Service::Mesh && std::env::var_os("MESH_DHT").is_none() {
            set("DHT", "off".into());
        }
        if service == Service::Mesh
            && let Some(host) = &self.public
        {
            set("PUBLIC_URL", planned.url.clone().into());
            let host = front::bracketed(host);
            set("STUN_URLS", format!("stun:{host}:3478").into());
        }
        if matches!(service, Service::Signal | Service::Peerbook | Service::Mesh)
            && let Some(turn) = &self.front.turn
        {
            set("TURN_SECRET_FILE", turn.secret_file.clone().into());
            set("TURN_URLS", turn.urls.join(",").into());
        }
        Ok(Program {
            name: service.name(),
            path: programs::service(&self.layout, service.name())?,
            arguments: Vec::new(),
            environment,
            hidden: HIDDEN.to_vec(),
            directory: PathBuf::from("/"),
            ask: Signal::TERM,
            insist: Signal::KILL,
            death: "TERM",
            // The service ends itself before that.
            grace: self.grace + Duration::from_secs(5),
            privileged: false,
        })
    }
}

/// Whether the operator says something of this: the services are given our environment.
fn is_set(names: &[&str]) -> bool {
    let given = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    names.iter().any(|name| given(name) || given(&format!("{name}_FILE")))
}
