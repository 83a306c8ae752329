//! The stack in containers, as `deploy.sh` puts it there: real Docker, HAProxy and coturn on the host's
//! network, on ports of the test's own.
//!
//! One test, as one stack takes most of a minute to come up:
//!
//! 1. `deploy.sh` twice: everything is healthy, certificate and secrets stay.
//! 2. The tours run through HAProxy's TLS ports.
//! 3. coturn takes the credentials signal hands out, and those in the link; it relays to no private address.
//! 4. HAProxy finds second replicas of signal and relay. One of the two of signal is killed: its clients register again and go on.
//! 5. HAProxy is reloaded under load: no session ends, no store fails.
//! 6. The stack is stopped and started: every acknowledged envelope is there.
//! 7. `deploy.sh --uninstall --purge` leaves nothing behind.
//!
//! Ignored unless asked for, as it needs root, Docker and debootstrap; `scripts/test` asks.

mod stack;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use deploy::{docker, until};
use serde_json::json;
use testkit::http_client::HttpClient;
use testkit::keys::Peer;
use testkit::pad_client::{PadClient, Program};
use testkit::relay_client::RelayClient;
use testkit::signal_client::SignalClient;

use self::stack::Stack;

type Outcome = anyhow::Result<()>;

/// Clients that were on a killed replica come back within this; containers on a busy machine are slow.
const BACK_WITHIN: Duration = Duration::from_secs(60);
const ENVELOPES: usize = 50;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, docker and debootstrap"]
async fn the_stack_in_containers_does_what_it_promises() -> Outcome {
    let stack = Stack::deploy().await?;
    deploying_again_keeps_what_was_made(&stack).context("deploying again")?;
    tours(&stack).await.context("tours")?;
    stack.scale(&["signal=2", "relay=2"]).await?;
    turn(&stack).await.context("TURN")?;
    a_killed_replica(&stack).await.context("a killed replica")?;
    a_reload_under_load(&stack).await.context("a reload")?;
    stopped_and_started(&stack).await.context("stopping and starting")?;
    stack.uninstall()
}

fn deploying_again_keeps_what_was_made(stack: &Stack) -> Outcome {
    let before = stack.kept()?;
    let said = stack.run_deploy(&["--yes", "--no-upgrade"])?;
    ensure!(stack.kept()? == before, "certificate or secrets were made anew");
    ensure!(said.contains("__SWITCHYARD_STAGE__:10:Ready"), "{said}");
    ensure!(said.contains("peerlink://config?payload="), "{said}");
    Ok(())
}

async fn tours(stack: &Stack) -> Outcome {
    e2e::tour::two_clients(stack.signal(), stack.relay(), true).await?;

    let mut holder = PadClient::connect_tls(Program::PeerLinker, stack.pads()).await?;
    let mut guest = PadClient::connect_tls(Program::PeerLinker, stack.pads()).await?;
    for client in [&mut holder, &mut guest] {
        ensure!(client.activate(b"").await?, "the certificate is refused");
    }
    ensure!(holder.register_pad(b"holder").await? && guest.register_pad(b"guest").await?);
    guest.link_to(&mut holder, b"holder", b"a secret").await?;
    guest.send_payload(b"through TLS and PROXY").await?;
    ensure!(&holder.next_payload().await?[..] == b"through TLS and PROXY");

    for (address, path) in [(stack.hubs(), "/"), (stack.peerbook(), "/"), (stack.mesh(), "/ip")] {
        let answer = HttpClient::tls(address).get(path).await?;
        ensure!(answer.status == 200, "{address}{path}: {}", answer.text());
    }
    Ok(())
}

/// With coturn's own client, as its container has it.
async fn turn(stack: &Stack) -> Outcome {
    let mut client = SignalClient::tls(stack.signal()).await?;
    let ack = client.register_with(&Peer::random(), &json!({ "iceServers": true })).await?;
    let server = &ack["payload"]["iceServers"][0];
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).context("no text");
    let minted = (text(&server["username"])?, text(&server["credential"])?);
    for (name, password) in [minted, stack.link_credentials()?] {
        for peer in ["127.0.0.1", "10.0.0.1"] {
            let said = stack.relayed(&name, &password, peer)?;
            ensure!(said.contains("Received relay addr"), "no allocation for {name}: {said}");
            ensure!(said.contains("error 403"), "relayed to {peer}: {said}");
        }
    }
    let said = stack.relayed("1:nobody", "wrong", "127.0.0.1")?;
    ensure!(!said.contains("Received relay addr"), "a wrong password was taken: {said}");
    Ok(())
}

async fn a_killed_replica(stack: &Stack) -> Outcome {
    let peers: Vec<Peer> = (0..8).map(|_| Peer::random()).collect();
    let mut clients = Vec::new();
    for peer in &peers {
        clients.push(registered(stack, peer).await?);
    }
    let replicas = stack.containers("signal")?;
    ensure!(replicas.len() == 2, "{replicas:?}");
    docker(&["kill", "--signal", "KILL", &replicas[0]])?;
    // As the app does: whoever lost the connection makes a new one. Who did not notices nothing.
    let mut lost = 0;
    let mut going_on = Vec::new();
    for (mut client, peer) in clients.into_iter().zip(&peers) {
        if client.peers().await.is_ok() {
            going_on.push(client);
            continue;
        }
        lost += 1;
        let mut again = None;
        until("a client on the other replica", BACK_WITHIN, async || {
            again = Some(registered(stack, peer).await?);
            Ok(true)
        })
        .await?;
        going_on.push(again.context("it registered")?);
    }
    ensure!(lost > 0 && lost < peers.len(), "{lost} of {} were on one replica", peers.len());
    // Everybody hears everybody, whoever was where.
    for from in 0..peers.len() {
        let to = (from + 1) % peers.len();
        going_on[from].signal(&peers[from], &peers[to].id, &json!({ "from": from })).await?;
        let heard = |frame: &serde_json::Value| frame["payload"]["data"]["from"] == from;
        going_on[to].wait_for(heard).await?;
    }
    stack.replicas_up("signal", 1).await
}

async fn registered(stack: &Stack, peer: &Peer) -> anyhow::Result<SignalClient> {
    let mut client = SignalClient::tls(stack.signal()).await?;
    client.register(peer).await?;
    Ok(client)
}

async fn a_reload_under_load(stack: &Stack) -> Outcome {
    let (over, stored) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let relay = RelayClient::tls(stack.relay()).new_connections();
        let (over, stored) = (over.clone(), stored.clone());
        tasks.spawn(async move {
            let (from, to) = (Peer::random(), Peer::random());
            for round in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let id = format!("during:{round}");
                relay.store(&from, &id, &to.id, b"{}").await?.ok()?;
                stored.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    let (alice, bob) = (Peer::random(), Peer::random());
    let mut sender = registered(stack, &alice).await?;
    let mut receiver = registered(stack, &bob).await?;
    let before = stack.workers()?;
    for round in 0..60 {
        if round % 20 == 10 {
            stack.reload()?;
        }
        sender.signal(&alice, &bob.id, &json!({ "round": round })).await?;
        receiver.wait_for(|frame| frame["payload"]["data"]["round"] == round).await?;
        registered(stack, &Peer::random()).await?.close().await?;
    }
    until("a new worker beside the one with our sessions", BACK_WITHIN, async || {
        Ok(stack.workers()? > before)
    })
    .await?;
    over.store(true, Ordering::Relaxed);
    while let Some(task) = tasks.join_next().await {
        task?.context("a store during the reloads")?;
    }
    let stored = stored.load(Ordering::Relaxed);
    ensure!(stored > 20, "only {stored} stores: that was no load");
    Ok(())
}

async fn stopped_and_started(stack: &Stack) -> Outcome {
    let (alice, bob) = (Peer::random(), Peer::random());
    let relay = RelayClient::tls(stack.relay()).new_connections();
    let mut ids = Vec::new();
    for number in 0..ENVELOPES {
        let id = format!("{number:04}");
        relay.store(&alice, &id, &bob.id, b"{}").await?.ok()?;
        ids.push(id);
    }
    stack.compose(&["stop"])?;
    ensure!(HttpClient::tls(stack.relay()).get("/health").await.is_err(), "it still runs");
    stack.compose(&["start"])?;
    stack.healthy().await?;
    let found = relay.fetch_ids(&bob.id, "&limit=100").await?;
    ensure!(found == ids, "stored {ENVELOPES}, found {}: {found:?}", found.len());
    Ok(())
}
