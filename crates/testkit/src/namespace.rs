//! A network of a test's own, which leads nowhere: the loopback with addresses that elsewhere are
//! somebody's, and a name server at its port.
//!
//! Linux moves processes into a network of their own only as they start, so the test's program is
//! started once more, for that one test:
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use testkit::namespace;
//! if !namespace::entered() {
//!     return namespace::enter("a_test_about_names", &["93.184.216.34"], &[]).await;
//! }
//! // whoever is started from here on asks 127.0.0.1:53 for names
//! # Ok(()) }
//! ```

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::directory::Directory;
use crate::process::Process;

/// Set inside.
const MARK: &str = "TESTKIT_NAMESPACE";
/// How long the test may take inside.
const WITHIN: Duration = Duration::from_secs(300);
/// A user who is not root becomes one in a namespace of users.
const AS_USER: [&str; 2] = ["--user", "--map-root-user"];
const APART: [&str; 4] = ["--net", "--mount", "--propagation", "private"];

/// What is done before the test's program runs: `$1` the directory, `$2` the addresses.
const ENTER: &str = r#"
set -e
directory=$1 addresses=$2
shift 2
ip link set lo up
for address in $addresses; do ip address add "$address/32" dev lo; done
# Where one of these is missing, what is written here is the default.
for file in resolv.conf nsswitch.conf; do
    [ ! -e /etc/$file ] || mount --bind "$directory/$file" /etc/$file
done
exec "$@"
"#;

/// Whether this process is inside.
pub fn entered() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Whether there can be such a network, or what is missing.
///
/// # Errors
/// Names the Debian package to install, or what this machine does not allow.
pub fn installed() -> anyhow::Result<()> {
    let ip = Command::new("ip").arg("-V").stdout(Stdio::null()).status();
    ip.context("ip is not installed: apt-get install iproute2")?;
    let tried = unshare().args(["ip", "link", "set", "lo", "up"]).stderr(Stdio::null()).status()?;
    ensure!(tried.success(), "this machine lets nobody have a network namespace");
    Ok(())
}

/// Runs this program's test `name` inside, with `addresses` (IPv4) being this machine's besides
/// the usual ones, and these variables in its environment.
///
/// # Errors
/// When it fails there; with what it wrote.
pub async fn enter(
    name: &str,
    addresses: &[&str],
    environment: &[(&str, &str)],
) -> anyhow::Result<()> {
    let directory = Directory::new("net")?;
    let place = directory.path();
    std::fs::write(place.join("resolv.conf"), "nameserver 127.0.0.1\n")?;
    // Nobody else is asked, whatever this machine does otherwise.
    std::fs::write(place.join("nsswitch.conf"), "hosts: files dns\n")?;
    let mut command = unshare();
    command.args(["sh", "-c", ENTER, "sh"]).arg(place).arg(addresses.join(" "));
    command.arg(std::env::current_exe()?).args([name, "--exact", "--nocapture"]);
    command.env(MARK, "1").env("TMPDIR", place).envs(environment.iter().copied());
    let mut inside = Process::start(name, &command, &place.join("log"))?;
    let status = inside.wait(WITHIN).await?;
    let log = inside.log();
    ensure!(status.success(), "{status}:\n{log}");
    ensure!(log.contains("1 passed"), "no test is called {name}:\n{log}");
    eprint!("{log}");
    Ok(())
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(AS_USER);
    }
    command.args(APART);
    command
}
