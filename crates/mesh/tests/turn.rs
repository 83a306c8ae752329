//! Credentials from `/token` at a real coturn (scenario 20).
//!
//! Where coturn is not installed these tests say so and pass.
#![allow(missing_docs, clippy::print_stdout, reason = "a test")]

mod common;

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use common::node;
use http::Method;
use testkit::database::Database;
use testkit::http_client::HttpClient;
use testkit::mesh_client::Price;
use testkit::process::Service;
use testkit::time::now_ms;
use testkit::turn_server::{TurnServer, installed};

const SECRET: &str = "mesh-turn-test";

struct Given {
    name: String,
    password: String,
}

/// A node that hands out credentials, also to whom a proxy says it stands for.
async fn minting(database: &Database) -> anyhow::Result<Service> {
    let node = node(database).set("TURN_SECRET", SECRET).set("TRUSTED_PROXIES", "127.0.0.0/8");
    node.set("TURN_URLS", "turn:127.0.0.1:3478").set("POW_MIN", 4).start().await
}

/// Credentials for the client of this address.
async fn mint(node: &Service, address: &str) -> anyhow::Result<Given> {
    let http = HttpClient::plain(node.address());
    let headers = [("accept", "application/json"), ("x-forwarded-for", address)];
    let price = http.send(Method::GET, "/token", &headers, Bytes::new()).await?.ok()?;
    let paid = Price::of(&price["pow"])?.pay("POST", "/token", &[b""])?;
    let path = format!("/token?{paid}");
    let given = http.send(Method::POST, &path, &headers, Bytes::new()).await?.ok()?;
    let text = |name: &str| given[name].as_str().map(str::to_owned).context("no text");
    Ok(Given { name: text("username")?, password: text("password")? })
}

/// coturn's own client with these credentials.
async fn client(turn: &TurnServer, given: &Given, more: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new("timeout");
    command.args(["30", "turnutils_uclient", "-u", &given.name, "-w", &given.password]);
    command.args(["-p", &turn.port().to_string()]).args(more).arg("127.0.0.1");
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

fn said(output: &Output) -> String {
    let all = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&all).into_owned()
}

macro_rules! needs_coturn {
    () => {
        if let Err(missing) = installed() {
            println!("SKIPPED: {missing}");
            return Ok(());
        }
    };
}

#[tokio::test]
async fn coturn_takes_what_the_node_hands_out_and_nothing_else() -> anyhow::Result<()> {
    needs_coturn!();
    let turn = TurnServer::for_this_machine(SECRET).await?;
    let database = Database::fresh().await?;
    let node = minting(&database).await?;
    let given = mint(&node, "203.0.113.7").await?;
    let relayed = client(&turn, &given, &["-y", "-c", "-n", "4"]).await?;
    ensure!(relayed.status.success(), "{}", said(&relayed));
    ensure!(said(&relayed).contains("Total lost packets 0 (0.000000%)"), "{}", said(&relayed));

    let tampered = Given { name: format!("9{}", given.name), ..given };
    let refused = client(&turn, &tampered, &["-y", "-c", "-n", "1"]).await?;
    ensure!(!refused.status.success(), "a longer life was taken: {}", said(&refused));
    let expired = turn::mint(SECRET.as_bytes(), "someone", Duration::ZERO, now_ms() - 60_000);
    let expired = Given { name: expired.username, password: expired.credential.to_string() };
    let refused = client(&turn, &expired, &["-y", "-c", "-n", "1"]).await?;
    ensure!(!refused.status.success(), "expired ones were taken: {}", said(&refused));
    Ok(())
}

#[tokio::test]
async fn the_projects_coturn_counts_by_client_and_relays_to_no_private_address()
-> anyhow::Result<()> {
    needs_coturn!();
    let turn = TurnServer::as_in_production(SECRET, &[]).await?;
    let database = Database::fresh().await?;
    let node = minting(&database).await?;
    let given = mint(&node, "203.0.113.7").await?;
    for peer in ["127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254"] {
        let refused = client(&turn, &given, &["-v", "-t", "-n", "1", "-e", peer]).await?;
        let said = said(&refused);
        ensure!(said.contains("Received relay addr"), "no allocation: {said}");
        ensure!(said.contains("error 403"), "relayed to {peer}: {said}");
    }
    // A client of both ends takes three allocations at once: more than two.
    let turn = TurnServer::as_in_production(SECRET, &["--user-quota", "2"]).await?;
    let many = client(&turn, &given, &["-v", "-y", "-c", "-n", "1"]).await?;
    ensure!(said(&many).contains("486"), "no quota: {}", said(&many));

    // The same network has the same name at coturn, another network another.
    let name = |given: &Given| given.name.split_once(':').map(|(_, id)| id.to_owned());
    let (again, other) = (mint(&node, "203.0.113.7").await?, mint(&node, "203.0.113.8").await?);
    ensure!(name(&again) == name(&given) && name(&other) != name(&given));
    Ok(())
}
