//! Child processes: started, followed, started again when they die, stopped in order.

mod backoff;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::backoff::Backoff;
use crate::account::Account;
use crate::child;
use crate::output::Output;

/// A process that lived this long was fine; its next death is a new story.
const STEADY: Duration = Duration::from_secs(20);
/// A log line longer than this is cut into pieces of this many bytes.
const LINE_MAX: u64 = 16 << 10;
/// After being killed a process is gone in no time, unless the disk hangs.
const KILLED: Duration = Duration::from_secs(5);

/// A program to keep running.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// Name in logs and tables.
    pub(crate) name: &'static str,
    /// The executable.
    pub(crate) path: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Variables set on top of the launcher's own.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Variables of the launcher's it must not see.
    pub(crate) hidden: Vec<&'static str>,
    /// Its working directory.
    pub(crate) directory: PathBuf,
    /// Asks it to finish what it does and end.
    pub(crate) ask: Signal,
    /// Ends it at once.
    pub(crate) insist: Signal,
    /// What it gets when the launcher dies: INT, TERM or KILL.
    pub(crate) death: &'static str,
    /// How long it may take after `ask`.
    pub(crate) grace: Duration,
    /// Whether it starts as the launcher's own user instead of the account; it has to lower its
    /// rights itself.
    pub(crate) privileged: bool,
}

/// What happened to a program.
#[derive(Debug)]
pub(crate) enum Report {
    /// It runs as this process.
    Started { program: &'static str, pid: u32 },
    /// It ended by itself and will be started again after the pause.
    Died { program: &'static str, how: String, code: Option<i32>, again_in: Duration },
    /// It ended because it was asked to.
    Stopped { program: &'static str, clean: bool },
}

/// When to stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    /// Finish what you do.
    pub(crate) asked: CancellationToken,
    /// End now.
    pub(crate) insisted: CancellationToken,
}

/// Starts programs as an account.
#[derive(Clone)]
pub(crate) struct Starter {
    /// This program, as its children's first step; see [`child`].
    pub(crate) launcher: PathBuf,
    /// Who they run as.
    pub(crate) account: Account,
    /// Where their lines go.
    pub(crate) output: Output,
}

impl Starter {
    fn start(&self, program: &Program) -> std::io::Result<Child> {
        let account = (!program.privileged).then_some(&self.account);
        let mut command = child::command(&self.launcher, account, program.death, &program.path);
        command.args(&program.arguments).current_dir(&program.directory);
        for name in &program.hidden {
            command.env_remove(name);
        }
        command.envs(program.environment.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Command::from(command).spawn()
    }

    /// Keeps a program running until asked to stop. `true` when it then ended cleanly by itself.
    pub(crate) async fn keep(self, program: Program, stop: Stop, report: impl Fn(Report)) -> bool {
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let (how, code) = match self.start(&program) {
                Err(why) => (format!("cannot be started: {why}"), None),
                Ok(mut child) => {
                    let mut lines = self.follow(program.name, &mut child);
                    let pid = child.id().unwrap_or(0);
                    report(Report::Started { program: program.name, pid });
                    let status = tokio::select! {
                        status = child.wait() => status,
                        () = stop.asked.cancelled() => {
                            let clean = end(&mut child, &program, &stop).await;
                            drain_lines(&mut lines).await;
                            report(Report::Stopped { program: program.name, clean });
                            return clean;
                        }
                    };
                    drain_lines(&mut lines).await;
                    match status {
                        Ok(status) => (describe(status), status.code()),
                        Err(why) => (format!("was lost: {why}"), None),
                    }
                }
            };
            if began.elapsed() >= STEADY {
                backoff = Backoff::default();
            }
            let again_in = backoff.next(rand::random());
            report(Report::Died { program: program.name, how, code, again_in });
            tokio::select! {
                () = sleep(again_in) => {}
                () = stop.asked.cancelled() => return true,
            }
        }
    }

    /// Passes on what the child writes. The tasks end when it closes its outputs.
    fn follow(&self, name: &'static str, child: &mut Child) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            tasks.spawn(pass_on(name, stdout, self.output.clone()));
        }
        if let Some(stderr) = child.stderr.take() {
            tasks.spawn(pass_on(name, stderr, self.output.clone()));
        }
        tasks
    }
}

async fn pass_on(name: &'static str, from: impl AsyncRead + Unpin, output: Output) {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(LINE_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => output.log(name, String::from_utf8_lossy(line.trim_ascii_end()).into_owned()),
        }
    }
}

/// Last words; a grandchild that keeps the outputs open is not waited for.
async fn drain_lines(lines: &mut JoinSet<()>) {
    let all = async { while lines.join_next().await.is_some() {} };
    let _ = timeout(Duration::from_millis(300), all).await;
}

/// Asks, waits for the grace, insists. `true` when it ended by itself with success.
async fn end(child: &mut Child, program: &Program, stop: &Stop) -> bool {
    send(child, program.ask);
    tokio::select! {
        status = child.wait() => return status.is_ok_and(|status| is_clean(status, program.ask)),
        () = sleep(program.grace) => {}
        () = stop.insisted.cancelled() => {}
    }
    send(child, program.insist);
    if timeout(KILLED, child.wait()).await.is_err() {
        let _ = child.kill().await; // fails only when it is gone
    }
    false
}

/// coturn handles no signal: it ends by the one it was asked with.
fn is_clean(status: ExitStatus, asked: Signal) -> bool {
    use std::os::unix::process::ExitStatusExt;
    status.success() || status.signal() == Some(asked.as_raw())
}

fn send(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, signal); // fails only when it is gone
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
