//! Two replicas of signal and of the relay, seeded clients, and a fault in the middle of their work.
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
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use testkit::cluster::Cluster;
use testkit::database::Database;
use testkit::keys::Peer;
use testkit::nats::Nats;
use testkit::process::Service;
use testkit::proxy::Proxy;
use testkit::signal_client::SignalClient;
use tokio::time::{sleep, timeout};

use crate::relay_load::Load;

const REPLICAS: usize = 2;
const PEERS: usize = 8;
const WRITERS: usize = 3;

/// What clients do before, during and after the fault.
const OPERATIONS: usize = 25;

/// Writes the relays confirm before and after the fault.
const WRITES: usize = 20;

/// How long presence may take to be the same everywhere.
const CONVERGES_WITHIN: Duration = Duration::from_secs(20);

/// How long a client waits before it gives an answer up.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// What happens in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of a replica of each service, started again later.
    Kill,
    /// A replica is stopped for longer than its lease, and goes on.
    Pause,
    /// A replica of each service is drained and started again.
    Drain,
    /// `kill -9` of all of Postgres, started again.
    Postgres,
    /// `kill -9` of the NATS server, started again.
    Nats,
    /// One replica's connection to NATS carries nothing, and nobody is told.
    CutLink,
    /// One replica's connection to NATS is slow and breaks.
    BadLink,
}

impl Fault {
    fn needs_nats(self) -> bool {
        matches!(self, Self::Nats | Self::CutLink | Self::BadLink)
    }
}

struct World {
    rng: StdRng,
    signals: Vec<Service>,
    relays: Vec<Service>,
    clients: Vec<Client>,
    link: Option<Proxy>,
    // After the services: they end first.
    nats: Option<Nats>,
    _database: Database,
    cluster: Cluster,
}

/// One peer and every connection it has not seen the end of.
struct Client {
    peer: Peer,
    sockets: Vec<SignalClient>,
}

/// Runs the scenario; over NATS, or over Postgres where the fault needs no NATS.
///
/// # Errors
/// The first invariant that does not hold, with the seed.
pub async fn run(fault: Fault, over_nats: bool, seed: u64) -> anyhow::Result<()> {
    let mut world = World::start(over_nats || fault.needs_nats(), seed).await?;
    world.play(fault).await.with_context(|| format!("{fault:?}, FAULT_SEED={seed}"))
}

impl World {
    async fn start(over_nats: bool, seed: u64) -> anyhow::Result<Self> {
        let cluster = Cluster::start().await?;
        let database = Database::within(cluster.options()).await?;
        let nats = if over_nats { Some(Nats::start().await?) } else { None };
        let link = match &nats {
            Some(nats) => Some(Proxy::to(&[nats.address()]).await?),
            None => None,
        };
        let (mut signals, mut relays) = (Vec::new(), Vec::new());
        for nth in 0..REPLICAS {
            let signal = Service::named("signal").database(&database.url());
            let mut signal = signal.set("LEASE_RENEWAL", "1s").set("LEASE_EXPIRY", "4s");
            signal = signal.set("DRAIN_LAG", "100ms").set("DRAIN_GRACE", "8s");
            if let (Some(nats), Some(link)) = (&nats, &link) {
                let through = format!("nats://{}", link.address());
                signal = signal.set("BUS_URL", if nth == 0 { through } else { nats.url() });
            }
            signals.push(signal.start().await?);
            let relay = Service::named("relay").database(&database.url());
            relays.push(relay.set("DRAIN_LAG", "100ms").start().await?);
        }
        let client = |nth| Client {
            peer: Peer::random().with_id(format!("peer-{seed}-{nth}")),
            sockets: Vec::new(),
        };
        let clients = (0..PEERS).map(client).collect();
        let rng = StdRng::seed_from_u64(seed);
        Ok(Self { rng, signals, relays, clients, link, nats, _database: database, cluster })
    }

    async fn play(&mut self, fault: Fault) -> anyhow::Result<()> {
        let relays: Vec<_> = self.relays.iter().map(Service::address).collect();
        let balancer = Proxy::to(&relays).await?;
        let load = Load::start(balancer.address(), WRITERS);
        self.operate(OPERATIONS).await;
        self.converge(&[0, 1]).await.context("before the fault")?;
        load.progress(WRITES).await?;
        self.happen(fault).await?;
        load.progress(WRITES).await?;
        self.operate(OPERATIONS).await;
        self.converge(&[0, 1]).await.context("after the fault")?;
        for writer in load.end().await? {
            writer.check().await?;
        }
        Ok(())
    }

    async fn happen(&mut self, fault: Fault) -> anyhow::Result<()> {
        let few = self.rng.random_range(1..=OPERATIONS);
        match fault {
            Fault::Kill => {
                self.signals[0].kill();
                self.relays[0].kill();
                self.operate(few).await;
                self.converge(&[1]).await.context("among those that live")?;
                self.relays[0].start_again().await?;
                self.signals[0].start_again().await?;
            }
            Fault::Pause => {
                self.signals[0].pause();
                // Longer than the lease: the other takes it for dead.
                self.wait_for_metric(1, "signal_siblings", 0.0).await?;
                self.operate(few).await;
                self.signals[0].resume();
            }
            Fault::Drain => {
                self.signals[0].ask_to_drain();
                self.relays[0].ask_to_drain();
                self.operate(few).await;
                self.signals[0].terminate().await?;
                self.relays[0].terminate().await?;
                self.converge(&[1]).await.context("among those that live")?;
                self.relays[0].start_again().await?;
                self.signals[0].start_again().await?;
            }
            Fault::Postgres => {
                self.cluster.kill();
                self.operate(few).await;
                self.cluster.start_again().await?;
                for service in self.signals.iter_mut().chain(&mut self.relays) {
                    service.ready().await?;
                }
            }
            Fault::Nats => {
                let nats = self.nats.as_mut().context("this fault is NATS's")?;
                nats.kill();
                self.operate(few).await;
                self.nats.as_mut().context("it was there")?.start_again().await?;
            }
            Fault::CutLink => {
                self.link()?.cut();
                self.operate(few).await;
                self.link()?.heal();
            }
            Fault::BadLink => {
                let delay = Duration::from_millis(self.rng.random_range(20..200));
                self.link()?.slow_down(delay);
                self.operate(few / 2).await;
                self.link()?.break_connections();
                self.operate(few / 2).await;
                self.link()?.heal();
            }
        }
        Ok(())
    }

    fn link(&self) -> anyhow::Result<&Proxy> {
        self.link.as_ref().context("this fault is the link's")
    }

    async fn wait_for_metric(&self, replica: usize, name: &str, wanted: f64) -> anyhow::Result<()> {
        let end = Instant::now() + CONVERGES_WITHIN;
        while self.signals[replica].metric(name).await? != wanted {
            ensure!(Instant::now() < end, "{name} does not become {wanted}");
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// What clients do, as the seed says. What fails, fails: the network is theirs to lose.
    async fn operate(&mut self, count: usize) {
        for _ in 0..count {
            let (who, whom) = (self.rng.random_range(0..PEERS), self.rng.random_range(0..PEERS));
            let (what, replica) =
                (self.rng.random_range(0..10), self.rng.random_range(0..REPLICAS));
            let address = self.signals[replica].address();
            let to = self.clients[whom].peer.id.clone();
            let Client { peer, sockets } = &mut self.clients[who];
            match (what, sockets.last_mut()) {
                (0..4, None) | (4, _) => {
                    let registered = SignalClient::registered(address, peer);
                    sockets.extend(timeout(ANSWER_WITHIN, registered).await.into_iter().flatten());
                }
                (5, _) => sockets.clear(),
                (_, Some(socket)) => {
                    let data = json!("in between");
                    let _ = timeout(ANSWER_WITHIN, socket.signal(peer, &to, &data)).await;
                }
                _ => {}
            }
        }
    }

    /// Waits until the `living` replicas agree with the clients, then has each client reached.
    async fn converge(&mut self, living: &[usize]) -> anyhow::Result<()> {
        let (mut probes, mut names) = (Vec::new(), BTreeSet::new());
        let end = Instant::now() + CONVERGES_WITHIN;
        for &replica in living {
            let peer = Peer::random();
            names.insert(peer.id.clone());
            let address = self.signals[replica].address();
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
