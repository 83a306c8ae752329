//! One run: a service's players at work, a fault in the middle, and whether everything holds after it.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use rand::RngExt as _;
use testkit::process::Builder;
use tokio::time::{sleep, timeout};

use crate::stage::Stage;

/// How long everything may take to be in order again when a fault is over.
pub(crate) const CONVERGES_WITHIN: Duration = Duration::from_secs(20);

/// How long a client waits before it gives an answer up.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// What happens in the middle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of a replica, started again later.
    Kill,
    /// A replica is stopped for longer than its lease, and goes on.
    Pause,
    /// A replica is drained and started again.
    Drain,
    /// `kill -9` of all of Postgres, started again.
    Postgres,
    /// One replica's connections to Postgres carry nothing for longer than its lease, and nobody is told.
    CutPostgres,
    /// One replica's connections to Postgres are slow, and break.
    BadPostgres,
    /// One replica's clock jumps away from the others', and back.
    Clock,
    /// `kill -9` of the NATS server, started again.
    Nats,
    /// One replica's connection to NATS carries nothing, and nobody is told.
    CutNats,
    /// One replica's connection to NATS is slow and breaks.
    BadNats,
}

/// What carries messages between replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The database.
    Postgres,
    /// A NATS server.
    Nats,
}

/// What is played.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// The fault.
    pub fault: Fault,
    /// The bus.
    pub over: Over,
    /// How many replicas there are; one of them meets the fault.
    pub replicas: usize,
}

/// The clients of one service: what they do, and what has to hold.
///
/// Nothing in them is random but what [`Stage::rng`] says.
#[expect(async_fn_in_trait, reason = "one test awaits them, on its own thread")]
pub trait Players: Sized {
    /// What each replica consists of.
    const SERVICES: &'static [&'static str];
    /// SQL: how many replicas count as living.
    const LIVING: &'static str;
    /// Seconds by which a clock may be wrong without anybody noticing.
    const SKEW_S: i64;
    /// What clients do before and after the fault; during it, as many at most.
    const OPERATIONS: usize = 25;

    /// Before anything runs.
    async fn gather(seed: u64) -> anyhow::Result<Self>;

    /// Those of them that speak over the bus.
    const ON_BUS: &'static [&'static str] = &[];

    /// Settings of one of the services.
    fn set(&self, _name: &'static str, service: Builder) -> Builder {
        leased(service)
    }

    /// When everything runs.
    async fn enter(&mut self, _stage: &mut Stage) -> anyhow::Result<()> {
        Ok(())
    }

    /// `count` operations, as the seed says. What fails, fails: the network is theirs to lose.
    ///
    /// # Errors
    /// An invariant that does not hold.
    async fn act(&mut self, stage: &mut Stage, count: usize) -> anyhow::Result<()>;

    /// Brings about what the fault is to meet, for whatever seed.
    async fn brace(&mut self, _stage: &mut Stage, _victim: usize) -> anyhow::Result<()> {
        Ok(())
    }

    /// Waits until the `living` replicas and the clients agree, and checks the invariants.
    ///
    /// # Errors
    /// The first that does not hold.
    async fn settle(&mut self, stage: &mut Stage, living: &[usize]) -> anyhow::Result<()>;

    /// At the end.
    async fn leave(self, _stage: &mut Stage) -> anyhow::Result<()> {
        Ok(())
    }
}

/// A lease that a test can wait for the end of.
pub(crate) fn leased(service: Builder) -> Builder {
    service.set("LEASE_RENEWAL", "1s").set("LEASE_EXPIRY", "4s")
}

/// Plays one scene.
///
/// # Errors
/// The first invariant that does not hold, with the seed.
pub async fn run<P: Players>(scene: Scene, seed: u64) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut players = P::gather(seed).await?;
    let mut stage = Stage::start(&players, scene, seed).await?;
    let started = begun.elapsed();
    let played = play(&mut stage, &mut players, scene.fault).await;
    let played = match played {
        Ok(()) => players.leave(&mut stage).await,
        Err(why) => Err(why),
    };
    tell_duration(scene, seed, started, begun.elapsed());
    played.with_context(|| format!("{:?}: {scene:?}, FAULT_SEED={seed}", P::SERVICES))
}

#[expect(clippy::print_stdout, reason = "scripts/faults shows it")]
fn tell_duration(scene: Scene, seed: u64, started: Duration, all: Duration) {
    println!(
        "{scene:?}, seed {seed}: {:.1}s, {:.1} of them to start",
        all.as_secs_f64(),
        started.as_secs_f64()
    );
}

async fn play<P: Players>(stage: &mut Stage, players: &mut P, fault: Fault) -> anyhow::Result<()> {
    let all = stage.all();
    players.enter(stage).await?;
    players.act(stage, P::OPERATIONS).await?;
    players.settle(stage, &all).await.context("before the fault")?;
    strike(stage, players, fault).await.context("during the fault")?;
    players.settle(stage, &all).await.context("after the fault")?;
    players.act(stage, P::OPERATIONS).await?;
    players.settle(stage, &all).await.context("long after the fault")
}

async fn strike<P: Players>(
    stage: &mut Stage,
    players: &mut P,
    fault: Fault,
) -> anyhow::Result<()> {
    let victim = stage.rng.random_range(0..stage.replicas.len());
    let few = stage.rng.random_range(1..=P::OPERATIONS);
    let others: Vec<usize> = stage.all().into_iter().filter(|&one| one != victim).collect();
    players.brace(stage, victim).await.context("in preparation")?;
    match fault {
        Fault::Kill => {
            stage.replicas[victim].kill();
            players.act(stage, few).await?;
            players.settle(stage, &others).await.context("among those that live")?;
            stage.replicas[victim].start_again().await?;
        }
        Fault::Pause => {
            stage.replicas[victim].pause();
            // Longer than the lease: the others take it for dead.
            stage.living(P::LIVING, others.len()).await?;
            players.act(stage, few).await?;
            stage.replicas[victim].resume();
        }
        Fault::Drain => {
            stage.replicas[victim].ask_to_drain();
            players.act(stage, few).await?;
            stage.replicas[victim].drained().await?;
            players.settle(stage, &others).await.context("among those that live")?;
            stage.replicas[victim].start_again().await?;
        }
        Fault::Postgres => {
            stage.cluster.kill();
            players.act(stage, few).await?;
            stage.cluster.start_again().await?;
        }
        Fault::CutPostgres => {
            stage.replicas[victim].to_postgres()?.cut();
            stage.living(P::LIVING, others.len()).await?;
            players.act(stage, few).await?;
            stage.replicas[victim].to_postgres()?.heal();
        }
        Fault::BadPostgres => {
            let delay = Duration::from_millis(stage.rng.random_range(20..150));
            stage.replicas[victim].to_postgres()?.slow_down(delay);
            players.act(stage, few / 2).await?;
            stage.replicas[victim].to_postgres()?.break_connections();
            players.act(stage, few - few / 2).await?;
            stage.replicas[victim].to_postgres()?.heal();
        }
        Fault::Clock => {
            let replica = &stage.replicas[victim];
            replica.shift_clock(P::SKEW_S)?;
            replica.shows_clock(P::SKEW_S).await?;
            if stage.rng.random_bool(0.5) {
                replica.shift_clock(-P::SKEW_S)?;
            }
            players.act(stage, few).await?;
            players.settle(stage, &stage.all()).await.context("with one clock shifted")?;
            anyhow::ensure!(stage.count(P::LIVING).await? == stage.replicas.len());
            stage.replicas[victim].shift_clock(0)?;
        }
        Fault::Nats => {
            stage.nats()?.kill();
            players.act(stage, few).await?;
            stage.nats()?.start_again().await?;
        }
        Fault::CutNats => {
            stage.replicas[victim].to_nats()?.cut();
            players.act(stage, few).await?;
            stage.replicas[victim].to_nats()?.heal();
        }
        Fault::BadNats => {
            let delay = Duration::from_millis(stage.rng.random_range(20..200));
            stage.replicas[victim].to_nats()?.slow_down(delay);
            players.act(stage, few / 2).await?;
            stage.replicas[victim].to_nats()?.break_connections();
            players.act(stage, few - few / 2).await?;
            stage.replicas[victim].to_nats()?.heal();
        }
    }
    stage.ready().await
}

/// What came of `attempt`, if it was answered and well.
pub(crate) async fn answered<T>(attempt: impl Future<Output = anyhow::Result<T>>) -> Option<T> {
    timeout(ANSWER_WITHIN, attempt).await.ok()?.ok()
}

/// Tries again until it holds, for as long as everything may take to be in order; else why it does not.
pub(crate) async fn soon<T>(holds: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    within(CONVERGES_WITHIN, holds).await
}

/// As [`soon`], within `limit`.
pub(crate) async fn within<T>(
    limit: Duration,
    mut holds: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let end = Instant::now() + limit;
    loop {
        match holds().await {
            Err(why) if Instant::now() >= end => {
                return Err(why).with_context(|| format!("still so after {limit:?}"));
            }
            Err(_) => sleep(Duration::from_millis(50)).await,
            fine => return fine,
        }
    }
}
