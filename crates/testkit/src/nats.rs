//! A NATS server of one's own, which may be killed.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::Signal;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::directory::Directory;
use crate::process::{Port, Process};

const STARTED_WITHIN: Duration = Duration::from_secs(30);

/// `nats-server` on a port of its own.
#[derive(Debug)]
pub struct Nats {
    // Before the directory: the server ends before its log goes.
    server: Option<Process>,
    port: Port,
    configured: bool,
    directory: Directory,
}

impl Nats {
    /// Starts one, from the system's packages.
    ///
    /// # Errors
    /// When there is no `nats-server`, or it does not answer.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(None).await
    }

    /// As [`Nats::start`], with the text of a configuration file: accounts and their rights.
    ///
    /// # Errors
    /// As [`Nats::start`].
    pub async fn configured(text: &str) -> anyhow::Result<Self> {
        Self::start_with(Some(text)).await
    }

    async fn start_with(configuration: Option<&str>) -> anyhow::Result<Self> {
        let (port, directory) = (Port::reserve()?, Directory::new("nats")?);
        if let Some(text) = configuration {
            std::fs::write(directory.path().join("nats.conf"), text)?;
        }
        let configured = configuration.is_some();
        let mut nats = Self { server: None, port, configured, directory };
        nats.start_again().await?;
        Ok(nats)
    }

    /// For `BUS_URL`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.port.address())
    }

    /// Where it listens, also while it does not run.
    pub fn address(&self) -> std::net::SocketAddr {
        self.port.address()
    }

    /// The process running now.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Process::pid)
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Stops it in its tracks: connections stay, nothing answers.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets it run on.
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    fn signal(&mut self, signal: Signal) {
        if let Some(server) = &mut self.server {
            server.signal(signal);
        }
    }

    /// Starts it on the same port, killing it first if it runs, and waits until it answers.
    ///
    /// # Errors
    /// When it ends or does not answer.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.server = None;
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &self.port.number().to_string()]);
        if self.configured {
            command.arg("-c").arg(self.directory.path().join("nats.conf"));
        }
        let log = self.directory.path().join("log");
        let mut server = Process::start("nats-server", &command, &log)
            .context("install the Debian package nats-server")?;
        let end = Instant::now() + STARTED_WITHIN;
        while !greets(self.port.address()).await {
            if server.status().is_some() || Instant::now() >= end {
                bail!("nats-server does not answer:\n{}", server.log());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.server = Some(server);
        Ok(())
    }
}

/// Whether the server says who it is.
async fn greets(address: std::net::SocketAddr) -> bool {
    let Ok(mut connection) = TcpStream::connect(address).await else { return false };
    let mut greeting = [0; 4];
    let read = connection.read_exact(&mut greeting);
    let read = tokio::time::timeout(Duration::from_secs(1), read).await;
    matches!(read, Ok(Ok(_))) && &greeting == b"INFO"
}
