//! `switchyard doctor` on a stack behind HAProxy, with coturn: all is well, and then it is not.
//!
//! Ignored unless asked for, as both programs have to be installed; `scripts/test` asks.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context as _, ensure};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::{Value, json};
use testkit::process::{Place, Stack, workspace};

const SERVICES: [&str; 3] = ["signal", "relay", "peer-linker"];

fn start(place: &Place) -> anyhow::Result<Stack> {
    let root = workspace();
    let root = root.to_str().context("a path in UTF-8")?;
    let only = SERVICES.join(",");
    let arguments = ["--public", "127.0.0.1", "--config-dir", root, "--only", &only];
    let mut stack = place.up(&arguments)?;
    stack.wait("started", |event| event["program"] == "coturn").context("coturn is installed")?;
    stack.wait("self_check", |_| true)?;
    Ok(stack)
}

/// What doctor finds, by check.
fn examine(place: &Place, arguments: &[&str]) -> anyhow::Result<Value> {
    place.json(&[&["doctor", "--json"], arguments].concat())
}

fn findings<'a>(all: &'a Value, check: &'a str) -> impl Iterator<Item = &'a Value> {
    let checks = all["checks"].as_array().into_iter().flatten();
    checks.filter(move |finding| finding["check"] == check)
}

fn one<'a>(all: &'a Value, check: &'a str) -> anyhow::Result<&'a Value> {
    findings(all, check).next().with_context(|| format!("no `{check}` in {all:#}"))
}

#[test]
#[ignore = "needs haproxy and coturn"]
fn a_stack_is_used_as_clients_use_it_and_a_wrong_secret_is_found() -> anyhow::Result<()> {
    let place = Place::new(&SERVICES, 5_300)?;
    let stack = start(&place)?;
    let all = examine(&place, &[])?;
    ensure!(all["ok"] == true, "{all:#}");
    let proxy: Vec<_> =
        findings(&all, "proxy").filter_map(|found| found["found"].as_str()).collect();
    ensure!(proxy.len() == SERVICES.len(), "{proxy:?}");
    ensure!(proxy.iter().filter(|found| found.contains("WebSocket")).count() == 2, "{proxy:?}");
    let mut shown = findings(&all, "certificate").filter_map(|found| found["found"].as_str());
    ensure!(shown.any(|found| found.contains("self-signed, ECDSA P-256")), "{all:#}");
    let seen = one(&all, "stun")?["found"].as_str().context("text")?;
    ensure!(seen.contains("127.0.0.1:"), "{seen}");
    for transport in ["turn over udp", "turn over tcp", "turn over tls"] {
        let found = one(&all, transport)?;
        let relayed = found["found"].as_str().and_then(|found| found.rsplit(':').next());
        let port: u16 = relayed.context("a port")?.parse()?;
        ensure!((49_152..=51_819).contains(&port), "{found}");
    }
    ensure!(findings(&all, "clock").count() == 2, "the database has a clock, too: {all:#}");

    let wrong = place.data().join("wrong-secret");
    fs::write(&wrong, "not the secret")?;
    let all = examine(&place, &["--turn-secret-file", wrong.to_str().context("UTF-8")?])?;
    ensure!(all["ok"] == false);
    ensure!(one(&all, "stun")?["condition"] == "ok", "STUN asks for no secret: {all:#}");
    for transport in ["turn over udp", "turn over tcp", "turn over tls"] {
        let found = one(&all, transport)?;
        ensure!(found["condition"] == "broken", "{found}");
        let text = found["found"].as_str().context("text")?;
        ensure!(
            text.contains("refuses the credentials") && text.contains("wrong-secret"),
            "{text}"
        );
        ensure!(found["fix"].as_str().is_some_and(|fix| fix.contains("static-auth-secret")));
    }
    stack.stop()?;

    // The same addresses with nothing behind them.
    let offset = place.offset().to_string();
    let all = examine(&place, &["--public", "127.0.0.1", "--port-offset", &offset])?;
    for check in ["proxy", "stun", "turn over udp", "turn over tcp", "turn over tls"] {
        ensure!(findings(&all, check).all(|found| found["condition"] == "broken"), "{all:#}");
    }
    ensure!(one(&all, "proxy")?["fix"].as_str().is_some_and(|fix| fix.starts_with("ss ")));
    Ok(())
}

#[test]
#[ignore = "needs haproxy and coturn"]
fn an_expired_certificate_is_found_at_the_proxy_and_at_coturn() -> anyhow::Result<()> {
    let place = Place::new(&SERVICES, 5_900)?;
    let tls = place.data().join("tls");
    fs::create_dir_all(&tls)?;
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let key = KeyPair::generate()?;
    let made = params.self_signed(&key)?;
    let until = params.not_after.unix_timestamp();
    let facts = json!({ "host": "127.0.0.1", "sha256": "", "valid_until_s": until });
    let (chain, key) = (made.pem(), key.serialize_pem());
    let both = format!("{chain}{key}");
    for (kind, text) in [("crt", chain), ("key", key), ("pem", both), ("json", facts.to_string())] {
        let file = tls.join(format!("127.0.0.1.{kind}"));
        fs::write(&file, text)?;
        // The stack runs as a user of its own, inside a directory that only it enters.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    }
    let stack = start(&place)?;
    let all = examine(&place, &[])?;
    ensure!(all["ok"] == false);
    for check in ["certificate", "proxy", "turn over tls"] {
        let found = one(&all, check)?;
        ensure!(found["condition"] == "broken", "{found}");
        ensure!(found["found"].as_str().is_some_and(|found| found.contains("expired")), "{found}");
        ensure!(found["fix"].is_string(), "{found}");
    }
    for check in ["stun", "turn over udp", "turn over tcp"] {
        ensure!(one(&all, check)?["condition"] == "ok", "{all:#}");
    }
    stack.stop()
}
