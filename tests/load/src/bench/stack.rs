//! The processes that a bench measures.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use testkit::cluster::Cluster;
use testkit::database::Database;
use testkit::process::{Builder, Port, Process, Service};

use crate::target::Target;

/// A Postgres that both the service and its comparison use.
pub(super) struct Stack {
    // Before the cluster: dropped first, while there is a server to drop it from.
    pub(super) database: Database,
    pub(super) cluster: Cluster,
}

impl Stack {
    pub(super) async fn start() -> anyhow::Result<Self> {
        // Room for the WAL of a whole run, so that checkpoints do not fall into one row only.
        let settings = [
            "shared_buffers=256MB",
            "max_wal_size=8GB",
            "checkpoint_timeout=30min",
            // For what is measured from a commit on.
            "track_commit_timestamp=on",
        ];
        let cluster = Cluster::start_with(&settings).await?;
        let database = Database::within(cluster.options()).await?;
        Ok(Self { database, cluster })
    }

    /// Starts a service whose limits by address do not count a generator as an attack.
    pub(super) async fn service(&self, settings: Builder) -> anyhow::Result<Service> {
        settings.database(&self.database_url()).set("LOG", "warn").start().await
    }

    pub(super) fn database_url(&self) -> String {
        let name = self.database.options().get_database().unwrap_or("postgres").to_owned();
        self.cluster.url_of(&name)
    }

    pub(super) fn target(&self, service: &Service) -> Target {
        Target {
            target: service.address(),
            server_pid: Some(service.pid()),
            postgres_pid: self.cluster.pid(),
        }
    }
}

/// A comparison program, in a process of its own.
pub(super) struct Helper {
    process: Process,
    port: Port,
}

impl Helper {
    /// Starts what this program does under this name.
    pub(super) async fn start(name: &str) -> anyhow::Result<Self> {
        let port = Port::reserve()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args([name, "--listen", &port.address().to_string()]);
        let log = std::env::temp_dir().join(format!("load-{name}-{}", port.number()));
        let process = Process::start(name, &command, &log)?;
        let end = Instant::now() + Duration::from_secs(10);
        while !listens(port.number()) {
            ensure!(Instant::now() < end, "{name} does not listen: {}", process.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        std::fs::remove_file(log)?;
        Ok(Self { process, port })
    }

    pub(super) fn target(&self) -> Target {
        Target {
            target: self.port.address(),
            server_pid: Some(self.process.pid()),
            postgres_pid: None,
        }
    }
}

/// Whether anybody listens on a port. Looks without connecting, which the copy relay would take
/// for a client.
fn listens(port: u16) -> bool {
    let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    // local address, remote address, state: 0A is LISTEN
    let wanted = format!(":{port:04X} 00000000:0000 0A");
    sockets.lines().any(|line| line.contains(&wanted))
}

/// A self-signed certificate in files, for handshakes like those in front of the app.
pub(super) struct Certificate {
    directory: PathBuf,
}

impl Certificate {
    pub(super) fn make() -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join(format!("load-tls-{}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        std::fs::write(directory.join("cert.pem"), made.cert.pem())?;
        std::fs::write(directory.join("key.pem"), made.signing_key.serialize_pem())?;
        Ok(Self { directory })
    }

    pub(super) fn set(&self, settings: Builder) -> Builder {
        settings
            .set("TLS_CERT", self.directory.join("cert.pem").display())
            .set("TLS_KEY", self.directory.join("key.pem").display())
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
