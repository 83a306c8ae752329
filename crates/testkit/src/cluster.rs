//! A whole Postgres of one's own, which may be killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::directory::Directory;
use crate::process::{Port, Process, workspace};

const STARTED_WITHIN: Duration = Duration::from_secs(60);

/// A throw-away Postgres cluster on a Unix socket in a temporary directory. It commits to disk
/// (`fsync` and `synchronous_commit` stay on), so that what it acknowledged survives
/// [`Cluster::kill`], and so that it can be measured.
///
/// Started by root it runs as `postgres` or `nobody`, because Postgres refuses to be root.
#[derive(Debug)]
pub struct Cluster {
    // Before the directory: the server ends before its files go.
    server: Option<Process>,
    programs: PathBuf,
    user: Option<(u32, u32)>,
    settings: Vec<String>,
    /// Where it listens besides its socket.
    port: Option<Port>,
    directory: Directory,
}

impl Cluster {
    /// Makes and starts one with the defaults of an installation.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// As [`Cluster::start`], with settings such as `"shared_buffers=256MB"`.
    pub async fn start_with(settings: &[&str]) -> anyhow::Result<Self> {
        Self::make(settings, None).await
    }

    /// As [`Cluster::start`], on a TCP port of the loopback too: for a proxy in between.
    pub async fn start_with_port() -> anyhow::Result<Self> {
        Self::make(&[], Some(Port::reserve()?)).await
    }

    async fn make(settings: &[&str], port: Option<Port>) -> anyhow::Result<Self> {
        let directory = Directory::new("pg")?;
        let user = unprivileged()?;
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(directory.path(), Some(uid), Some(gid))?;
        }
        let programs = programs()?;
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut cluster = Self { server: None, programs, user, settings, port, directory };
        cluster.initialise().await?;
        cluster.start_again().await?;
        Ok(cluster)
    }

    /// How to reach it as its superuser.
    pub fn options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .socket(self.directory.path())
            .port(self.port.as_ref().map_or(5432, Port::number))
            .username("postgres")
            .database("postgres")
    }

    /// As a URL, which names the socket's directory in `host=`.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The URL of one database in it.
    pub fn url_of(&self, database: &str) -> String {
        let socket = self.socket_directory().display().to_string().replace('/', "%2F");
        let port = self.port.as_ref().map_or(5432, Port::number);
        format!("postgres://postgres@localhost:{port}/{database}?host={socket}")
    }

    /// Its TCP port, if it was started with one.
    pub fn address(&self) -> Option<SocketAddr> {
        self.port.as_ref().map(Port::address)
    }

    /// Where its socket is, for `psql -h` and `pgbench -h`.
    pub fn socket_directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where `psql` and `pgbench` of the same version are.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// The server's process id; its connections are children of it.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Process::pid)
    }

    /// Ends it as a power cut would: every process of it at once, nothing written any more.
    pub fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        let children = children(server.pid());
        server.kill();
        for child in children {
            // Those that noticed and left already are no error.
            let _ = rustix::process::kill_process(child, Signal::KILL);
        }
    }

    /// Stops it in order, breaking connections (`pg_ctl stop -m fast`).
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(mut server) = self.server.take() else { return Ok(()) };
        server.signal(Signal::INT);
        server.wait(STARTED_WITHIN).await?;
        Ok(())
    }

    /// Stops it in its tracks: connections stay, nothing answers.
    pub fn pause(&mut self) {
        self.signal_all(Signal::STOP);
    }

    /// Lets it run on.
    pub fn resume(&mut self) {
        self.signal_all(Signal::CONT);
    }

    /// Starts it on the data it has and waits until it answers.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        if self.server.is_some() {
            return Ok(());
        }
        let end = Instant::now() + STARTED_WITHIN;
        loop {
            let mut server = self.launch()?;
            while server.status().is_none() {
                if let Ok(connection) = self.options().connect().await {
                    let _ = connection.close().await;
                    self.server = Some(server);
                    return Ok(());
                }
                ensure!(Instant::now() < end, "Postgres does not answer:\n{}", server.log());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // After a kill the shared memory of dying processes may be in the way for a moment.
            ensure!(Instant::now() < end, "Postgres does not start:\n{}", server.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn launch(&self) -> anyhow::Result<Process> {
        let socket = format!("unix_socket_directories={}", self.directory.path().display());
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-c", &socket, "-c"]);
        match &self.port {
            Some(port) => {
                command.arg("listen_addresses=127.0.0.1").args(["-p", &port.number().to_string()])
            }
            None => command.arg("listen_addresses="),
        };
        command.args(["-c", "max_connections=200", "-c", "jit=off"]);
        for setting in &self.settings {
            command.arg("-c").arg(setting);
        }
        command.current_dir("/");
        Process::start_as("postgres", &command, &self.log_file(), self.user)
    }

    async fn initialise(&self) -> anyhow::Result<()> {
        let mut command = self.command("initdb");
        command.args(["--username=postgres", "--auth=trust", "--encoding=UTF8"]);
        command.args(["--locale=C.UTF-8", "--no-sync", "--pgdata"]).arg(self.data());
        command.current_dir("/");
        let mut initdb = Process::start_as("initdb", &command, &self.log_file(), self.user)?;
        let status = initdb.wait(STARTED_WITHIN).await?;
        ensure!(status.success(), "initdb failed:\n{}", initdb.log());
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        if let Some(libraries) = libraries(&self.programs) {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }

    fn signal_all(&mut self, signal: Signal) {
        let Some(server) = &mut self.server else { return };
        for child in children(server.pid()) {
            let _ = rustix::process::kill_process(child, signal);
        }
        server.signal(signal);
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The user and group to run Postgres as: nobody special unless this is root.
fn unprivileged() -> anyhow::Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    for wanted in ["postgres", "nobody"] {
        let mut all = users.lines().map(|line| line.split(':').collect::<Vec<_>>());
        if let Some(fields) = all.find(|fields| fields.len() > 3 && fields[0] == wanted) {
            return Ok(Some((fields[2].parse()?, fields[3].parse()?)));
        }
    }
    bail!("neither a user postgres nor nobody exists, and Postgres refuses to run as root")
}

/// The directory of the newest installed Postgres programs, or of those that `scripts/setup.sh`
/// unpacked where nothing may be installed.
fn programs() -> anyhow::Result<PathBuf> {
    if let Some(given) = std::env::var_os("SWITCHYARD_PG_BIN") {
        return Ok(given.into());
    }
    let debian = [PathBuf::from("/usr/lib/postgresql"), unpacked().join("lib/postgresql")];
    let newest = debian.iter().find_map(|directory| {
        let versions = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let versions = versions.filter_map(|found| found.file_name().to_str()?.parse::<u32>().ok());
        let bin = directory.join(versions.max()?.to_string()).join("bin");
        bin.join("initdb").exists().then_some(bin)
    });
    if let Some(found) = newest {
        return Ok(found);
    }
    let asked = Command::new("pg_config").arg("--bindir").output();
    let asked = asked.context(
        "no Postgres: neither in /usr/lib/postgresql nor in data/tools, and no pg_config",
    )?;
    Ok(String::from_utf8(asked.stdout)?.trim().into())
}

/// Where `scripts/setup.sh` unpacks packages, as seen from the workspace.
fn unpacked() -> PathBuf {
    workspace().join("data/tools/root/usr")
}

/// The libraries of unpacked programs, which lie where no loader looks.
fn libraries(programs: &Path) -> Option<PathBuf> {
    let lib = programs.starts_with(unpacked()).then(|| unpacked().join("lib"))?;
    let mut inside = std::fs::read_dir(lib).ok()?.flatten().map(|found| found.path());
    inside.find(|path| path.to_string_lossy().ends_with("-linux-gnu"))
}

/// The processes whose parent is `pid`.
fn children(pid: u32) -> Vec<rustix::process::Pid> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let listed = std::fs::read_to_string(path).unwrap_or_default();
    let ids = listed.split_whitespace().filter_map(|id| id.parse().ok());
    ids.filter_map(rustix::process::Pid::from_raw).collect()
}
