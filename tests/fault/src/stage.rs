//! Everything that runs in one scene, and what the seed says.

use std::net::SocketAddr;
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use testkit::cluster::Cluster;
use testkit::database::Database;
use testkit::http_client::HttpClient;
use testkit::nats::Nats;
use testkit::process::Service;
use testkit::proxy::Proxy;
use testkit::time::now_ms;

use crate::clock::Clock;
use crate::drama::{Fault, Over, Players, Scene, soon};

/// Replicas of one service, or of two, with a Postgres of their own.
#[derive(Debug)]
pub struct Stage {
    /// What the seed says.
    pub rng: StdRng,
    pub(crate) replicas: Vec<Replica>,
    // After the services: they end first.
    nats: Option<Nats>,
    database: Database,
    pub(crate) cluster: Cluster,
}

/// One process of each service, and its links to the rest.
#[derive(Debug)]
pub(crate) struct Replica {
    services: Vec<(&'static str, Service)>,
    to_postgres: Option<Proxy>,
    to_nats: Option<Proxy>,
    clock: Option<Clock>,
}

impl Stage {
    pub(crate) async fn start<P: Players>(
        players: &P,
        scene: Scene,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let bad_link = matches!(scene.fault, Fault::CutPostgres | Fault::BadPostgres);
        let cluster =
            if bad_link { Cluster::start_with_port().await? } else { Cluster::start().await? };
        let database = Database::within(cluster.options()).await?;
        let nats = if scene.over == Over::Nats { Some(Nats::start().await?) } else { None };
        let mut stage = Self {
            rng: StdRng::seed_from_u64(seed),
            replicas: Vec::new(),
            nats,
            database,
            cluster,
        };
        for _ in 0..scene.replicas {
            let replica = stage.replica(players, scene).await?;
            stage.replicas.push(replica);
        }
        Ok(stage)
    }

    async fn replica<P: Players>(&self, players: &P, scene: Scene) -> anyhow::Result<Replica> {
        let to_postgres = match self.cluster.address() {
            Some(address) => Some(Proxy::to(&[address]).await?),
            None => None,
        };
        let to_nats = match &self.nats {
            Some(nats) => Some(Proxy::to(&[nats.address()]).await?),
            None => None,
        };
        let clock = if scene.fault == Fault::Clock { Some(Clock::right()?) } else { None };
        let url = match &to_postgres {
            Some(proxy) => self.database.url_at(proxy.address()),
            None => self.database.url(),
        };
        let mut services = Vec::new();
        for &name in P::SERVICES {
            let mut service = Service::named(name).database(&url);
            service = service.set("DRAIN_LAG", "100ms").set("DRAIN_GRACE", "8s");
            if let Some(proxy) = to_nats.as_ref().filter(|_| P::ON_BUS.contains(&name)) {
                service = service.set("BUS_URL", format!("nats://{}", proxy.address()));
            }
            if let Some(clock) = &clock {
                service = clock.govern(service);
            }
            services.push((name, players.set(name, service).start().await?));
        }
        Ok(Replica { services, to_postgres, to_nats, clock })
    }

    /// The numbers of all replicas.
    pub fn all(&self) -> Vec<usize> {
        (0..self.replicas.len()).collect()
    }

    /// Where the first service of a replica is.
    pub fn address(&self, replica: usize) -> SocketAddr {
        self.replicas[replica].services[0].1.address()
    }

    /// Where some replica is.
    pub fn anywhere(&mut self) -> SocketAddr {
        let replica = self.rng.random_range(0..self.replicas.len());
        self.address(replica)
    }

    /// The service of that name at every replica.
    pub(crate) fn services(&self, name: &str) -> impl Iterator<Item = &Service> {
        let all = self.replicas.iter().flat_map(|replica| &replica.services);
        all.filter(move |(one, _)| *one == name).map(|(_, service)| service)
    }

    pub(crate) fn nats(&mut self) -> anyhow::Result<&mut Nats> {
        self.nats.as_mut().context("this fault is NATS's")
    }

    /// Waits until so many replicas count as living.
    pub(crate) async fn living(&self, sql: &'static str, wanted: usize) -> anyhow::Result<()> {
        soon(async || {
            let living = self.count(sql).await?;
            ensure!(living == wanted, "{living} replicas count as living, not {wanted}");
            Ok(())
        })
        .await
    }

    /// What a query counts.
    pub(crate) async fn count(&self, sql: &'static str) -> anyhow::Result<usize> {
        let pool = self.database.pool().await?;
        let count: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await?;
        pool.close().await;
        Ok(usize::try_from(count)?)
    }

    /// Waits until every replica says that it is ready.
    pub(crate) async fn ready(&mut self) -> anyhow::Result<()> {
        for replica in &mut self.replicas {
            for (_, service) in &mut replica.services {
                service.ready().await?;
            }
        }
        Ok(())
    }
}

impl Replica {
    pub(crate) fn kill(&mut self) {
        self.each(Service::kill);
    }

    pub(crate) fn pause(&mut self) {
        self.each(Service::pause);
    }

    pub(crate) fn resume(&mut self) {
        self.each(Service::resume);
    }

    pub(crate) fn ask_to_drain(&mut self) {
        self.each(Service::ask_to_drain);
    }

    fn each(&mut self, what: impl Fn(&mut Service)) {
        self.services.iter_mut().for_each(|(_, service)| what(service));
    }

    /// Waits until all that were asked to drain have ended, in time.
    pub(crate) async fn drained(&mut self) -> anyhow::Result<()> {
        for (name, service) in &mut self.services {
            let status = service.drained().await?;
            // 3: some client read nothing, its farewell included, until the grace was over.
            ensure!(
                matches!(status.code(), Some(0 | 3)),
                "{name} drained and ended with {status}:\n{}",
                service.log()
            );
        }
        Ok(())
    }

    pub(crate) async fn start_again(&mut self) -> anyhow::Result<()> {
        for (_, service) in &mut self.services {
            service.start_again().await?;
        }
        Ok(())
    }

    pub(crate) fn to_postgres(&self) -> anyhow::Result<&Proxy> {
        self.to_postgres.as_ref().context("this fault is of the link to Postgres")
    }

    pub(crate) fn to_nats(&self) -> anyhow::Result<&Proxy> {
        self.to_nats.as_ref().context("this fault is of the link to NATS")
    }

    /// Shifts its clock.
    pub(crate) fn shift_clock(&self, seconds: i64) -> anyhow::Result<()> {
        self.clock.as_ref().context("this fault is the clock's")?.shift(seconds)
    }

    /// Waits until its answers show that its clock is so far ahead. They would not show that it was put
    /// back: the HTTP library takes the last date it wrote for good until it is over.
    pub(crate) async fn shows_clock(&self, seconds: i64) -> anyhow::Result<()> {
        for (name, service) in &self.services {
            soon(async || {
                let admin = HttpClient::plain(service.admin()).new_connections();
                let answer = admin.get("/livez").await?;
                let shown = httpdate::parse_http_date(answer.header("date"))?;
                let shown = i64::try_from(shown.duration_since(UNIX_EPOCH)?.as_secs())?;
                let apart = shown - now_ms() / 1_000 - seconds;
                ensure!(apart.abs() < 2, "{name}'s clock is {apart} s from where it should be");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}
