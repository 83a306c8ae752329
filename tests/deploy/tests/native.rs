//! `deploy.sh --native` on a machine of its own: a container of a fresh Debian in which systemd runs.
//!
//! As `--dry-run` for Docker, twice for real, with a static pair for TURN, then `--uninstall`. The programs
//! are those built here.
//!
//! Ignored unless asked for, as it needs root, Docker and debootstrap; `scripts/test` asks.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use deploy::{docker, done, host, images, until};
use serde_json::json;
use testkit::keys::Peer;
use testkit::process::workspace;
use testkit::signal_client::SignalClient;

/// Documentation's (RFC 5737): nobody else has it.
const ADDRESS: &str = "192.0.2.10";
const DEPLOY: &str = "/srv/switchyard/deploy/deploy.sh";
const UNITS: [&str; 8] = [
    "switchyard-haproxy",
    "switchyard-coturn",
    "switchyard@signal",
    "switchyard@relay",
    "switchyard@peer-linker",
    "switchyard@channel-hub",
    "switchyard@peerbook",
    "switchyard@mesh",
];

/// The container; gone with this.
struct Machine(String);

impl Machine {
    async fn start() -> anyhow::Result<Self> {
        let make = || host::remove_leftovers().and_then(|()| images(None));
        let programs = tokio::task::spawn_blocking(make).await??;
        let name = format!("{}machine-{}", host::NAME, std::process::id());
        let source = format!("{}:/srv/switchyard:ro", workspace().display());
        let programs = format!("{}:/srv/programs:ro", programs.display());
        let machine = Self(name);
        // What systemd needs to be the first process: its own part of the control groups, mounts.
        let control = "/sys/fs/cgroup:/sys/fs/cgroup:rw";
        let unconfined =
            ["--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined"];
        let temporary = ["--tmpfs=/run", "--tmpfs=/run/lock", "--tmpfs=/tmp:exec,mode=1777"];
        let shape = ["--cap-add=SYS_ADMIN", "--cgroupns=host", "--env=container=docker"];
        let volumes = ["-v", control, "-v", &source, "-v", &programs];
        let run = [
            &["run", "-d", "--name", &machine.0][..],
            &unconfined,
            &temporary,
            &shape,
            &volumes,
            &["switchyard-test/systemd"],
        ];
        docker(&run.concat())?;
        // The address it is reached by, as a hired server has one.
        let process = docker(&["inspect", "--format", "{{.State.Pid}}", &machine.0])?;
        let mut enter = Command::new("nsenter");
        enter.args(["--net", "--target", process.trim(), "ip", "address", "add"]);
        done(enter.args([&format!("{ADDRESS}/32"), "dev", "lo"]))?;
        until("systemd in a container", Duration::from_secs(60), async || {
            Ok(machine.run(&["systemctl", "is-system-running"])?.trim() == "running")
        })
        .await?;
        Ok(machine)
    }

    fn run(&self, command: &[&str]) -> anyhow::Result<String> {
        self.run_with(&[], command)
    }

    fn run_with(&self, variables: &[&str], command: &[&str]) -> anyhow::Result<String> {
        let host = format!("PUBLIC_HOST={ADDRESS}");
        let mut all = vec!["exec", "-e", &host];
        all.extend(variables.iter().flat_map(|variable| ["-e", variable]));
        docker(&[&all[..], &[&self.0], command].concat())
    }

    /// What it said, in which the doctor found nothing broken.
    fn deploy(&self, variables: &[&str]) -> anyhow::Result<String> {
        let always = ["--native", "--yes", "--no-upgrade", "--binaries", "/srv/programs"];
        let said = self.run_with(variables, &[&[DEPLOY][..], &always].concat())?;
        ensure!(!said.contains("BROKEN") && said.contains("turn over tls: relays"), "{said}");
        Ok(said)
    }

    /// The name and password for TURN that signal hands out.
    async fn handed_out(&self) -> anyhow::Result<(String, String)> {
        let address = "{{.NetworkSettings.IPAddress}}";
        let address: IpAddr = docker(&["inspect", "-f", address, &self.0])?.trim().parse()?;
        let mut client = SignalClient::tls((address, 443).into()).await?;
        let ack = client.register_with(&Peer::random(), &json!({ "iceServers": true })).await?;
        let server = &ack["payload"]["iceServers"][0];
        let text = |name: &str| server[name].as_str().map(str::to_owned).context("no text");
        Ok((text("username")?, text("credential")?))
    }

    /// What coturn's own client says there with this name and password.
    fn allocated(&self, (name, password): &(String, String)) -> anyhow::Result<String> {
        let client = "timeout 20 turnutils_uclient -v -t -n 1 -e 127.0.0.1";
        let client = format!("{client} -u '{name}' -w '{password}' {ADDRESS} 2>&1; true");
        self.run(&["sh", "-c", &client])
    }

    fn sum(&self, what: &str) -> anyhow::Result<String> {
        let find = format!("find {what} -type f -exec sha256sum {{}} + | sort");
        self.run(&["sh", "-c", &find])
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Nobody is left to tell when this fails.
        let _ = docker(&["rm", "--force", "--volumes", &self.0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, docker and debootstrap"]
async fn units_serve_on_a_fresh_machine_and_go_without_a_trace() -> anyhow::Result<()> {
    let machine = Machine::start().await?;

    // For Docker it says what it would do, and does none of it.
    let before = machine.sum("/etc /usr/local /var/lib/dpkg/status")?;
    let would = machine.run(&[DEPLOY, "--dry-run"])?;
    ensure!(would.contains("would run:") && would.contains("docker.io"), "{would}");
    ensure!(would.contains("nothing was changed"), "{would}");
    ensure!(machine.sum("/etc /usr/local /var/lib/dpkg/status")? == before, "it changed something");

    let said = machine.deploy(&[])?;
    ensure!(said.contains("peerlink://config?payload="), "{said}");
    serves(&machine)?;
    let kept = machine.sum("/etc/switchyard")?;
    machine.deploy(&[])?;
    let now = machine.sum("/etc/switchyard")?;
    let other = |a: &str, b: &str| {
        a.lines().filter(|line| !b.contains(line)).collect::<Vec<_>>().join("\n")
    };
    ensure!(
        now == kept,
        "settings, secrets or certificate changed, from\n{}\nto\n{}",
        other(&kept, &now),
        other(&now, &kept)
    );
    serves(&machine)?;

    let files = UNITS.map(|unit| format!("{unit}.service"));
    let files = files.iter().map(String::as_str);
    let verify = ["systemd-analyze", "verify", "switchyard.target"].into_iter().chain(files);
    machine.run(&verify.collect::<Vec<_>>())?;
    // A reload of HAProxy is taken, and the master stays.
    let main = ["systemctl", "show", "-P", "MainPID", "switchyard-haproxy"];
    let master = machine.run(&main)?;
    machine.run(&["systemctl", "reload", "switchyard-haproxy"])?;
    ensure!(machine.run(&main)? == master, "another master");

    // The operator's own pair for TURN: signal hands it out, and coturn takes it alone.
    let minted = machine.handed_out().await?;
    let said = machine.allocated(&minted)?;
    ensure!(said.contains("Received relay addr"), "{said}");
    machine.deploy(&["TURN_USER=operator", "TURN_PASSWORD=open-sesame"])?;
    let pair = machine.handed_out().await?;
    ensure!(pair == ("operator".to_owned(), "open-sesame".to_owned()), "{pair:?}");
    let said = machine.allocated(&pair)?;
    ensure!(said.contains("Received relay addr"), "{said}");
    ensure!(
        !machine.allocated(&minted)?.contains("Received relay addr"),
        "what coturn took before"
    );

    machine.run(&[DEPLOY, "--native", "--uninstall", "--yes"])?;
    ensure!(machine.sum("/etc/switchyard/secrets")?.contains("turn"), "secrets are gone");
    machine.run(&[DEPLOY, "--native", "--uninstall", "--purge", "--yes"])?;
    let left = "ls -d /etc/switchyard /var/lib/switchyard /usr/local/lib/switchyard \
                /etc/systemd/system/switchyard* 2>/dev/null; pg_lsclusters -h; true";
    let left = machine.run(&["sh", "-c", left])?;
    ensure!(left.trim().is_empty(), "left behind: {left}");
    Ok(())
}

fn serves(machine: &Machine) -> anyhow::Result<()> {
    for unit in UNITS {
        machine.run(&["systemctl", "is-active", "--quiet", unit])?;
    }
    for (port, path) in [(444, "/health"), (445, "/"), (446, "/"), (447, "/"), (448, "/ip")] {
        let url = format!("https://127.0.0.1:{port}{path}");
        machine.run(&["curl", "-fsSk", "-o", "/dev/null", &url])?;
    }
    let certificate = "openssl s_client -connect 127.0.0.1:443 </dev/null 2>/dev/null |
                       openssl x509 -noout -text";
    let certificate = machine.run(&["bash", "-c", certificate])?;
    for part in ["IP Address:192.0.2.10", "prime256v1", "CA:FALSE"] {
        ensure!(certificate.contains(part), "no {part} in {certificate}");
    }
    Ok(())
}
