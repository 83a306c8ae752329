//! A deployed stack, and what can be done to it from outside.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use deploy::{docker, done, images, until};
use testkit::http_client::HttpClient;
use testkit::process::{Port, workspace};

/// Containers on a busy machine take their time.
const HEALTHY_WITHIN: Duration = Duration::from_secs(180);

/// Names of the ports a stack opens on the host.
const PORTS: [&str; 10] = [
    "HTTPS_PORT",
    "RELAY_PORT",
    "PAD_PORT",
    "HUB_PORT",
    "PEERBOOK_PORT",
    "MESH_PORT",
    "TURN_PORT",
    "TURNS_PORT",
    "METRICS_PORT",
    "DNS_PORT",
];

/// Containers, networks and volumes of one Compose project; gone with this.
pub(crate) struct Stack {
    project: String,
    etc: PathBuf,
    ports: BTreeMap<&'static str, Port>,
}

impl Stack {
    /// Makes the images and deploys them under a name and on ports of their own.
    pub(crate) async fn deploy() -> anyhow::Result<Self> {
        tokio::task::spawn_blocking(images).await??;
        let project = format!("switchyard-test-{}", std::process::id());
        let etc = std::env::temp_dir().join(&project);
        let ports = PORTS.iter().map(|name| anyhow::Ok((*name, Port::reserve()?)));
        let ports = ports.collect::<anyhow::Result<_>>()?;
        let stack = Self { project, etc, ports };
        stack.run_deploy(&["--yes", "--no-upgrade"])?;
        Ok(stack)
    }

    /// Runs `deploy.sh` to its end; what it printed.
    pub(crate) fn run_deploy(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(workspace().join("deploy/deploy.sh"));
        command.args(arguments).env("SWITCHYARD_ETC", &self.etc);
        command.env("SWITCHYARD_PROJECT", &self.project).env("PUBLIC_HOST", "127.0.0.1");
        for (name, port) in &self.ports {
            command.env(name, port.number().to_string());
        }
        for image in ["SWITCHYARD_IMAGE", "POSTGRES_IMAGE", "HAPROXY_IMAGE", "COTURN_IMAGE"] {
            let name = match image {
                "SWITCHYARD_IMAGE" => "switchyard",
                "POSTGRES_IMAGE" => "postgres",
                _ => "front",
            };
            command.env(image, format!("switchyard-test/{name}"));
        }
        // Two test runs on one machine keep apart; a container may hold no more files than we may.
        command.env("BACK_NET", format!("172.31.{}", std::process::id() % 250));
        let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        command.env("NOFILE", files.unwrap_or(262_144).min(262_144).to_string());
        // Everybody comes from one address here.
        command.env("CONNECTIONS_PER_10S", "100000");
        done(&mut command)
    }

    /// Compose on this stack.
    pub(crate) fn compose(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = match docker(&["compose", "version"]) {
            Ok(_) => {
                let mut command = Command::new("docker");
                command.arg("compose");
                command
            }
            Err(_) => Command::new("docker-compose"),
        };
        command.args(["--project-name", &self.project, "--profile", "mesh", "--env-file"]);
        command.arg(self.etc.join("deploy.env"));
        command.arg("-f").arg(workspace().join("deploy/compose/docker-compose.yml"));
        done(command.args(arguments))
    }

    /// Runs so many replicas of each service, and waits until HAProxy has found them.
    pub(crate) async fn scale(&self, replicas: &[&str]) -> anyhow::Result<()> {
        let mut arguments = vec!["up", "-d", "--no-recreate"];
        for service in replicas {
            arguments.extend(["--scale", service]);
        }
        self.compose(&arguments)?;
        for service in replicas {
            let (name, count) = service.split_once('=').context("NAME=COUNT")?;
            self.replicas_up(name, count.parse()?).await?;
        }
        Ok(())
    }

    /// Waits until HAProxy sends clients to exactly so many replicas.
    pub(crate) async fn replicas_up(&self, backend: &str, count: usize) -> anyhow::Result<()> {
        let line = format!("haproxy_backend_active_servers{{proxy=\"{backend}\"}} {count}");
        let metrics = HttpClient::plain(self.at("METRICS_PORT")).new_connections();
        until(&line, HEALTHY_WITHIN, async || {
            Ok(metrics.get("/metrics").await?.text().lines().any(|found| found == line))
        })
        .await
    }

    /// Waits until every container is healthy and HAProxy has found every service.
    pub(crate) async fn healthy(&self) -> anyhow::Result<()> {
        until("healthy containers", HEALTHY_WITHIN, async || {
            let project = format!("label=com.docker.compose.project={}", self.project);
            let states = docker(&["ps", "-a", "--filter", &project, "--format", "{{.Status}}"])?;
            Ok(!states.contains("starting") && !states.contains("unhealthy"))
        })
        .await?;
        for backend in ["signal", "relay", "pads", "hubs", "peerbook", "mesh"] {
            let replicas = if matches!(backend, "signal" | "relay") { 2 } else { 1 };
            self.replicas_up(backend, replicas).await?;
        }
        Ok(())
    }

    /// The running containers of a service.
    pub(crate) fn containers(&self, service: &str) -> anyhow::Result<Vec<String>> {
        let ids = self.compose(&["ps", "-q", service])?;
        Ok(ids.lines().map(str::to_owned).collect())
    }

    /// HAProxy's processes besides its master.
    pub(crate) fn workers(&self) -> anyhow::Result<usize> {
        let haproxy = self.containers("haproxy")?;
        let listed = docker(&["top", haproxy.first().context("it runs")?, "-o", "pid,ppid"])?;
        Ok(listed.lines().count().saturating_sub(2))
    }

    /// Reloads HAProxy's configuration and certificate.
    pub(crate) fn reload(&self) -> anyhow::Result<()> {
        self.compose(&["kill", "-s", "USR2", "haproxy"]).map(drop)
    }

    /// The name and password for TURN that the link for apps holds.
    pub(crate) fn link_credentials(&self) -> anyhow::Result<(String, String)> {
        let secret = ["--turn-secret-file", "/run/secrets/turn", "127.0.0.1", "--json"];
        let run = ["run", "--rm", "--no-deps", "-T", "tools", "link"];
        let said: serde_json::Value =
            serde_json::from_str(self.compose(&[&run[..], &secret].concat())?.trim())?;
        let link = said["link"].as_str().context("a link")?;
        let payload = link.split_once("payload=").context("a payload")?.1;
        let config = URL_SAFE_NO_PAD.decode(payload)?;
        let turn = &serde_json::from_slice::<serde_json::Value>(&config)?["turn"][0];
        let text = |name: &str| turn[name].as_str().map(str::to_owned).context("no text");
        Ok((text("username")?, text("password")?))
    }

    /// coturn's own client asks for an allocation and for a way to `peer`.
    pub(crate) fn relayed(&self, name: &str, password: &str, peer: &str) -> anyhow::Result<String> {
        let coturn = self.containers("coturn")?;
        let port = self.ports["TURN_PORT"].number().to_string();
        let client = ["timeout", "20", "turnutils_uclient", "-v", "-t", "-n", "1"];
        let output = Command::new("docker")
            .args(["exec", coturn.first().context("it runs")?])
            .args(client)
            .args(["-u", name, "-w", password, "-p", &port, "-e", peer, "127.0.0.1"])
            .output()?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// What has to stay when it is deployed again.
    pub(crate) fn kept(&self) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
        let mut kept = BTreeMap::new();
        for directory in ["secrets", "tls"] {
            for entry in std::fs::read_dir(self.etc.join(directory))? {
                let path = entry?.path();
                let content = std::fs::read(&path)?;
                kept.insert(path, content);
            }
        }
        ensure!(kept.len() > 10, "that is not everything: {:?}", kept.keys());
        Ok(kept)
    }

    /// Removes it, and finds nothing left.
    pub(crate) fn uninstall(self) -> anyhow::Result<()> {
        self.run_deploy(&["--uninstall", "--purge", "--yes"])?;
        let project = format!("label=com.docker.compose.project={}", self.project);
        for (kind, all) in [("container", "-aq"), ("volume", "-q"), ("network", "-q")] {
            let left = docker(&[kind, "ls", all, "--filter", &project])?;
            ensure!(left.is_empty(), "left behind: {kind} {left}");
        }
        ensure!(!Path::new(&self.etc).exists(), "{} is left behind", self.etc.display());
        Ok(())
    }

    pub(crate) fn signal(&self) -> SocketAddr {
        self.at("HTTPS_PORT")
    }

    pub(crate) fn relay(&self) -> SocketAddr {
        self.at("RELAY_PORT")
    }

    pub(crate) fn pads(&self) -> SocketAddr {
        self.at("PAD_PORT")
    }

    pub(crate) fn hubs(&self) -> SocketAddr {
        self.at("HUB_PORT")
    }

    pub(crate) fn peerbook(&self) -> SocketAddr {
        self.at("PEERBOOK_PORT")
    }

    pub(crate) fn mesh(&self) -> SocketAddr {
        self.at("MESH_PORT")
    }

    fn at(&self, port: &str) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports[port].number()).into()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.etc.exists() {
            if std::thread::panicking() {
                // What it said is gone with it.
                let _ = self.compose(&["logs", "--tail", "30"]).map(|said| eprintln!("{said}"));
            }
            let _ = self.run_deploy(&["--uninstall", "--purge", "--yes"]);
        }
    }
}
