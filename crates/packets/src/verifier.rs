//! The operator's own program, asked about a certificate.

use std::{
    ffi::OsStr,
    io,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    sync::Semaphore,
    time::timeout,
};

use crate::metrics::Metrics;

/// Bytes of each of a run's two outputs that are logged; the rest is read and dropped.
const LOGGED_BYTES: usize = 4 * 1024;
/// Time for the last output of a program that has ended; its children may hold the pipes open.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Runs the program: `execve(path, [path, content], environment)` in the server's directory, no
/// standard input, no descriptor of ours.
pub(crate) struct Verifier {
    path: PathBuf,
    limit: Duration,
    turns: Semaphore,
    metrics: Arc<Metrics>,
}

impl Verifier {
    pub(crate) fn new(
        path: PathBuf,
        limit: Duration,
        at_once: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { path, limit, turns: Semaphore::new(at_once.max(1)), metrics }
    }

    /// Whether the program ended with 0 in time.
    pub(crate) async fn accepts(&self, content: &[u8]) -> bool {
        let Ok(Ok(_turn)) = timeout(self.limit, self.turns.acquire()).await else {
            self.metrics.verifier_timeouts.inc();
            tracing::warn!("verifier: no turn in time, certificate refused");
            return false;
        };
        let mut child = match self.start(content) {
            Ok(child) => child,
            Err(error) => {
                self.metrics.verifier_failed.inc();
                tracing::error!(%error, program = %self.path.display(), "verifier: cannot run");
                return false;
            }
        };
        let mut group = Group::of(&child);
        let ended = timeout(self.limit, run(&mut child)).await;
        if matches!(ended, Ok(Ok(_))) {
            group.0 = None;
        }
        match ended {
            Ok(Ok(status)) if status.success() => {
                self.metrics.verifier_accepted.inc();
                true
            }
            Ok(Ok(status)) => {
                self.metrics.verifier_refused.inc();
                tracing::info!(%status, "verifier: refused");
                false
            }
            Ok(Err(error)) => {
                self.metrics.verifier_failed.inc();
                tracing::error!(%error, "verifier: lost");
                false
            }
            Err(_) => {
                self.metrics.verifier_timeouts.inc();
                tracing::warn!("verifier: took too long, killed");
                false
            }
        }
    }

    fn start(&self, content: &[u8]) -> io::Result<Child> {
        let content = content.split(|byte| *byte == 0).next().unwrap_or_default();
        Command::new(&self.path)
            .arg(OsStr::from_bytes(content))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

/// Waits for the end of the program and logs what it says.
async fn run(child: &mut Child) -> io::Result<ExitStatus> {
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let mut listening = std::pin::pin!(async {
        tokio::join!(listen(out), listen(err));
    });
    tokio::select! {
        status = child.wait() => {
            let _ = timeout(LAST_WORDS, listening).await;
            status
        }
        () = &mut listening => child.wait().await,
    }
}

async fn listen(output: Option<impl AsyncRead + Unpin>) {
    let Some(mut output) = output else { return };
    let (mut line, mut logged, mut read) = (Vec::new(), 0, [0; 1024]);
    while let Ok(count @ 1..) = output.read(&mut read).await {
        let kept = count.min(LOGGED_BYTES - logged);
        logged += kept;
        for byte in &read[..kept] {
            match byte {
                b'\n' => log(&mut line),
                byte => line.push(*byte),
            }
        }
        if kept < count && !line.is_empty() {
            log(&mut line);
        }
    }
    if !line.is_empty() {
        log(&mut line);
    }
}

/// Control characters are escaped, so that a certificate cannot write to a terminal.
fn log(line: &mut Vec<u8>) {
    tracing::info!("verifier: {}", line.escape_ascii());
    line.clear();
}

/// The program and what it started; killed when dropped, because nobody waits for them any more.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id.cast_signed())))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL); // it may have ended just now
        }
    }
}
