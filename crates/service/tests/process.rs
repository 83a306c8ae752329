//! Whole processes: signals, exit codes, the supervisor's protocol.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The example that `cargo test` builds beside the tests.
fn idle() -> Command {
    let tests = std::env::current_exe().expect("we run");
    let target = tests.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps");
    let program: PathBuf = target.join("examples/idle");
    assert!(program.exists(), "cargo build -p service --example idle");
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

struct Running {
    child: Child,
    log: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        Self::start_command(idle().args(arguments))
    }

    fn start_command(command: &mut Command) -> Self {
        let mut child = command.spawn().expect("it was built");
        let log = lines(child.stderr.take().expect("it is piped"));
        Self { child, log, seen: Vec::new() }
    }

    fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.seen.iter().any(|line| line.contains(text)) {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left);
            self.seen.push(line.unwrap_or_else(|_| panic!("never `{text}` in {:#?}", self.seen)));
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a number of a process");
        kill_process(Pid::from_raw(pid).expect("it runs"), signal).expect("it is ours");
    }

    fn code(mut self) -> Option<i32> {
        self.child.wait().expect("it is ours").code()
    }
}

fn lines(stderr: ChildStderr) -> Receiver<String> {
    let (sender, log) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = sender.send(line); // the test may be over
        }
    });
    log
}

#[test]
fn both_signals_stop_cleanly_after_what_is_in_flight() {
    for (signal, mood) in [(Signal::TERM, "polite"), (Signal::INT, "busy")] {
        let mut idle = Running::start(&["--mood", mood, "--drain-lag", "50ms"]);
        idle.wait_for("ready");
        idle.signal(signal);
        idle.wait_for("mood over");
        idle.wait_for("stopped");
        assert_eq!(idle.code(), Some(0));
    }
}

#[test]
fn a_drain_that_overruns_its_grace_says_so() {
    for mood in ["stubborn", "deaf"] {
        let timing = ["--mood", mood, "--drain-lag", "0ms", "--drain-grace", "50ms"];
        let mut idle = Running::start(&timing);
        idle.wait_for("ready");
        idle.signal(Signal::TERM);
        idle.wait_for("the grace is over");
        assert_eq!(idle.code(), Some(3), "{mood}");
    }
}

#[test]
fn a_second_signal_does_not_wait() {
    let mut idle = Running::start(&["--mood", "stubborn", "--drain-lag", "1h"]);
    idle.wait_for("ready");
    idle.signal(Signal::TERM);
    idle.wait_for("leaving");
    idle.signal(Signal::TERM);
    idle.wait_for("a second signal");
    assert_eq!(idle.code(), Some(3));
}

#[test]
fn failures_have_their_own_codes() {
    let mut broken = Running::start(&["--mood", "broken"]);
    broken.wait_for("broken as asked");
    assert_eq!(broken.code(), Some(1));
    let mut careless = Running::start(&["--mood", "careless", "--log-format", "json"]);
    careless.wait_for(r#""reason":"careless as asked""#);
    assert_eq!(careless.code(), Some(1));
    let mut taken = Running::start(&["--admin-listen", "192.0.2.1:1"]);
    taken.wait_for("cannot listen on the admin address");
    assert_eq!(taken.code(), Some(1));
    assert_eq!(Running::start(&["--moood", "polite"]).code(), Some(2));
    assert_eq!(Running::start(&["--log", "a=b=c"]).code(), Some(2));
    let mut misspelt = Running::start_command(idle().env("IDLE_MOD", "polite"));
    misspelt.wait_for("did you mean IDLE_MOOD?");
    assert_eq!(misspelt.code(), Some(2));
    for asked in ["--help", "--version"] {
        assert_eq!(Running::start(&[asked]).code(), Some(0));
    }
}

#[test]
fn the_supervisor_hears_of_ready_and_stopping() {
    let path = std::env::temp_dir().join(format!("service-notify-{}", std::process::id()));
    let _ = std::fs::remove_file(&path); // a crashed run may have left it
    let supervisor = UnixDatagram::bind(&path).expect("the path is ours");
    supervisor.set_read_timeout(Some(Duration::from_secs(20))).expect("not zero");
    let mut command = idle();
    let mut idle =
        Running::start_command(command.env("NOTIFY_SOCKET", &path).env("IDLE_DRAIN_LAG", "0"));
    let hear = || {
        let mut text = [0; 64];
        let length = supervisor.recv(&mut text).expect("it speaks");
        String::from_utf8_lossy(&text[..length]).into_owned()
    };
    assert_eq!(hear(), "READY=1");
    idle.wait_for("ready");
    idle.signal(Signal::TERM);
    assert_eq!(hear(), "STOPPING=1");
    assert_eq!(idle.code(), Some(0));
    std::fs::remove_file(&path).expect("it was just bound");
}
