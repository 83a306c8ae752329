//! `switchyard up` for real: a private Postgres, the services, a crash, a stop, a second start.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::process::Place;

/// Making a cluster on a busy machine included.
const PATIENCE: Duration = Duration::from_secs(120);
const SERVICES: [&str; 6] = ["signal", "relay", "peer-linker", "channel-hub", "peerbook", "mesh"];

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

/// The status line that answers a `GET`.
fn first_line(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).expect("it answers");
    line
}

fn runs(pid: &Value) -> bool {
    Path::new(&format!("/proc/{pid}/exe")).exists()
}

#[test]
fn a_stack_comes_up_heals_stops_cleanly_and_finds_its_data_again() {
    let place = Place::new(&SERVICES, 1000).unwrap();
    let mut up = place.up(&[]).unwrap();
    let proof = up.wait("self_check", |_| true).unwrap();
    for round_trip in ["relay_ms", "signal_ms", "linker_ms", "hub_ms", "peerbook_ms"] {
        assert!(proof[round_trip].is_number(), "{proof}");
    }

    let refused = place.run(&["up", "--port-offset", "5000"]).unwrap();
    assert!(!refused.status.success() && text(&refused.stderr).contains("already runs"));

    let status = place.json(&["status", "--json"]).unwrap();
    assert_eq!(status["services"].as_array().map(Vec::len), Some(6), "{status}");
    assert!(status["services"].as_array().unwrap().iter().all(|s| s["state"] == "ready"));
    let doctor = place.json(&["doctor", "--json"]).unwrap();
    assert_eq!(doctor["ok"], true, "{doctor:#}");

    let offer = first_line(17_777 + place.offset(), "/offer");
    assert!(offer.starts_with("HTTP/1.1 400 "), "peerbook takes WebRTC: {offer}");

    // kill -9 of a service, then of Postgres: both come back by themselves.
    kill(&status["services"][0]["pid"]);
    let name = status["services"][0]["name"].clone();
    up.wait("died", |event| event["program"] == name).unwrap();
    up.wait("started", |event| event["program"] == name).unwrap();
    let state = std::fs::read(place.data().join("state.json")).unwrap();
    kill(&serde_json::from_slice::<Value>(&state).unwrap()["postgres_pid"]);
    up.wait("died", |event| event["program"] == "postgres").unwrap();
    up.wait("started", |event| event["program"] == "postgres").unwrap();
    wait_until("everything is ready again", || {
        let status = place.json(&["status", "--json"]).unwrap();
        let services = status["services"].as_array().cloned().unwrap_or_default();
        services.len() == 6
            && services.iter().all(|service| service["state"] == "ready")
            && status["database"].is_object()
    });

    let sql = "INSERT INTO identity.pin (peer, key, proof) VALUES ('alice', decode(repeat('07', 32), 'hex'), 1)";
    let psql = place.run(&["db", "psql", "--", "-c", sql]).unwrap();
    assert!(psql.status.success(), "{}", text(&psql.stderr));
    up.stop().unwrap();
    assert_eq!(place.run(&["status"]).unwrap().status.code(), Some(3));

    let mut up = place.up(&[]).unwrap();
    let database = up.wait("database", |_| true).unwrap();
    assert_eq!(database["made"], false);
    up.wait("self_check", |_| true).unwrap();
    let pins = place.json(&["identity", "list", "--json"]).unwrap();
    assert_eq!(pins.as_array().map(Vec::len), Some(1), "the self-check leaves no pins: {pins}");
    assert_eq!(pins[0]["peer"], "alice");
    up.stop().unwrap();
}

#[test]
fn nothing_outlives_a_killed_launcher_and_the_next_start_recovers() {
    let place = Place::new(&SERVICES, 2300).unwrap();
    let mut up = place.up(&[]).unwrap();
    up.wait("self_check", |_| true).unwrap();
    let status = place.json(&["status", "--json"]).unwrap();
    let state = std::fs::read(place.data().join("state.json")).unwrap();
    let state: Value = serde_json::from_slice(&state).unwrap();
    up.signal(Signal::KILL).unwrap();
    up.ended().unwrap();
    let mut up = place.up(&[]).unwrap(); // waits for what is still ending
    up.wait("self_check", |_| true).unwrap();
    wait_until("the children have ended", || {
        let services = status["services"].as_array().unwrap();
        !services.iter().any(|service| runs(&service["pid"])) && !runs(&state["postgres_pid"])
    });
    up.stop().unwrap();
}

#[test]
fn a_backup_comes_back_whole_and_never_over_data_by_accident() {
    let place = Place::new(&SERVICES, 3600).unwrap();
    let mut up = place.up(&[]).unwrap();
    up.wait("self_check", |_| true).unwrap();
    let sql = "INSERT INTO identity.pin (peer, key, proof) VALUES ('bob', decode(repeat('07', 32), 'hex'), 1)";
    assert!(place.run(&["db", "psql", "--", "-c", sql]).unwrap().status.success());
    let backup = place.json(&["db", "backup", "--json"]).unwrap();
    let file = backup["file"].as_str().expect("a file");

    let busy = place.run(&["db", "restore", "--force", file]).unwrap();
    assert!(text(&busy.stderr).contains("stop them"), "{}", text(&busy.stderr));
    up.stop().unwrap();
    assert!(place.run(&["identity", "release", "bob"]).unwrap().status.success());
    assert!(
        place
            .run(&["db", "psql", "--", "-c", &sql.replace("bob", "carol")])
            .unwrap()
            .status
            .success()
    );

    let refused = place.run(&["db", "restore", file]).unwrap();
    assert!(text(&refused.stderr).contains("--force"), "{}", text(&refused.stderr));
    let broken = place.data().join("broken.dump");
    let bytes = std::fs::read(file).unwrap();
    std::fs::write(&broken, &bytes[..bytes.len() / 2]).unwrap();
    let failed = place.run(&["db", "restore", "--force", broken.to_str().unwrap()]).unwrap();
    assert!(!failed.status.success());
    assert_eq!(place.json(&["identity", "list", "--json"]).unwrap()[0]["peer"], "carol");

    let restored = place.run(&["db", "restore", "--force", file]).unwrap();
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    let pins = place.json(&["identity", "list", "--json"]).unwrap();
    assert_eq!(pins.as_array().map(Vec::len), Some(1), "{pins}");
    assert_eq!(pins[0]["peer"], "bob");

    let mut up = place.up(&[]).unwrap();
    up.wait("self_check", |_| true).unwrap();
    up.stop().unwrap();
}
