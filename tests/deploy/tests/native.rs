//! `deploy.sh --native` on a machine of its own: a container of a fresh Debian in which systemd runs.
//!
//! Twice, then as `--dry-run` for Docker, then `--uninstall`. The programs are those built here.
//!
//! Ignored unless asked for, as it needs root, Docker and debootstrap; `scripts/test` asks.

use std::time::Duration;

use anyhow::ensure;
use deploy::{docker, images, until};
use testkit::process::workspace;

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
        let programs = tokio::task::spawn_blocking(images).await??;
        let name = format!("switchyard-test-machine-{}", std::process::id());
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
        until("systemd in a container", Duration::from_secs(60), async || {
            Ok(machine.run(&["systemctl", "is-system-running"])?.trim() == "running")
        })
        .await?;
        Ok(machine)
    }

    fn run(&self, command: &[&str]) -> anyhow::Result<String> {
        docker(&[&["exec", "-e", "PUBLIC_HOST=192.0.2.10", &self.0][..], command].concat())
    }

    fn deploy(&self, more: &[&str]) -> anyhow::Result<String> {
        let always = ["--native", "--yes", "--no-upgrade", "--binaries", "/srv/programs"];
        self.run(&[&[DEPLOY][..], &always, more].concat())
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
    ensure!(machine.sum("/etc/switchyard")? == kept, "settings, secrets or certificate changed");
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
