//! One service with its settings, ports and log.

use std::net::SocketAddr;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::Signal;

use super::{Port, Process, binary};
use crate::directory::Directory;
use crate::http_client::HttpClient;

/// A debug build on a busy machine may take this long to answer `/readyz`.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Longer than the default lag, grace and kill times of a drain together.
const DRAINED_WITHIN: Duration = Duration::from_secs(60);

/// Settings of a service about to start.
#[derive(Debug)]
pub struct Builder {
    name: &'static str,
    settings: Vec<(String, String)>,
    arguments: Vec<String>,
    wait_for_ready: bool,
    public: Option<Port>,
}

impl Builder {
    /// Sets `<NAME>_<setting>`, for example `("IDENTITY_POLICY", "open")`.
    #[expect(clippy::needless_pass_by_value, reason = "callers write literals and numbers")]
    pub fn set(mut self, setting: &str, value: impl ToString) -> Self {
        let prefix = self.name.to_uppercase().replace('-', "_");
        self.settings.push((format!("{prefix}_{setting}"), value.to_string()));
        self
    }

    /// Sets an environment variable by its whole name.
    #[expect(clippy::needless_pass_by_value, reason = "callers write literals and numbers")]
    pub fn environment(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// Adds a command line argument.
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// The database to use.
    pub fn database(self, url: &str) -> Self {
        self.set("DATABASE_URL", url)
    }

    /// Serves clients at this port instead of one nobody knows before the start.
    pub fn at(mut self, port: Port) -> Self {
        self.public = Some(port);
        self
    }

    /// Returns as soon as the process lives instead of when it is ready: for starts without a database.
    pub fn without_waiting(mut self) -> Self {
        self.wait_for_ready = false;
        self
    }

    /// Builds the binary when needed, starts it and waits until `/readyz` answers 200.
    pub async fn start(self) -> anyhow::Result<Service> {
        let name = self.name;
        let path = tokio::task::spawn_blocking(move || binary(name)).await??;
        let public = self.public.map_or_else(Port::reserve, Ok)?;
        let admin = Port::reserve()?;
        let prefix = name.to_uppercase().replace('-', "_");
        let mut command = Command::new(path);
        command.args(&self.arguments);
        command.env(format!("{prefix}_LISTEN"), public.address().to_string());
        command.env(format!("{prefix}_ADMIN_LISTEN"), admin.address().to_string());
        // A test process has its own DATABASE_URL, which is not the service's to use.
        command.env_remove("DATABASE_URL");
        // No balancer in front needs time to notice.
        command.env(format!("{prefix}_DRAIN_LAG"), "0s");
        command.envs(self.settings);
        let directory = Directory::new(name)?;
        let process = Process::start(name, &command, &directory.path().join("log"))?;
        let mut service = Service { name, command, public, admin, process, directory };
        if self.wait_for_ready {
            service.ready().await?;
        }
        Ok(service)
    }
}

/// A service's process. Dropping it kills it and removes its log.
#[derive(Debug)]
pub struct Service {
    name: &'static str,
    command: Command,
    public: Port,
    admin: Port,
    process: Process,
    directory: Directory,
}

impl Service {
    /// Settings for the service whose crate and binary are called `name`.
    pub fn named(name: &'static str) -> Builder {
        Builder {
            name,
            settings: Vec::new(),
            arguments: Vec::new(),
            wait_for_ready: true,
            public: None,
        }
    }

    /// Where it serves clients.
    pub fn address(&self) -> SocketAddr {
        self.public.address()
    }

    /// Where `/livez`, `/readyz` and `/metrics` are.
    pub fn admin(&self) -> SocketAddr {
        self.admin.address()
    }

    /// The id of the process running now or last.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.process.status().is_none()
    }

    /// Waits until it is ready; fails early, with the log, when it ends instead.
    pub async fn ready(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + READY_WITHIN;
        let client = HttpClient::plain(self.admin()).new_connections();
        loop {
            if let Some(status) = self.process.status() {
                bail!("{} ended ({status}) before it was ready:\n{}", self.name, self.log());
            }
            let answer = client.get("/readyz").await;
            if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if Instant::now() >= end {
                bail!("{} is not ready: {answer:?}\n{}", self.name, self.log());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Asks it to drain (SIGTERM) without waiting.
    pub fn ask_to_drain(&mut self) {
        self.process.signal(Signal::TERM);
    }

    /// Asks it to drain and waits for its exit status.
    pub async fn terminate(&mut self) -> anyhow::Result<ExitStatus> {
        self.ask_to_drain();
        self.drained().await
    }

    /// Waits for the exit status of one that was asked to drain.
    pub async fn drained(&mut self) -> anyhow::Result<ExitStatus> {
        self.process.wait(DRAINED_WITHIN).await
    }

    /// Stops it in its tracks (SIGSTOP): connections stay, nothing answers.
    pub fn pause(&mut self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it run on (SIGCONT).
    pub fn resume(&mut self) {
        self.process.signal(Signal::CONT);
    }

    /// Starts it once more with the same ports and settings, killing it first if it runs,
    /// and waits until it is ready.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.process.kill();
        let log = self.directory.path().join("log");
        self.process = Process::start(self.name, &self.command, &log)?;
        self.ready().await
    }

    /// The sum of all samples of one metric, over its labels.
    pub async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = HttpClient::plain(self.admin()).new_connections().get("/metrics").await?.text();
        let samples = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next())?
        });
        let mut values = samples.map(str::parse::<f64>).peekable();
        values.peek().with_context(|| format!("{} has no metric {name}", self.name))?;
        Ok(values.sum::<Result<f64, _>>()?)
    }
}
