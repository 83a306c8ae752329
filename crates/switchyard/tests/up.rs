//! `switchyard up` for real: a private Postgres, the services, a crash, a stop, a second start.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const SWITCHYARD: &str = env!("CARGO_BIN_EXE_switchyard");
/// Making a cluster on a busy machine included.
const PATIENCE: Duration = Duration::from_secs(120);

/// A data directory that goes with everything that runs in it.
struct Place {
    data: PathBuf,
    offset: u16,
}

impl Place {
    /// `offset` keeps the tests' ports apart, the process id those of two runs.
    fn new(name: &str, offset: u16) -> Self {
        testkit::process::binary("signal").expect("signal is built");
        testkit::process::binary("relay").expect("relay is built");
        testkit::process::binary("peer-linker").expect("peer-linker is built");
        testkit::process::binary("channel-hub").expect("channel-hub is built");
        testkit::process::binary("peerbook").expect("peerbook is built");
        testkit::process::binary("mesh").expect("mesh is built");
        let data = std::env::temp_dir().join(format!("up-{name}-{}", std::process::id()));
        Self {
            data,
            offset: offset + u16::try_from(std::process::id() % 40).expect("a small number") * 5,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(SWITCHYARD);
        command.env_remove("DATABASE_URL").arg("--data").arg(&self.data).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the program starts")
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|why| {
            panic!("{arguments:?} printed no JSON ({why}): {}", text(&output.stderr))
        })
    }

    fn up(&self) -> Up {
        let mut command = self.command(&["up", "--json", "--listen", "127.0.0.1", "--port-offset"]);
        command.arg(self.offset.to_string()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn().expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("it was asked for"));
        let (send, events) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).expect("every line is JSON");
                if send.send(event).is_err() {
                    return;
                }
            }
        });
        Up { child, events, seen: Vec::new() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

struct Up {
    child: Child,
    events: Receiver<Value>,
    seen: Vec<Value>,
}

impl Up {
    /// The next event of this name that `fits`.
    fn wait(&mut self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = match self.events.recv_timeout(left) {
                Ok(event) => event,
                Err(why) => panic!("no {name} ({why}); seen: {:#?}", self.seen),
            };
            self.seen.push(event.clone());
            if event["event"] == name && fits(&event) {
                return event;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Asks it to stop and waits for the exit code.
    fn stop(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait("stopped", |_| true);
        let status = self.child.wait().expect("it ends");
        status.code()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal(Signal::TERM); // stops what it started, which a kill would leave to the kernel
            let _ = self.child.wait();
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn kill(pid: &Value) {
    let pid = pid.as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    kill_process(pid.expect("a process"), Signal::KILL).expect("it ran");
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn runs(pid: &Value) -> bool {
    Path::new(&format!("/proc/{pid}/exe")).exists()
}

#[test]
fn a_stack_comes_up_heals_stops_cleanly_and_finds_its_data_again() {
    let place = Place::new("whole", 1000);
    let mut up = place.up();
    let proof = up.wait("self_check", |_| true);
    for round_trip in ["relay_ms", "signal_ms", "linker_ms", "hub_ms", "peerbook_ms"] {
        assert!(proof[round_trip].is_number(), "{proof}");
    }

    let refused = place.run(&["up", "--port-offset", "5000"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("already runs"));

    let status = place.json(&["status", "--json"]);
    assert_eq!(status["services"].as_array().map(Vec::len), Some(6), "{status}");
    assert!(status["services"].as_array().unwrap().iter().all(|s| s["state"] == "ready"));
    let doctor = place.json(&["doctor", "--json"]);
    assert_eq!(doctor["ok"], true, "{doctor:#}");

    // kill -9 of a service, then of Postgres: both come back by themselves.
    kill(&status["services"][0]["pid"]);
    let name = status["services"][0]["name"].clone();
    up.wait("died", |event| event["program"] == name);
    up.wait("started", |event| event["program"] == name);
    let state = std::fs::read(place.data.join("state.json")).unwrap();
    kill(&serde_json::from_slice::<Value>(&state).unwrap()["postgres_pid"]);
    up.wait("died", |event| event["program"] == "postgres");
    up.wait("started", |event| event["program"] == "postgres");
    wait_until("everything is ready again", || {
        let status = place.json(&["status", "--json"]);
        let services = status["services"].as_array().cloned().unwrap_or_default();
        services.len() == 6
            && services.iter().all(|service| service["state"] == "ready")
            && status["database"].is_object()
    });

    let sql = "INSERT INTO identity.pin (peer, key, proof) VALUES ('alice', decode(repeat('07', 32), 'hex'), 1)";
    let psql = place.run(&["db", "psql", "--", "-c", sql]);
    assert!(psql.status.success(), "{}", text(&psql.stderr));
    assert_eq!(up.stop(), Some(0));
    assert_eq!(place.run(&["status"]).status.code(), Some(3));

    let mut up = place.up();
    let database = up.wait("database", |_| true);
    assert_eq!(database["made"], false);
    up.wait("self_check", |_| true);
    let pins = place.json(&["identity", "list", "--json"]);
    assert_eq!(pins.as_array().map(Vec::len), Some(1), "the self-check leaves no pins: {pins}");
    assert_eq!(pins[0]["peer"], "alice");
    assert_eq!(up.stop(), Some(0));
}

#[test]
fn nothing_outlives_a_killed_launcher_and_the_next_start_recovers() {
    let place = Place::new("killed", 2300);
    let mut up = place.up();
    up.wait("self_check", |_| true);
    let status = place.json(&["status", "--json"]);
    let state = std::fs::read(place.data.join("state.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    up.signal(Signal::KILL);
    up.child.wait().unwrap();
    let mut up = place.up(); // waits for what is still ending
    up.wait("self_check", |_| true);
    wait_until("the children have ended", || {
        let services = status["services"].as_array().unwrap();
        !services.iter().any(|service| runs(&service["pid"])) && !runs(&state["postgres_pid"])
    });
    assert_eq!(up.stop(), Some(0));
}

#[test]
fn a_backup_comes_back_whole_and_never_over_data_by_accident() {
    let place = Place::new("backup", 3600);
    let mut up = place.up();
    up.wait("self_check", |_| true);
    let sql = "INSERT INTO identity.pin (peer, key, proof) VALUES ('bob', decode(repeat('07', 32), 'hex'), 1)";
    assert!(place.run(&["db", "psql", "--", "-c", sql]).status.success());
    let backup = place.json(&["db", "backup", "--json"]);
    let file = backup["file"].as_str().expect("a file");

    let busy = place.run(&["db", "restore", "--force", file]);
    assert!(text(&busy.stderr).contains("stop them"), "{}", text(&busy.stderr));
    assert_eq!(up.stop(), Some(0));
    assert!(place.run(&["identity", "release", "bob"]).status.success());
    assert!(place.run(&["db", "psql", "--", "-c", &sql.replace("bob", "carol")]).status.success());

    let refused = place.run(&["db", "restore", file]);
    assert!(text(&refused.stderr).contains("--force"), "{}", text(&refused.stderr));
    let broken = place.data.join("broken.dump");
    let bytes = std::fs::read(file).unwrap();
    std::fs::write(&broken, &bytes[..bytes.len() / 2]).unwrap();
    let failed = place.run(&["db", "restore", "--force", broken.to_str().unwrap()]);
    assert!(!failed.status.success());
    assert_eq!(place.json(&["identity", "list", "--json"])[0]["peer"], "carol");

    let restored = place.run(&["db", "restore", "--force", file]);
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    let pins = place.json(&["identity", "list", "--json"]);
    assert_eq!(pins.as_array().map(Vec::len), Some(1), "{pins}");
    assert_eq!(pins[0]["peer"], "bob");

    let mut up = place.up();
    up.wait("self_check", |_| true);
    assert_eq!(up.stop(), Some(0));
}
