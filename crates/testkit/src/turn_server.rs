//! A real coturn on the loopback.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use crate::directory::Directory;
use crate::process::{Port, Process, workspace};
use crate::time::eventually;

/// A busy machine may take this long to start it.
const UP_WITHIN: Duration = Duration::from_secs(20);
/// Ports it relays through: neither those of services nor those the kernel picks for clients.
const RELAYS: (u16, u16) = (30_000, 32_000);

/// A TURN server that takes credentials made with one secret. Dropping it ends it.
#[derive(Debug)]
pub struct TurnServer {
    port: Port,
    process: Process,
    _directory: Directory,
}

/// Whether coturn is here, or what is missing.
///
/// # Errors
/// Names the Debian package to install.
pub fn installed() -> anyhow::Result<()> {
    let found = Command::new("turnserver").arg("--version").output();
    found.map(drop).context("turnserver is not installed: apt-get install coturn")
}

impl TurnServer {
    /// Starts one that relays between browsers of this machine, which no real one may.
    pub async fn for_this_machine(secret: &str) -> anyhow::Result<Self> {
        let options = ["-n", "--no-cli", "--allow-loopback-peers"];
        Self::start(secret, options.map(str::to_owned).to_vec()).await
    }

    /// Starts one with the project's own settings and these besides.
    pub async fn as_in_production(secret: &str, more: &[&str]) -> anyhow::Result<Self> {
        let file: PathBuf = workspace().join("coturn/turnserver.conf");
        let mut options = vec!["-c".to_owned(), file.display().to_string()];
        options.extend(more.iter().map(|&option| option.to_owned()));
        Self::start(secret, options).await
    }

    async fn start(secret: &str, options: Vec<String>) -> anyhow::Result<Self> {
        let port = Port::reserve()?;
        let directory = Directory::new("turn")?;
        let mut command = Command::new("turnserver");
        command
            .args(options)
            .args(["--use-auth-secret", "--static-auth-secret", secret, "--realm", "test"])
            .args(["--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1"])
            .args(["--listening-port", &port.number().to_string(), "--no-tls", "--no-dtls"])
            .args(["--min-port", &RELAYS.0.to_string(), "--max-port", &RELAYS.1.to_string()])
            .args(["--log-file", "stdout", "--simple-log"])
            .arg("--pidfile")
            .arg(directory.path().join("pid"))
            .arg("--userdb")
            .arg(directory.path().join("users"));
        let process = Process::start("turnserver", &command, &directory.path().join("log"))?;
        let address = port.address();
        let up = eventually(UP_WITHIN, async || {
            tokio::net::TcpStream::connect(address).await.is_ok().then_some(())
        });
        up.await.with_context(|| format!("coturn does not listen: {}", process.log()))?;
        Ok(Self { port, process, _directory: directory })
    }

    /// Its port on 127.0.0.1, UDP and TCP.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.process.log()
    }
}
