//! `switchyard up`: everything on one machine, from nothing to a proof that it works.
//!
//! ```text
//! lock -> Postgres -> migrations -> roles -> certificate -> services -> ready -> self-check
//!                                                                                    |
//! exit <- Postgres stops <- services drain <- Ctrl-C or SIGTERM <- follow the logs <-+
//! ```

mod announce;
mod board;
mod front;
mod plan;
pub(crate) mod programs;
mod reach;
mod roles;

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use self::board::Board;
pub(crate) use self::front::{bracketed, turn_urls};
use self::plan::Plan;
use crate::cli::{EXIT_OK, EXIT_UNCLEAN, Place, UpArgs};
use crate::database::{self, COMES_UP};
use crate::layout::Layout;
use crate::lock::Lock;
use crate::output::Output;
use crate::postgres::Cluster;
use crate::supervise::{Program, Starter, Stop};
use crate::{http, migrate, ports, selfcheck};

/// How long the services may take until they are ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long services that lost their launcher may take to drain.
const DRAINING: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(30);

/// Runs the stack until asked to stop; the value is the exit code.
pub(crate) async fn run(place: &Place, args: UpArgs) -> anyhow::Result<u8> {
    let places = ports::places(&args.only, args.listen, args.port_offset, &args.port)?;
    let layout = Layout::find(place)?;
    layout.prepare()?;
    let lock = Lock::take(&layout.lock())?;
    layout.account().own(&layout.lock())?;
    wait_for_ports(&layout, &places).await?;
    let output = Output::start(args.json);
    let plan = Plan::new(&args, places, layout, place.foreign_url().is_none())?;
    let mut signals = Signals::new()?;
    let mut stack = Stack::new(plan, output.clone())?;

    let result = tokio::select! {
        up = stack.bring_up(place) => up,
        () = signals.next() => Ok(()), // asked to stop before it was up
    };
    if result.is_ok() && !signals.came {
        signals.next().await;
    }
    let code = stack.stop(&mut signals).await;
    output.flush();
    drop(lock);
    result.map(|()| code)
}

/// Fails when a port is taken. After a launcher that was killed its services may still be
/// draining: they are waited for.
async fn wait_for_ports(layout: &Layout, places: &[ports::Place]) -> anyhow::Result<()> {
    let deadline = Instant::now() + DRAINING;
    while layout.state().exists() && Instant::now() < deadline {
        if ports::require_free(places).is_ok() {
            break;
        }
        sleep(POLL).await;
    }
    ports::require_free(places)
}

/// Everything that was started.
struct Stack {
    plan: Plan,
    board: Board,
    starter: Starter,
    output: Output,
    services: Group,
    postgres: Group,
}

/// Programs that are stopped together.
#[derive(Default)]
struct Group {
    stop: Stop,
    tasks: JoinSet<bool>,
}

impl Group {
    fn keep(&mut self, starter: &Starter, board: &Board, program: Program) {
        let board = board.clone();
        let report = move |report| board.note(report);
        self.tasks.spawn(starter.clone().keep(program, self.stop.clone(), report));
    }

    /// Asks all to end and waits; a signal meanwhile insists. `true` when all ended cleanly.
    async fn end(&mut self, signals: &mut Signals) -> bool {
        self.stop.asked.cancel();
        let mut clean = true;
        loop {
            tokio::select! {
                ended = self.tasks.join_next() => match ended {
                    Some(ended) => clean &= ended.unwrap_or(false),
                    None => return clean,
                },
                () = signals.next() => self.stop.insisted.cancel(),
            }
        }
    }
}

impl Stack {
    fn new(plan: Plan, output: Output) -> anyhow::Result<Self> {
        let starter = Starter {
            launcher: programs::launcher(&plan.layout)?,
            account: plan.layout.account().clone(),
            output: output.clone(),
        };
        let board = Board::new(&plan, output.clone());
        let (services, postgres) = Default::default();
        Ok(Self { plan, board, starter, output, services, postgres })
    }

    async fn bring_up(&mut self, place: &Place) -> anyhow::Result<()> {
        let began = Instant::now();
        let services = self.plan.services.iter().map(|service| service.place.service.name());
        programs::require(&self.plan.layout, services)?;
        let (options, cluster) = self.database(place).await?;
        let pool = database::pool(options).await?;
        self.migrate(&pool).await?;
        let urls = match &cluster {
            Some(cluster) => roles::give_logins(&pool, cluster, &self.plan).await?,
            None => {
                let url = place.foreign_url().unwrap_or_default();
                roles::hand_on(&pool, url, &self.plan).await?
            }
        };
        for program in self.plan.programs(&urls)? {
            self.services.keep(&self.starter, &self.board, program);
        }
        self.wait_ready().await?;
        // What stands in front takes a service it finds absent for down, for some seconds.
        for program in self.plan.front.programs(&self.plan) {
            self.services.keep(&self.starter, &self.board, program);
        }
        self.plan.front.reachable(READY_WITHIN).await?;
        let ready_ms = began.elapsed().as_millis();
        announce::services(&self.plan, &self.board, &self.output, ready_ms);
        if !self.plan.no_self_check {
            self.self_check(&pool).await?;
        }
        announce::link(&self.plan, &self.output);
        self.output.say("Ctrl-C stops everything; nothing is lost.\n");
        pool.close().await;
        Ok(())
    }

    /// The given database, or the private one, running.
    async fn database(
        &mut self,
        place: &Place,
    ) -> anyhow::Result<(PgConnectOptions, Option<Cluster>)> {
        if let Some(url) = place.foreign_url() {
            self.output.say("database  the one DATABASE_URL names");
            return Ok((database::foreign_options(url)?, None));
        }
        let cluster = Cluster::find(place, &self.plan.layout)?;
        let version = cluster.binaries().major();
        let data = self.plan.layout.postgres();
        if Cluster::version(&self.plan.layout)?.is_none() {
            self.output.say(format!("database  making a private PostgreSQL {version}"));
        }
        let made = cluster.initialise().await?;
        cluster.prepare().await?;
        self.postgres.keep(&self.starter, &self.board, cluster.program());
        cluster.ready(COMES_UP).await?;
        self.output.say(format!("database  PostgreSQL {version} in {}", data.display()));
        self.output.event("database", json!({ "version": version, "made": made, "dir": data }));
        Ok((cluster.owner()?, Some(cluster)))
    }

    async fn migrate(&self, pool: &PgPool) -> anyhow::Result<()> {
        let applied = migrate::apply(pool).await?;
        if !applied.is_empty() {
            self.output.say(format!("database  {} migrations applied", applied.len()));
        }
        self.output.event("migrated", json!({ "applied": applied }));
        Ok(())
    }

    /// Waits until every service says it is ready; fails when one cannot become it.
    async fn wait_ready(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        for service in &self.plan.services {
            let name = service.place.service.name();
            loop {
                let answer =
                    http::get(service.place.admin, "/readyz", Duration::from_secs(2)).await;
                let why = match answer {
                    Ok(answer) if answer.status == 200 => break,
                    Ok(answer) => String::from_utf8_lossy(&answer.body).trim().to_owned(),
                    Err(why) => format!("{why:#}"),
                };
                if let Some(how) = self.board.hopeless(name) {
                    bail!("{name} {how}: its lines above say why");
                }
                if Instant::now() >= deadline {
                    bail!("{name} is not ready after {READY_WITHIN:?}: {why}");
                }
                sleep(POLL).await;
            }
            self.board.ready(name);
        }
        Ok(())
    }

    async fn self_check(&self, pool: &PgPool) -> anyhow::Result<()> {
        let places: Vec<_> = self.plan.services.iter().map(|service| service.place).collect();
        let proof = selfcheck::run(&places, pool).await.context("the stack runs but fails")?;
        self.output.say(proof.line());
        self.output.event("self_check", serde_json::to_value(proof)?);
        Ok(())
    }

    /// Services first, so that they can write down what they promised; then Postgres.
    async fn stop(&mut self, signals: &mut Signals) -> u8 {
        self.output.say("\nstopping; Ctrl-C again insists");
        self.output.event("stopping", json!({}));
        let mut clean = self.services.end(signals).await;
        clean &= self.postgres.end(signals).await;
        self.board.clear();
        self.output.say(if clean { "stopped" } else { "stopped, not all of it by itself" });
        self.output.event("stopped", json!({ "clean": clean }));
        if clean { EXIT_OK } else { EXIT_UNCLEAN }
    }
}

/// Requests to stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    came: bool,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            came: false,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.came = true;
    }
}
