//! One child process, its signals and its log.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How much of a log is shown when something failed.
const SHOWN: usize = 16 * 1024;

/// A running child. Dropping it kills it; when the dropping thread is panicking, the end of
/// its log is printed first.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with both outputs appended to the file `log`.
    pub fn start(name: impl Into<String>, command: &Command, log: &Path) -> anyhow::Result<Self> {
        Self::start_as(name, command, log, None)
    }

    /// As [`Process::start`], under another user and group when given (which only root may do).
    pub fn start_as(
        name: impl Into<String>,
        command: &Command,
        log: &Path,
        user: Option<(u32, u32)>,
    ) -> anyhow::Result<Self> {
        let name = name.into();
        let out = File::options().create(true).append(true).open(log)?;
        let mut tied = tied(command);
        tied.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        if let Some((uid, gid)) = user {
            tied.uid(uid).gid(gid);
        }
        let child = spawn(tied).with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child, ended: None, log: log.to_owned() })
    }

    /// The process id, also of one that has ended.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; an ended process ignores it.
    pub fn signal(&mut self, signal: Signal) {
        if self.status().is_none()
            && let Ok(pid) = i32::try_from(self.pid())
            && let Some(pid) = Pid::from_raw(pid)
        {
            // It may end between the look and the signal; that is no error of the test's.
            let _ = kill_process(pid, signal);
        }
    }

    /// The exit status when it has ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Kills it at once and waits until it is gone.
    pub fn kill(&mut self) {
        if self.status().is_none() {
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
        }
    }

    /// Waits for the end, at most for `limit`.
    pub async fn wait(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.status() {
                return Ok(status);
            }
            if Instant::now() >= end {
                bail!("{} still runs after {limit:?}; its log:\n{}", self.name, self.log());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The end of what it has written so far.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(SHOWN)..]).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- log of {} ({:?})\n{}", self.name, self.ended, self.log());
        }
        self.kill();
    }
}

/// The same command, killed by the kernel when the thread that starts it ends.
fn tied(command: &Command) -> Command {
    static SETPRIV: OnceLock<bool> = OnceLock::new();
    let works = *SETPRIV.get_or_init(|| {
        let mut probe = Command::new("setpriv");
        probe.args(["--pdeathsig", "KILL", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    });
    let mut tied =
        if works { Command::new("setpriv") } else { Command::new(command.get_program()) };
    if works {
        tied.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program());
    }
    tied.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => tied.env(name, value),
            None => tied.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        tied.current_dir(directory);
    }
    tied
}

type Request = (Command, SyncSender<std::io::Result<Child>>);

/// Spawns on a thread that lives as long as this process: the kernel's parent-death signal
/// follows the thread, and a test's own thread may end earlier.
fn spawn(command: Command) -> std::io::Result<Child> {
    static SPAWNER: OnceLock<SyncSender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, received): (_, Receiver<Request>) = sync_channel(16);
        let serve = move || {
            for (mut command, answer) in received {
                let _ = answer.send(command.spawn());
            }
        };
        std::thread::Builder::new().name("spawner".into()).spawn(serve).expect("a thread starts");
        requests
    });
    let (answer, received) = sync_channel(1);
    spawner.send((command, answer)).expect("the spawner never ends");
    received.recv().expect("the spawner always answers")
}
