//! A Postgres of the test's own, to be killed at will.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// `nobody`: Postgres refuses to run as root.
const UNPRIVILEGED: u32 = 65_534;

/// A cluster under a temporary directory; gone when dropped.
pub(crate) struct Cluster {
    directory: PathBuf,
    binaries: PathBuf,
    postmaster: Option<Child>,
}

impl Cluster {
    /// Makes and starts one, reachable through its socket only.
    pub(crate) fn start(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory); // a crashed run may have left it
        fs::create_dir(&directory).expect("the temporary directory can be written");
        if is_root() {
            chown(&directory, Some(UNPRIVILEGED), Some(UNPRIVILEGED)).expect("root may");
        }
        let mut cluster = Self { directory, binaries: newest_binaries(), postmaster: None };
        let made = cluster
            .program("initdb")
            .args(["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "-D", "data"])
            .status();
        assert!(made.expect("Postgres is installed").success(), "initdb failed");
        cluster.restart();
        cluster
    }

    /// Starts it again after [`Cluster::kill`].
    pub(crate) fn restart(&mut self) {
        let sockets = format!("unix_socket_directories={}", self.directory.display());
        let settings = ["listen_addresses=", &sockets, "shared_buffers=16MB"];
        let mut postgres = self.program("postgres");
        postgres.args(["-D", "data"]).args(settings.iter().flat_map(|setting| ["-c", *setting]));
        self.postmaster = Some(postgres.spawn().expect("it is installed"));
        let deadline = Instant::now() + Duration::from_secs(30);
        let ready = || self.program("pg_isready").arg("-q").arg("-h").arg(&self.directory).status();
        while !ready().is_ok_and(|status| status.success()) {
            assert!(Instant::now() < deadline, "Postgres does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL for the server and all its backends, as a power cut would.
    pub(crate) fn kill(&mut self) {
        let Some(mut postmaster) = self.postmaster.take() else { return };
        let pid = postmaster.id().to_string();
        let backends = Command::new("ps").args(["-o", "pid=", "--ppid", &pid]).output();
        let backends = String::from_utf8(backends.expect("ps runs").stdout).expect("numbers");
        postmaster.kill().expect("it is ours");
        // A backend may have ended meanwhile; kill says so and goes on with the others.
        let _ = Command::new("kill")
            .arg("-9")
            .args(backends.split_whitespace())
            .stderr(Stdio::null())
            .status();
        postmaster.wait().expect("it is ours");
    }

    /// URL of the database `postgres`.
    pub(crate) fn url(&self) -> String {
        format!("postgres:///postgres?user=postgres&host={}", self.directory.display())
    }

    /// One of Postgres's programs, in the cluster's directory and under an ordinary user.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.binaries.join(name));
        command.current_dir(&self.directory);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if is_root() {
            command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
        }
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Whether we are root, told by the owner of our own process's directory.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn newest_binaries() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("Debian's Postgres is installed");
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(|path| version(path));
    newest.expect("a server package is installed").join("bin")
}
