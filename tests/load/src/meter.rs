//! CPU time and memory of other processes, from `/proc`.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::target::Target;

/// Measures wall time and the CPU time that the target's processes use meanwhile.
pub(crate) struct Meter {
    target: Target,
    started: Instant,
    server: Option<Duration>,
    postgres: Option<Duration>,
}

/// What passed between [`Meter::start`] and [`Meter::stop`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) elapsed: Duration,
    pub(crate) server: Option<Duration>,
    pub(crate) postgres: Option<Duration>,
}

impl Meter {
    pub(crate) fn start(target: &Target) -> Self {
        let server = target.server_pid.and_then(process_cpu);
        let postgres = target.postgres_pid.and_then(family_cpu);
        Self { target: target.clone(), started: Instant::now(), server, postgres }
    }

    pub(crate) fn stop(&self) -> Usage {
        let elapsed = self.started.elapsed();
        let since =
            |before: Option<Duration>, now: Option<Duration>| Some(now?.saturating_sub(before?));
        Usage {
            elapsed,
            server: since(self.server, self.target.server_pid.and_then(process_cpu)),
            postgres: since(self.postgres, self.target.postgres_pid.and_then(family_cpu)),
        }
    }
}

/// CPU time of a process, its ended threads included.
fn process_cpu(pid: u32) -> Option<Duration> {
    let [user, system, _, _] = stat(pid)?;
    Some(ticks(user + system))
}

/// CPU time of a process, its present children and its ended ones.
fn family_cpu(pid: u32) -> Option<Duration> {
    let own: u64 = stat(pid)?.iter().sum();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    let theirs: u64 = children.filter_map(stat).map(|[user, system, ..]| user + system).sum();
    Some(ticks(own + theirs))
}

/// utime, stime, cutime and cstime in clock ticks.
fn stat(pid: u32) -> Option<[u64; 4]> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold anything; what follows its closing bracket does not.
    let mut fields = line.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse().ok();
    Some([next()?, next()?, next()?, next()?])
}

fn ticks(ticks: u64) -> Duration {
    // Linux shows them as hundredths of a second on every machine (USER_HZ).
    Duration::from_millis(ticks * 10)
}

/// Resident memory of a process in bytes.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Resident memory once it has stopped changing.
pub(crate) async fn settled(pid: u32) -> anyhow::Result<u64> {
    let mut last = resident(pid).context("the server is gone")?;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        let now = resident(pid).context("the server is gone")?;
        if now.abs_diff(last) < 64 * 1024 {
            return Ok(now);
        }
        last = now;
    }
    Ok(last)
}

/// The most memory a process had resident since [`reset_peak`], in bytes.
pub(crate) fn peak_resident(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Lets the kernel forget a process's peak.
pub(crate) fn reset_peak(pid: u32) {
    // Without the right to do so the peak is merely too high.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_uses_time() {
        let own = std::process::id();
        assert!(resident(own).unwrap() > 100_000);
        assert!(peak_resident(own).unwrap() >= resident(own).unwrap() / 2);
        assert!(process_cpu(own).is_some() && family_cpu(own).is_some());
    }
}
