//! The machine that the tests share: what earlier runs left on it, and what is free.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Command;

use anyhow::Context as _;

use crate::{docker, done};

/// What everything that these tests make is called; after it comes the number of the process.
pub const NAME: &str = "switchyard-test-";
/// The services' image: this, and the number of the process.
pub const IMAGE: &str = "switchyard-test/switchyard:";

/// Removes what test processes left behind that were killed: their containers would come up again
/// with Docker, and hold ports and networks.
///
/// # Errors
/// When Docker does not answer, or something cannot be removed.
pub fn remove_leftovers() -> anyhow::Result<()> {
    for (list, remove) in [
        (&["ps", "-a", "--format", "{{.Names}}"][..], &["rm", "--force", "--volumes"][..]),
        (&["network", "ls", "--format", "{{.Name}}"], &["network", "rm"]),
        (&["volume", "ls", "--format", "{{.Name}}"], &["volume", "rm"]),
        (&["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"], &["image", "rm", "--force"]),
    ] {
        for name in docker(list)?.lines().filter(|name| maker(name).is_some_and(|pid| !runs(pid))) {
            docker(&[remove, &[name]].concat())?;
        }
    }
    // What a newer one has taken the name of.
    docker(&["image", "prune", "--force", "--filter", "label=switchyard.test"]).map(drop)
}

/// The process whose test made it.
fn maker(name: &str) -> Option<u32> {
    let rest = name.strip_prefix(IMAGE).or_else(|| name.strip_prefix(NAME))?;
    let rest = rest.strip_prefix("machine-").unwrap_or(rest);
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Whether that process still is one of these tests.
fn runs(pid: u32) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line = String::from_utf8_lossy(&line);
    ["/deps/compose-", "/deps/native-"].iter().any(|test| line.contains(test))
}

/// The first three numbers of a network (/24) that neither Docker nor the machine's routes know.
///
/// # Errors
/// When those cannot be listed, or everything is taken.
pub fn free_network() -> anyhow::Result<String> {
    let networks = docker(&["network", "ls", "--quiet"])?;
    let subnets = "{{range .IPAM.Config}}{{.Subnet}} {{end}}";
    let inspect = ["network", "inspect", "--format", subnets];
    let mut taken = docker(&inspect.into_iter().chain(networks.lines()).collect::<Vec<_>>())?;
    taken += &done(Command::new("ip").args(["-4", "route", "show"]))?;
    let taken: Vec<(u32, u32)> = taken.split_whitespace().filter_map(range).collect();
    // Two tests that begin at once begin with another one each.
    let first = std::process::id() % 250;
    let places = [(172, 31), (10, 231), (192, 168)].into_iter();
    let mut all = places.flat_map(|(a, b)| {
        (0..250).map(move |step| (a, b, u8::try_from((first + step) % 250).unwrap_or(0)))
    });
    let free = all.find(|(a, b, c)| {
        let begin = u32::from(Ipv4Addr::new(*a, *b, *c, 0));
        taken.iter().all(|(from, to)| begin + 255 < *from || *to < begin)
    });
    free.map(|(a, b, c)| format!("{a}.{b}.{c}")).context("no network is free")
}

/// First and last address of `a.b.c.d/n`.
fn range(text: &str) -> Option<(u32, u32)> {
    let (address, length) = text.split_once('/')?;
    let (address, length): (Ipv4Addr, u32) = (address.parse().ok()?, length.parse().ok()?);
    let others = u32::MAX.checked_shr(length).unwrap_or(0);
    (length <= 32).then(|| (u32::from(address) & !others, u32::from(address) | others))
}

/// An address of this machine that its containers reach it by; that of Docker's own bridge where it has
/// no other. Nothing is sent.
///
/// # Errors
/// When there is none.
pub fn address() -> anyhow::Result<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    if socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).is_ok() {
        return Ok(socket.local_addr()?.ip());
    }
    let gateway = "{{(index .IPAM.Config 0).Gateway}}";
    let bridge = docker(&["network", "inspect", "bridge", "--format", gateway])?;
    bridge.trim().parse().context("Docker has no bridge")
}

/// What containers say whose name begins with `project`: states, the last words of those that are not
/// well, and how full the disk is.
pub fn last_words(project: &str) -> String {
    let listed = ["ps", "-a", "--filter", &format!("name={project}"), "--format"];
    let states = docker(&[&listed[..], &["{{.Names}}\t{{.Status}}"]].concat());
    let states = states.unwrap_or_else(|why| format!("{why:#}"));
    let disk = done(Command::new("df").args(["-h", "/var/lib", "/tmp"])).unwrap_or_default();
    let mut said = format!("containers:\n{states}{disk}");
    for line in states.lines() {
        let Some((name, status)) = line.split_once('\t') else { continue };
        let well = status.contains("(healthy)") || status.starts_with("Exited (0)");
        let lines = if well { "8" } else { "40" };
        // Both streams: services log to stderr.
        let logs = Command::new("docker").args(["logs", "--tail", lines, name]).output();
        let logs = logs.map(|logs| [logs.stdout, logs.stderr].concat()).unwrap_or_default();
        said += &format!("\n--- {name}: {status}\n{}", String::from_utf8_lossy(&logs));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_test_made_is_known_by_its_name() {
        assert_eq!(maker("switchyard-test-4711_signal_1"), Some(4711));
        assert_eq!(maker("switchyard-test-machine-12"), Some(12));
        assert_eq!(maker("switchyard-test/switchyard:99"), Some(99));
        for other in ["switchyard_signal_1", "switchyard-test/base:latest", "switchyard-test-x"] {
            assert_eq!(maker(other), None, "{other}");
        }
    }

    #[test]
    fn networks_are_ranges() {
        let ip = |text: &str| u32::from(text.parse::<Ipv4Addr>().unwrap());
        assert_eq!(range("172.31.0.0/16"), Some((ip("172.31.0.0"), ip("172.31.255.255"))));
        assert_eq!(range("10.0.0.7/32"), Some((ip("10.0.0.7"), ip("10.0.0.7"))));
        assert_eq!(range("0.0.0.0/0"), Some((0, u32::MAX)));
        assert_eq!(range("default"), None);
    }
}
