//! Peers of signal, and writers to the relay beside it.
//!
//! Invariants, checked when the fault is over:
//! 1. A peer has at most one live session, wherever it registered.
//! 2. Within 20 s every replica lists exactly the peers that have one.
//! 3. Whoever is listed is reached by a signal from every replica; no signal reaches another peer.
//! 4. What a relay acknowledged is kept, as [`Writer::check`](crate::relay_load::Writer::check) says, whichever
//!    replica answered.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rand::RngExt as _;
use serde_json::{Value, json};
use testkit::keys::Peer;
use testkit::process::{Builder, Service};
use testkit::proxy::Proxy;
use testkit::signal_client::SignalClient;
use tokio::time::{sleep, timeout};

use crate::drama::{ANSWER_WITHIN, CONVERGES_WITHIN, Players, answered, leased};
use crate::relay_load::Load;
use crate::stage::Stage;

const PEERS: usize = 8;
const WRITERS: usize = 3;

/// Writes the relays confirm whenever all is in order.
const WRITES: usize = 20;

/// Everybody who uses signal and the relay.
#[derive(Debug)]
pub struct Peers {
    clients: Vec<Client>,
    load: Option<(Load, Proxy)>,
}

/// One peer and every connection it has not seen the end of.
#[derive(Debug)]
struct Client {
    peer: Peer,
    sockets: Vec<SignalClient>,
}

impl Players for Peers {
    const SERVICES: &'static [&'static str] = &["signal", "relay"];
    const LIVING: &'static str = "SELECT count(*) FROM signal.node";
    const ON_BUS: &'static [&'static str] = &["signal"];
    // Proofs of registration are good for 30 s.
    const SKEW_S: i64 = 20;

    async fn gather(seed: u64) -> anyhow::Result<Self> {
        let client = |nth| Client {
            peer: Peer::random().with_id(format!("peer-{seed}-{nth}")),
            sockets: Vec::new(),
        };
        Ok(Self { clients: (0..PEERS).map(client).collect(), load: None })
    }

    fn set(&self, name: &'static str, service: Builder) -> Builder {
        if name == "signal" { leased(service) } else { service }
    }

    async fn enter(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let relays: Vec<_> = stage.services("relay").map(Service::address).collect();
        let balancer = Proxy::to(&relays).await?;
        self.load = Some((Load::start(balancer.address(), WRITERS), balancer));
        Ok(())
    }

    async fn act(&mut self, stage: &mut Stage, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            let (who, whom) = (stage.rng.random_range(0..PEERS), stage.rng.random_range(0..PEERS));
            let (what, address) = (stage.rng.random_range(0..10), stage.anywhere());
            let to = self.clients[whom].peer.id.clone();
            let Client { peer, sockets } = &mut self.clients[who];
            match (what, sockets.last_mut()) {
                (0..4, None) | (4, _) => {
                    sockets.extend(answered(SignalClient::registered(address, peer)).await);
                }
                (5, _) => sockets.clear(),
                (_, Some(socket)) => {
                    let data = json!("in between");
                    answered(socket.signal(peer, &to, &data)).await;
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn brace(&mut self, stage: &mut Stage, victim: usize) -> anyhow::Result<()> {
        for (nth, replica) in stage.all().into_iter().chain([victim]).enumerate() {
            let Client { peer, sockets } = &mut self.clients[nth];
            sockets.push(SignalClient::registered(stage.address(replica), peer).await?);
        }
        Ok(())
    }

    async fn settle(&mut self, stage: &mut Stage, living: &[usize]) -> anyhow::Result<()> {
        self.converge(stage, living).await?;
        match &self.load {
            Some((load, _)) => load.progress(WRITES).await,
            None => Ok(()),
        }
    }

    async fn leave(self, _stage: &mut Stage) -> anyhow::Result<()> {
        let Some((load, _balancer)) = self.load else { return Ok(()) };
        for writer in load.end().await? {
            writer.check().await?;
        }
        Ok(())
    }
}

impl Peers {
    /// Waits until the `living` replicas agree with the clients, then has each client reached.
    async fn converge(&mut self, stage: &Stage, living: &[usize]) -> anyhow::Result<()> {
        let (mut probes, mut names) = (Vec::new(), BTreeSet::new());
        let end = Instant::now() + CONVERGES_WITHIN;
        for &replica in living {
            let peer = Peer::random();
            names.insert(peer.id.clone());
            let address = stage.address(replica);
            let probe = loop {
                match timeout(ANSWER_WITHIN, SignalClient::registered(address, &peer)).await {
                    Ok(Ok(probe)) => break probe,
                    why if Instant::now() >= end => {
                        bail!("replica {replica} takes nobody: {why:?}")
                    }
                    _ => sleep(Duration::from_millis(50)).await,
                }
            };
            probes.push((peer, probe));
        }
        loop {
            let online = self.online().await;
            let mut views = Vec::new();
            for (_, probe) in &mut probes {
                let seen: BTreeSet<String> = probe.peers().await?.into_iter().collect();
                views.push(&seen - &names);
            }
            let single = self.clients.iter().all(|client| client.sockets.len() <= 1);
            if single && views.iter().all(|view| *view == online) {
                break;
            }
            let sockets: Vec<usize> =
                self.clients.iter().map(|client| client.sockets.len()).collect();
            ensure!(
                Instant::now() < end,
                "sockets {sockets:?}, with them {online:?}, but replicas see {views:?}"
            );
            sleep(Duration::from_millis(100)).await;
        }
        for (from, probe) in &mut probes {
            for Client { peer, sockets } in &mut self.clients {
                let Some(socket) = sockets.last_mut() else { continue };
                probe.signal(from, &peer.id, &json!(from.id)).await?;
                let from_probe = |frame: &Value| frame["payload"]["data"] == from.id.as_str();
                socket.wait_for(from_probe).await.with_context(|| format!("to {}", peer.id))?;
            }
        }
        self.nothing_went_astray().await
    }

    /// Ids of those with a connection that answers; connections that are over go.
    async fn online(&mut self) -> BTreeSet<String> {
        let mut online = BTreeSet::new();
        for Client { peer, sockets } in &mut self.clients {
            let mut living = Vec::new();
            for mut socket in sockets.drain(..) {
                if matches!(timeout(ANSWER_WITHIN, socket.peers()).await, Ok(Ok(_))) {
                    living.push(socket);
                }
            }
            *sockets = living;
            if !sockets.is_empty() {
                online.insert(peer.id.clone());
            }
        }
        online
    }

    async fn nothing_went_astray(&mut self) -> anyhow::Result<()> {
        for Client { peer, sockets } in &mut self.clients {
            for socket in sockets {
                for frame in socket.frames_within(Duration::from_millis(10)).await {
                    let astray =
                        frame["type"] == "signal" && frame["payload"]["to"] != peer.id.as_str();
                    ensure!(!astray, "{} got {frame}", peer.id);
                }
            }
        }
        Ok(())
    }
}
