//! coturn: STUN and TURN, with credentials the services mint.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;

use anyhow::Context as _;
use rustix::process::Signal;

use super::{Program, bracketed, pair};
use crate::cli::UpArgs;
use crate::layout::Layout;
use crate::secrets;
use crate::tls::Certificate;

/// STUN and TURN over UDP and TCP, and the same over TLS.
const PORTS: [u16; 2] = [3478, 5349];

/// TURN as clients see it, and the process that serves it.
#[derive(Debug)]
pub(in crate::up) struct Turn {
    /// File of the secret shared with coturn.
    pub(in crate::up) secret_file: PathBuf,
    /// `turn:host:3478?transport=udp` and so on.
    pub(in crate::up) urls: Vec<String>,
    program: PathBuf,
    /// The project's file with this machine's values behind it; 0600, as it holds the secret.
    config: PathBuf,
    ports: [u16; 2],
}

impl Turn {
    /// coturn for `host`, when it is installed and configured.
    pub(super) fn find(
        args: &UpArgs,
        host: &str,
        certificate: &Certificate,
        layout: &Layout,
    ) -> anyhow::Result<Option<Self>> {
        let found = pair(&args.config_dir, "turnserver", "coturn/turnserver.conf");
        let Some((program, common)) = found else { return Ok(None) };
        let secret_file = layout.secrets().join("turn");
        let secret = secrets::keep(&secret_file, layout.account())?;
        let mut text = fs::read_to_string(&common)
            .with_context(|| format!("cannot read {}", common.display()))?;
        let Certificate { certificate, key, .. } = certificate;
        let (certificate, key) = (certificate.display(), key.display());
        write!(text, "\nrealm={host}\nstatic-auth-secret={secret}\n")?;
        write!(text, "cert={certificate}\npkey={key}\n")?;
        let ports = shifted(args.port_offset);
        let [plain, tls] = ports;
        write!(text, "listening-port={plain}\ntls-listening-port={tls}\n")?;
        if let Some(external) = external_address(host) {
            writeln!(text, "external-ip={external}")?;
        }
        let config = layout.secrets().join("turnserver.conf");
        secrets::write_private(&config, text.as_bytes(), layout.account())?;
        let urls = urls(host, args.port_offset);
        Ok(Some(Self { secret_file, urls, program, config, ports }))
    }

    /// Every port it listens on, besides those it relays from.
    pub(super) fn ports(&self) -> Vec<u16> {
        self.ports.to_vec()
    }

    /// The process.
    pub(super) fn program(&self) -> Program {
        let arguments = vec!["-c".into(), self.config.clone().into()];
        super::front("coturn", &self.program, arguments, Vec::new(), Signal::TERM)
    }
}

/// Where clients find it, over UDP, TCP and TLS.
pub(crate) fn urls(host: &str, offset: u16) -> Vec<String> {
    let (host, [plain, tls]) = (bracketed(host), shifted(offset));
    vec![
        format!("turn:{host}:{plain}?transport=udp"),
        format!("turn:{host}:{plain}?transport=tcp"),
        format!("turns:{host}:{tls}?transport=tcp"),
    ]
}

fn shifted(offset: u16) -> [u16; 2] {
    PORTS.map(|port| port.saturating_add(offset))
}

/// The address others see, when this machine does not have it: behind a NAT that maps it.
fn external_address(host: &str) -> Option<IpAddr> {
    let public = (host, 0).to_socket_addrs().ok()?.next()?.ip();
    let ours = UdpSocket::bind(SocketAddr::new(public, 0)).is_ok();
    (!ours && !public.is_unspecified()).then_some(public)
}
