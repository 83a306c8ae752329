//! The stack in containers, as `deploy.sh` puts it there: real Docker, HAProxy and coturn on the host's
//! network, on ports of the test's own.
//!
//! One test, as one stack takes most of a minute to come up:
//!
//! 1. `deploy.sh` twice: everything is healthy, the doctor finds nothing broken, certificate and secrets stay.
//! 2. HAProxy finds second replicas of signal and relay; the tours run through its TLS ports.
//! 3. coturn takes the credentials signal hands out, and those in the link; it relays to no private address.
//! 4. Two browsers open a data channel by signal, directly and, forced, through coturn.
//! 5. One replica of signal is killed: its clients register again and go on.
//! 6. HAProxy is reloaded under load: no session ends, no store fails.
//! 7. The stack is stopped and started: every acknowledged envelope is there.
//! 8. Deployed again with a static pair for TURN, signal hands out that pair, and coturn takes it alone.
//! 9. `deploy.sh --uninstall --purge` leaves nothing behind.
//!
//! Ignored unless asked for, as it needs root, Docker and debootstrap, and for 4 a browser; `scripts/test` asks.

#![allow(clippy::print_stdout, reason = "a test that is skipped says so")]

mod stack;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use deploy::{docker, until};
use e2e::calls::Calls;
use serde_json::json;
use testkit::http_client::HttpClient;
use testkit::keys::Peer;
use testkit::pad_client::{PadClient, Program};
use testkit::relay_client::RelayClient;
use testkit::signal_client::SignalClient;
use testkit::webdriver::{self, Browser};

use self::stack::Stack;

type Outcome = anyhow::Result<()>;

/// Clients that were on a killed replica come back within this; containers on a busy machine are slow.
const BACK_WITHIN: Duration = Duration::from_secs(120);
/// Below what HAProxy lets one address ask for, however fast the machine is.
const STORE_EVERY: Duration = Duration::from_millis(25);
const ENVELOPES: usize = 50;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root, docker and debootstrap"]
async fn the_stack_in_containers_does_what_it_promises() -> Outcome {
    let stack = Stack::deploy().await?;
    promises(&stack).await.map_err(|why| why.context(stack.last_words()))?;
    stack.uninstall()
}

async fn promises(stack: &Stack) -> Outcome {
    let said = deploying_again_keeps_what_was_made(stack).context("deploying again")?;
    stack.scale(&["signal=2", "relay=2"]).await?;
    tours(stack).await.context("tours")?;
    turn(stack, &Stack::link_credentials(&said)?).await.context("TURN")?;
    browsers(stack).await.context("browsers")?;
    a_killed_replica(stack).await.context("a killed replica")?;
    a_reload_under_load(stack).await.context("a reload")?;
    stopped_and_started(stack).await.context("stopping and starting")?;
    a_static_pair(stack).await.context("a static pair")
}

fn deploying_again_keeps_what_was_made(stack: &Stack) -> anyhow::Result<String> {
    let before = stack.kept()?;
    let said = stack.run_deploy(&[])?;
    ensure!(stack.kept()? == before, "certificate or secrets were made anew");
    ensure!(said.contains("__SWITCHYARD_STAGE__:10:Ready"), "{said}");
    // The doctor knew the ports, the certificate and what coturn takes.
    ensure!(!said.contains("BROKEN"), "{said}");
    for found in
        ["proxy: signal at", "turn over udp: relays", "turn over tls: relays", "mesh is ready"]
    {
        ensure!(said.contains(found), "no `{found}`: {said}");
    }
    Ok(said)
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

/// Name and password for TURN.
type Credential = (String, String);

/// What signal gives who asks.
async fn handed_out(stack: &Stack) -> anyhow::Result<Credential> {
    let mut client = SignalClient::tls(stack.signal()).await?;
    let ack = client.register_with(&Peer::random(), &json!({ "iceServers": true })).await?;
    let server = &ack["payload"]["iceServers"][0];
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).context("no text");
    Ok((text(&server["username"])?, text(&server["credential"])?))
}

async fn turn(stack: &Stack, link: &Credential) -> Outcome {
    for credential in [&handed_out(stack).await?, link] {
        is_taken(stack, credential, &stack.forbidden())?;
    }
    is_refused(stack, &("1:nobody".to_owned(), "wrong".to_owned()))
}

/// By coturn's own client, as its container has it: an allocation, and no way to what is forbidden.
fn is_taken(stack: &Stack, (name, password): &Credential, forbidden: &[String]) -> Outcome {
    for peer in forbidden {
        let said = stack.relayed(name, password, peer)?;
        ensure!(said.contains("Received relay addr"), "no allocation for {name}: {said}");
        ensure!(said.contains("error 403"), "relayed to {peer}: {said}");
    }
    Ok(())
}

fn is_refused(stack: &Stack, (name, password): &Credential) -> Outcome {
    let said = stack.relayed(name, password, "127.0.0.1")?;
    ensure!(!said.contains("Received relay addr"), "{name} was taken: {said}");
    ensure!(said.contains("Cannot complete Allocation"), "neither taken nor refused: {said}");
    Ok(())
}

/// Pages that know signal's address and nothing else, on either replica.
async fn browsers(stack: &Stack) -> Outcome {
    if let Err(missing) = webdriver::installed() {
        println!("SKIPPED browsers: {missing}");
        return Ok(());
    }
    let calls = Calls::new(Browser::believing_any_certificate(1280, 800).await?).await?;
    let signal = stack.signal_url();
    let direct =
        [calls.peer(&signal, "ada", "all").await?, calls.peer(&signal, "bob", "all").await?];
    let way = direct[0].call("bob").await?;
    ensure!(!way.to_string().contains("relay"), "a direct way was there: {way}");
    let forced =
        [calls.peer(&signal, "carol", "relay").await?, calls.peer(&signal, "dave", "relay").await?];
    let way = forced[0].call("dave").await?;
    ensure!(way == json!(["relay", "relay"]), "{way}");
    Ok(())
}

async fn a_static_pair(stack: &Stack) -> Outcome {
    let minted = handed_out(stack).await?;
    let pair = ("operator".to_owned(), "open-sesame".to_owned());
    let said = stack.run_deploy(&[("TURN_USER", &pair.0), ("TURN_PASSWORD", &pair.1)])?;
    ensure!(!said.contains("BROKEN"), "{said}");
    ensure!(Stack::link_credentials(&said)? == pair, "the link has another: {said}");
    until("signal hands out the pair", BACK_WITHIN, async || Ok(handed_out(stack).await? == pair))
        .await?;
    is_taken(stack, &pair, &stack.forbidden())?;
    is_refused(stack, &minted)
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
                tokio::time::sleep(STORE_EVERY).await;
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
