//! The stack behind HAProxy, with coturn beside it: `switchyard up --public`, real programs,
//! the project's own configuration files.
//!
//! Ignored unless asked for, as both programs have to be installed; `scripts/test` asks.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use testkit::http_client::HttpClient;
use testkit::keys::Peer;
use testkit::process::{Place, Stack, workspace};
use testkit::signal_client::SignalClient;

const NEEDS: &str = "haproxy and coturn are installed";

struct Fronted {
    place: Place,
    stack: Stack,
    haproxy: i32,
}

impl Fronted {
    fn start(offset: u16) -> anyhow::Result<Self> {
        let place = Place::new(&["signal", "relay", "peer-linker"], offset)?;
        let root = workspace();
        let root = root.to_str().context("a path in UTF-8")?;
        let arguments =
            ["--public", "127.0.0.1", "--config-dir", root, "--only", "signal,relay,peer-linker"];
        let mut stack = place.up(&arguments)?;
        let mut pid = |program: &str| {
            let started = stack.wait("started", |event| event["program"] == program)?;
            started["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).context("a pid")
        };
        let haproxy = pid("haproxy").context(NEEDS)?;
        stack.wait("self_check", |_| true)?;
        Ok(Self { place, stack, haproxy })
    }

    fn at(&self, port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port + self.place.offset()).into()
    }

    /// A registered peer and what it was told.
    async fn registered(&self, tls: bool, peer: &Peer) -> anyhow::Result<(SignalClient, Value)> {
        let mut client = match tls {
            true => SignalClient::tls(self.at(443)).await?,
            false => SignalClient::plain(self.at(443)).await?,
        };
        let ack = client.register_with(peer, &json!({ "iceServers": true })).await?;
        Ok((client, ack))
    }

    /// coturn's own client asks for an allocation and for a way to `peer`.
    fn relayed(&self, name: &str, password: &str, peer: &str) -> anyhow::Result<String> {
        let port = (3478 + self.place.offset()).to_string();
        let output = Command::new("timeout")
            .args(["20", "turnutils_uclient", "-v", "-t", "-n", "1", "-u", name, "-w", password])
            .args(["-p", &port, "-e", peer, "127.0.0.1"])
            .output()?;
        let bytes = [output.stdout, output.stderr].concat();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs haproxy and coturn"]
async fn services_are_reached_through_haproxy_and_reloading_it_loses_no_session()
-> anyhow::Result<()> {
    let front = Fronted::start(4_100)?;
    let (alice, bob) = (Peer::alice(), Peer::bob());
    let (mut over_tls, _) = front.registered(true, &alice).await?;
    let (mut plain, _) = front.registered(false, &bob).await?;

    let health = HttpClient::tls(front.at(444)).get("/health").await?;
    ensure!(health.ok()?["ok"] == true, "{}", health.text());
    let page = HttpClient::plain(front.at(443)).get("/").await?;
    ensure!(page.status == 400, "plain HTTP is for WebSockets only: {}", page.status);
    ensure!(HttpClient::tls(front.at(444)).get("/relay/none").await?.status == 404);

    // Passed on as it is, with the client's address before it.
    let pads = HttpClient::tls(front.at(445)).get("/").await?;
    ensure!(pads.status == 200 && pads.text().contains("peer-linker"), "{}", pads.text());
    let pads = HttpClient::plain(front.at(445)).get("/").await?;
    ensure!(pads.status == 200, "plain: {}", pads.text());

    // Sessions before the reload go on, new ones come up after it.
    let master = Pid::from_raw(front.haproxy).context("a process")?;
    kill_process(master, Signal::USR2)?;
    for round in 0..20 {
        over_tls.signal(&alice, &bob.id, &json!({ "round": round })).await?;
        plain.wait_for(|frame| frame["payload"]["data"]["round"] == round).await?;
        let (visitor, _) = front.registered(round % 2 == 0, &Peer::random()).await?;
        visitor.close().await?;
    }
    front.stack.stop()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs haproxy and coturn"]
async fn coturn_takes_the_credentials_signal_hands_out_and_relays_to_no_private_address()
-> anyhow::Result<()> {
    let front = Fronted::start(4_700)?;
    let (_client, ack) = front.registered(true, &Peer::carol()).await?;
    let server = &ack["payload"]["iceServers"][0];
    let (name, password) = (server["username"].as_str(), server["credential"].as_str());
    let (name, password) = (name.context("a name")?, password.context("a password")?);

    for peer in ["127.0.0.1", "10.0.0.1", "192.168.1.1", "169.254.169.254"] {
        let said = front.relayed(name, password, peer)?;
        ensure!(said.contains("Received relay addr"), "no allocation: {said}");
        ensure!(said.contains("error 403"), "relayed to {peer}: {said}");
    }
    let said = front.relayed(name, "wrong", "127.0.0.1")?;
    ensure!(!said.contains("Received relay addr"), "a wrong password was taken: {said}");
    front.stack.stop()
}

#[test]
#[ignore = "needs haproxy and coturn"]
fn haproxy_finds_nothing_to_warn_about() -> anyhow::Result<()> {
    let file = std::env::temp_dir().join(format!("front-{}.pem", std::process::id()));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()])?;
    std::fs::write(&file, made.cert.pem() + &made.signing_key.serialize_pem())?;
    let output = Command::new("haproxy")
        .args(["-c", "-dW", "-f"]) // warnings are errors
        .arg(workspace().join("haproxy/haproxy.cfg"))
        .env("TLS_PEM", &file)
        .output()
        .context(NEEDS)?;
    std::fs::remove_file(&file)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
