//! A server that outlived its launcher.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

/// A fast stop writes one checkpoint.
const FAST: Duration = Duration::from_secs(30);

/// Stops the server of `cluster` when one still runs.
///
/// Only called while holding the lock, so it cannot be another launcher's. A launcher that was
/// killed has already told its server to stop; usually this just waits for that. A lock file
/// whose process is gone, or is something else by now, is Postgres's own to clear.
pub(super) async fn clear(cluster: &Path) -> anyhow::Result<()> {
    let Some(pid) = postmaster(cluster) else { return Ok(()) };
    let _ = kill_process(pid, Signal::INT); // fails only when it has just ended
    let deadline = Instant::now() + FAST;
    while postmaster(cluster) == Some(pid) {
        if Instant::now() >= deadline {
            bail!(
                "an earlier Postgres (process {pid}) does not end: kill -QUIT {pid}",
                pid = pid.as_raw_pid()
            );
        }
        sleep(super::POLL).await;
    }
    Ok(())
}

/// Whether the server has noted that it takes connections: line 8 of its lock file.
pub(super) fn says_ready(cluster: &Path) -> bool {
    let text = fs::read_to_string(cluster.join("postmaster.pid")).unwrap_or_default();
    text.lines().nth(7).is_some_and(|status| status.trim() == "ready")
}

/// The process that runs this cluster, when it really does.
fn postmaster(cluster: &Path) -> Option<Pid> {
    let text = fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    // A postmaster works in its data directory; a stranger who got the same id does not.
    let works_in = fs::read_link(format!("/proc/{pid}/cwd")).ok()?;
    (works_in == fs::canonicalize(cluster).ok()?).then(|| Pid::from_raw(pid)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_pid_of_somebody_else_is_left_alone() {
        let cluster = std::env::temp_dir().join(format!("leftover-{}", std::process::id()));
        fs::create_dir_all(&cluster).unwrap();
        fs::write(cluster.join("postmaster.pid"), format!("{}\n", std::process::id())).unwrap();
        clear(&cluster).await.unwrap(); // we are still here
        fs::remove_dir_all(&cluster).unwrap();
    }
}
