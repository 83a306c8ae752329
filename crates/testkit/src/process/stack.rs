//! The whole stack, as `switchyard up` runs it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{binary, workspace};
use crate::directory::Directory;

/// Making a cluster on a busy machine included.
const PATIENCE: Duration = Duration::from_secs(120);

/// A data directory that goes with everything that runs in it, and the launcher to use it with.
#[derive(Debug)]
pub struct Place {
    launcher: PathBuf,
    data: Directory,
    offset: u16,
}

impl Place {
    /// A new one, with the launcher and `services` built. `offset` keeps the ports of several
    /// tests apart, the process id those of two runs.
    ///
    /// # Errors
    /// When something cannot be built.
    pub fn new(services: &[&str], offset: u16) -> anyhow::Result<Self> {
        for service in services {
            binary(service)?;
        }
        let run = u16::try_from(std::process::id() % 40)?;
        let data = Directory::new("stack")?;
        // What `scripts/setup.sh` unpacked without root is looked for in the data directory.
        let tools = workspace().join("data/tools");
        if !rustix::process::geteuid().is_root() && tools.exists() {
            std::os::unix::fs::symlink(tools, data.path().join("tools"))?;
        }
        Ok(Self { launcher: binary("switchyard")?, data, offset: offset + run * 5 })
    }

    /// Where everything is kept.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// What is added to every port.
    pub fn offset(&self) -> u16 {
        self.offset
    }

    /// The launcher with `arguments`, on this directory.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.launcher);
        command.env_remove("DATABASE_URL").arg("--data").arg(self.data()).args(arguments);
        command
    }

    /// Runs the launcher to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        Ok(self.command(arguments).output()?)
    }

    /// What the launcher prints, as JSON.
    ///
    /// # Errors
    /// When that is no JSON.
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = self.run(arguments)?;
        let stderr = || String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{arguments:?} printed no JSON: {}", stderr()))
    }

    /// Starts the stack on loopback, with more `arguments`.
    ///
    /// # Errors
    /// When the launcher cannot be started.
    pub fn up(&self, arguments: &[&str]) -> anyhow::Result<Stack> {
        let mut command = self.command(&["up", "--json", "--listen", "127.0.0.1", "--port-offset"]);
        command.arg(self.offset.to_string()).args(arguments);
        let mut child = command.stdout(Stdio::piped()).process_group(0).spawn()?;
        let stdout = BufReader::new(child.stdout.take().context("it was asked for")?);
        let (send, events) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line);
                let event = event.unwrap_or_else(|_| serde_json::json!({ "no JSON": line }));
                if send.send(event).is_err() {
                    return;
                }
            }
        });
        Ok(Stack { child, events, seen: Vec::new() })
    }
}

/// A running stack; stopped when dropped.
#[derive(Debug)]
pub struct Stack {
    child: Child,
    events: Receiver<Value>,
    seen: Vec<Value>,
}

impl Stack {
    /// The next event of this name that `fits`.
    ///
    /// # Errors
    /// When none comes within two minutes, or the launcher ends.
    pub fn wait(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = match self.events.recv_timeout(left) {
                Ok(event) => event,
                Err(why) => bail!("no {name} ({why}); seen: {:#?}", self.seen),
            };
            self.seen.push(event.clone());
            if event["event"] == name && fits(&event) {
                return Ok(event);
            }
        }
    }

    /// Sends the launcher a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }

    /// Waits for the launcher to end; its exit code.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn ended(&mut self) -> anyhow::Result<Option<i32>> {
        Ok(self.child.wait()?.code())
    }

    /// Asks it to stop and waits until it has.
    ///
    /// # Errors
    /// When it does not say that it stopped, or not all of it did so by itself.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        self.wait("stopped", |_| true)?;
        let code = self.ended()?;
        ensure!(code == Some(0), "stopped with {code:?}: {:#?}", self.seen);
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            // A kill would leave what it started to the kernel.
            let _ = self.signal(Signal::TERM);
            let _ = self.child.wait();
        }
    }
}
