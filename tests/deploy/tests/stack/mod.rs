//! A deployed stack, and what can be done to it from outside.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use deploy::{docker, done, host, images, until};
use testkit::http_client::HttpClient;
use testkit::process::{Port, workspace};

/// Containers on a busy machine take their time.
const HEALTHY_WITHIN: Duration = Duration::from_secs(300);

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
    /// Where clients reach it: this machine, as its containers see it, too.
    host: IpAddr,
    /// First three numbers of the network of its services.
    network: String,
    ports: BTreeMap<&'static str, Port>,
}

impl Stack {
    /// Makes the images and deploys them under a name and on ports of their own.
    pub(crate) async fn deploy() -> anyhow::Result<Self> {
        let project = format!("{}{}", host::NAME, std::process::id());
        let make =
            || host::remove_leftovers().and_then(|()| images(Some(&services_image())).map(drop));
        tokio::task::spawn_blocking(make).await??;
        let etc = std::env::temp_dir().join(&project);
        let ports = PORTS.iter().map(|name| anyhow::Ok((*name, Port::reserve()?)));
        let ports = ports.collect::<anyhow::Result<_>>()?;
        let (host, network) = (host::address()?, host::free_network()?);
        let stack = Self { project, etc, host, network, ports };
        let deployed = stack.run_deploy(&[]);
        let said = deployed.map_err(|why| why.context(stack.last_words()))?;
        ensure!(!said.contains("BROKEN"), "the doctor found something: {said}");
        Ok(stack)
    }

    /// What its containers say, for who has to find out why it failed.
    pub(crate) fn last_words(&self) -> String {
        host::last_words(&self.project)
    }

    /// Runs `deploy.sh` to its end with these variables besides; what it printed.
    pub(crate) fn run_deploy(&self, variables: &[(&str, &str)]) -> anyhow::Result<String> {
        self.deploy_sh(&["--yes", "--no-upgrade"], variables)
    }

    fn deploy_sh(&self, options: &[&str], variables: &[(&str, &str)]) -> anyhow::Result<String> {
        let mut command = Command::new(workspace().join("deploy/deploy.sh"));
        command.args(options).env("SWITCHYARD_ETC", &self.etc);
        command.env("SWITCHYARD_PROJECT", &self.project).env("PUBLIC_HOST", self.host.to_string());
        // Two browsers that are both relayed meet there.
        command.env("TURN_ALLOWED_PEERS", self.host.to_string());
        command.envs(variables.iter().copied());
        for (name, port) in &self.ports {
            command.env(name, port.number().to_string());
        }
        command.env("SWITCHYARD_IMAGE", services_image());
        command.env("POSTGRES_IMAGE", "switchyard-test/postgres");
        for image in ["HAPROXY_IMAGE", "COTURN_IMAGE"] {
            command.env(image, "switchyard-test/front");
        }
        command.env("BACK_NET", &self.network);
        // A container may hold no more files than we may.
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
        command.env("COMPOSE_HTTP_TIMEOUT", "600");
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

    /// The name and password for TURN that the link holds which `deploy.sh` printed for apps.
    pub(crate) fn link_credentials(said: &str) -> anyhow::Result<(String, String)> {
        let payload = said.split_once("peerlink://config?payload=").context("a link")?.1;
        let config = URL_SAFE_NO_PAD.decode(payload.split_whitespace().next().unwrap_or(""))?;
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
        self.deploy_sh(&["--uninstall", "--purge", "--yes"], &[])?;
        let project = format!("label=com.docker.compose.project={}", self.project);
        for (kind, all) in [("container", "-aq"), ("volume", "-q"), ("network", "-q")] {
            let left = docker(&[kind, "ls", all, "--filter", &project])?;
            ensure!(left.is_empty(), "left behind: {kind} {left}");
        }
        ensure!(!Path::new(&self.etc).exists(), "{} is left behind", self.etc.display());
        Ok(())
    }

    /// Addresses of others that nobody may be relayed to: every kind that is no client's.
    pub(crate) fn forbidden(&self) -> Vec<String> {
        let gateway = format!("{}.1", self.network);
        let all = ["127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254", &gateway];
        let ours = self.host.to_string();
        all.into_iter().filter(|address| *address != ours).map(str::to_owned).collect()
    }

    /// Signal as browsers are told of it.
    pub(crate) fn signal_url(&self) -> String {
        format!("wss://{}", SocketAddr::from((self.host, self.ports["HTTPS_PORT"].number())))
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
            let _ = self.deploy_sh(&["--uninstall", "--purge", "--yes"], &[]);
        }
        let _ = docker(&["image", "rm", "--force", &services_image()]);
    }
}

fn services_image() -> String {
    format!("{}{}", host::IMAGE, std::process::id())
}
