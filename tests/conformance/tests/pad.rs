//! The real peer-linker and channel-hub, all recorded scenarios of both generations.
#![allow(missing_docs, clippy::print_stdout, reason = "a test")]

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use conformance::pad::keepalive::{PING_INTERVAL, PONG_TIMEOUT, replay_keepalive};
use conformance::pad::vectors::{self, Generation, Scenario, unhex};
use conformance::{Mode, PadServer, Report, replay_pad};
use testkit::database::Database;
use testkit::process::Service;
use testkit::proxy::Proxy;

/// What the verifiers of the recording did.
const VERIFIERS: [(&str, &str); 4] = [
    ("v-args.sh", "exit 0"),
    ("v-refuse.sh", "echo no >&2; exit 1"),
    ("v-signal.sh", "kill -KILL $$"),
    ("v-readme.sh", "[ \"$1\" = user=example ]"),
];

/// The files that the recorded command lines name.
struct Files(PathBuf);

impl Files {
    fn make(scenarios: &[Scenario]) -> anyhow::Result<Self> {
        let directory =
            std::env::temp_dir().join(format!("pads-{}", testkit::keys::Peer::random().id));
        std::fs::create_dir(&directory)?;
        let secrets: BTreeSet<&str> = (scenarios.iter())
            .map(|scenario| scenario.secret_hex.as_str())
            .filter(|secret| !secret.is_empty())
            .collect();
        assert_eq!(secrets.len(), 1, "there is one file for it");
        for secret in secrets {
            std::fs::write(directory.join("secret.bin"), unhex(secret)?)?;
        }
        for (name, script) in VERIFIERS {
            let path = directory.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
            std::fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        }
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        std::fs::write(directory.join("cert.pem"), made.cert.pem())?;
        std::fs::write(directory.join("key.pem"), made.signing_key.serialize_pem())?;
        Ok(Self(directory))
    }

    /// A word of a command line, with the directory where it names a file.
    fn word(&self, word: &str) -> String {
        if word.starts_with('-') {
            return word.to_owned();
        }
        self.0.join(word).display().to_string()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // Left files are the system's to clean.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Starts the program with the original's command line and replays what was recorded with it.
async fn replay(
    program: &'static str,
    scenarios: &[Scenario],
    (files, arguments): (&Files, &[String]),
    mode: Mode,
    (tls, replicas): (bool, usize),
) -> anyhow::Result<Report> {
    let database = Database::fresh().await?;
    let mut services = Vec::new();
    for _ in 0..replicas {
        let mut service = Service::named(program).database(&database.url());
        if mode == Mode::Exact && program == "peer-linker" {
            service = service.set("PASS_SERVER_TYPES", true);
        }
        let tls_words = ["-sc", "cert.pem", "-sk", "key.pem"].map(str::to_owned);
        for word in arguments.iter().chain(tls_words.iter().filter(|_| tls)) {
            service = service.argument(files.word(word));
        }
        services.push(service.start().await?);
    }
    let addresses: Vec<_> = services.iter().map(Service::address).collect();
    let balancer = Proxy::to(&addresses).await?;
    // One process is spoken to directly: it tells more about the end of a connection.
    let address = if replicas == 1 { addresses[0] } else { balancer.address() };
    let admins: Vec<_> = services.iter().map(Service::admin).collect();
    let replicas = if replicas == 1 { &[][..] } else { &admins };
    let server = PadServer { program, address, arguments, tls, replicas };
    let report = replay_pad(scenarios, server, mode).await;
    println!("{report}");
    if report.failed() > 0 {
        services.iter().for_each(|service| println!("{}", service.log()));
    }
    Ok(report)
}

async fn replay_all(program: &'static str, mode: Mode, replicas: usize) -> anyhow::Result<()> {
    let scenarios = vectors::load();
    let files = Files::make(&scenarios)?;
    let own = || scenarios.iter().filter(|scenario| scenario.server.as_deref() == Some(program));
    let command_lines: BTreeSet<&[String]> = own().map(|own| own.server_args.as_slice()).collect();
    let (mut cases, mut failed) = (0, 0);
    for arguments in command_lines {
        let report =
            replay(program, &scenarios, (&files, arguments), mode, (false, replicas)).await?;
        cases += report.cases();
        failed += report.failed();
    }
    assert_eq!(cases, own().count(), "every scenario is replayed");
    let report = replay(program, &scenarios, (&files, &[]), mode, (true, replicas)).await?;
    let plain = |scenario: &&Scenario| {
        scenario.generation == Generation::A && scenario.server_args.is_empty()
    };
    assert_eq!(report.cases(), own().filter(plain).count(), "and those of A over TLS");
    failed += report.failed();
    assert_eq!(failed, 0, "failed scenarios are listed above");
    Ok(())
}

#[tokio::test]
async fn the_strict_peer_linker_passes_on_what_the_original_does() -> anyhow::Result<()> {
    replay_all("peer-linker", Mode::Exact, 1).await
}

#[tokio::test]
async fn by_default_peer_linker_refuses_only_what_is_listed() -> anyhow::Result<()> {
    replay_all("peer-linker", Mode::Sound, 1).await
}

#[tokio::test]
async fn channel_hub_answers_as_listed() -> anyhow::Result<()> {
    replay_all("channel-hub", Mode::Sound, 1).await
}

#[tokio::test]
async fn two_peer_linkers_behind_a_balancer_are_one() -> anyhow::Result<()> {
    replay_all("peer-linker", Mode::Exact, 2).await
}

#[tokio::test]
async fn two_channel_hubs_behind_a_balancer_are_one() -> anyhow::Result<()> {
    replay_all("channel-hub", Mode::Sound, 2).await
}

#[tokio::test]
async fn silent_websockets_are_pinged_and_then_dropped() -> anyhow::Result<()> {
    for program in ["peer-linker", "channel-hub"] {
        let database = Database::fresh().await?;
        let service = Service::named(program).database(&database.url());
        let service = service.set("PING_INTERVAL", format!("{}s", PING_INTERVAL.as_secs()));
        let service = service.set("PONG_TIMEOUT", format!("{}s", PONG_TIMEOUT.as_secs()));
        let service = service.start().await?;
        replay_keepalive(service.address(), program).await?;
    }
    Ok(())
}

#[test]
fn certificates_are_those_of_the_original() -> anyhow::Result<()> {
    let scenarios = vectors::load();
    let table = scenarios.iter().find(|scenario| scenario.generation == Generation::Both);
    let files = Files::make(&scenarios)?;
    let [secret, content, certificate] =
        ["secret", "content", "certificate"].map(|name| files.0.join(name));
    let switchyard = testkit::process::binary("switchyard")?;
    let mut compared = 0;
    for recorded in table.into_iter().flat_map(|table| &table.certificates) {
        let wanted = unhex(&recorded.certificate_hex)?;
        std::fs::write(&secret, unhex(&recorded.secret_hex)?)?;
        std::fs::write(&content, unhex(&recorded.content_hex)?)?;
        std::fs::write(&certificate, &wanted)?;
        let run = |arguments: &[&str], file: &PathBuf| {
            let mut command = Command::new(&switchyard);
            command.arg("session-key").args(arguments).arg(&secret).arg(file).output()
        };
        assert_eq!(run(&[], &content)?.stdout, wanted, "{}", recorded.note);
        assert_eq!(run(&["--verify"], &certificate)?.stdout, b"ok\n", "{}", recorded.note);
        compared += 1;
    }
    assert_eq!(compared, 7);
    Ok(())
}
