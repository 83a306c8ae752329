//! Posts to one room of a mesh node that has several replicas, and listeners at each.
//!
//! Invariants, besides that everything is in order 20 s after the fault:
//! 1. What was answered with 202 is heard by everybody who listens to the room, at whichever replica;
//!    who lost its replica goes on at another one behind what it heard last, and misses nothing.
//! 2. Nobody hears what nobody posted.
//! 3. A proof that counted once never counts again, on no replica: not after a kill, nor after the
//!    database forgot it.
//! 4. One replica leads, and only one.

mod listener;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, ensure};
use rand::RngExt as _;
use testkit::mesh_client::{MeshClient, cheap};
use testkit::process::Builder;

use crate::drama::{Players, answered, soon};
use crate::stage::Stage;
use listener::Ear;

const ROOM: &str = "648904681423c5abca2077dde957f78af460be70275cc2ce6ea10a3e134461e4";

/// Accepted requests that are tried again, the newest of all.
const REPLAYS: usize = 10;

/// What was posted, and all listeners.
#[derive(Debug)]
pub struct Posts {
    seed: u64,
    ears: Vec<Ear>,
    /// Every body that anybody tried to post.
    tried: Arc<Mutex<HashSet<String>>>,
    /// Bodies answered with 202.
    accepted: Vec<String>,
    /// The requests that were.
    paid: Vec<(String, String)>,
    number: u64,
}

impl Players for Posts {
    const SERVICES: &'static [&'static str] = &["mesh"];
    const LIVING: &'static str =
        "SELECT count(*) FROM mesh.replica WHERE seen_at > now() - interval '10 s'";
    // Tokens may be 5 s from the future.
    const SKEW_S: i64 = 3;

    async fn gather(seed: u64) -> anyhow::Result<Self> {
        let (ears, tried, accepted, paid) = Default::default();
        Ok(Self { seed, ears, tried, accepted, paid, number: 0 })
    }

    fn set(&self, _name: &'static str, service: Builder) -> Builder {
        cheap(service)
    }

    async fn enter(&mut self, stage: &mut Stage) -> anyhow::Result<()> {
        let all: Vec<_> = stage.all().into_iter().map(|replica| stage.address(replica)).collect();
        for replica in stage.all() {
            let mut places = all.clone();
            places.rotate_left(replica);
            self.ears.push(Ear::open(places, self.tried.clone()).await?);
        }
        Ok(())
    }

    async fn act(&mut self, stage: &mut Stage, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            let address = stage.anywhere();
            if stage.rng.random_bool(0.8) {
                self.post(address).await;
            } else if let Some(nth) = self.paid.len().checked_sub(1) {
                let nth = stage.rng.random_range(nth.saturating_sub(REPLAYS)..=nth);
                self.replay(address, nth).await?;
            }
        }
        Ok(())
    }

    async fn brace(&mut self, stage: &mut Stage, victim: usize) -> anyhow::Result<()> {
        // The last of what it accepts before the fault.
        for _ in 0..5 {
            self.post(stage.address(victim)).await;
        }
        Ok(())
    }

    async fn settle(&mut self, stage: &mut Stage, living: &[usize]) -> anyhow::Result<()> {
        // At once: whoever forgot a proof in the fault may not take it for new for a moment.
        self.replay_newest(stage, living).await?;
        for &replica in living {
            let address = stage.address(replica);
            let before = self.accepted.len();
            soon(async || {
                self.post(address).await;
                ensure!(self.accepted.len() > before, "replica {replica} takes no posts");
                Ok(())
            })
            .await?;
        }
        soon(async || {
            let all = self.ears.iter().enumerate();
            for (nth, ear) in all.filter(|(nth, _)| living.contains(nth) || living.len() > 1) {
                let heard = ear.heard();
                let missing: Vec<_> =
                    self.accepted.iter().filter(|body| !heard.contains(*body)).collect();
                ensure!(missing.is_empty(), "listener {nth} misses {missing:?}");
            }
            Ok(())
        })
        .await?;
        for ear in &self.ears {
            ear.check()?;
        }
        self.replay_newest(stage, living).await?;
        soon(async || {
            let mut leaders = 0.0;
            for (replica, service) in stage.services("mesh").enumerate() {
                if living.contains(&replica) {
                    leaders += service.metric("mesh_leads").await?;
                }
            }
            ensure!(leaders == 1.0, "{leaders} replicas lead");
            Ok(())
        })
        .await
    }
}

impl Posts {
    async fn post(&mut self, address: std::net::SocketAddr) {
        self.number += 1;
        let body = format!("post {} of {}", self.number, self.seed);
        self.tried.lock().unwrap_or_else(PoisonError::into_inner).insert(body.clone());
        let client = MeshClient::plain(address);
        let attempt = async {
            let price = client.price(ROOM).await?;
            let path = format!("/room/{ROOM}");
            let path = format!("{path}?{}", price.pay("POST", &path, &[body.as_bytes()])?);
            let answer = client.post(&path, body.clone()).await?;
            ensure!(answer.status == 202, "{}", answer.text());
            Ok(path)
        };
        if let Some(path) = answered(attempt).await {
            self.paid.push((path, body.clone()));
            self.accepted.push(body);
        }
    }

    async fn replay_newest(&self, stage: &Stage, living: &[usize]) -> anyhow::Result<()> {
        for nth in self.paid.len().saturating_sub(REPLAYS)..self.paid.len() {
            for &replica in living {
                self.replay(stage.address(replica), nth).await?;
            }
        }
        Ok(())
    }

    /// Sends an accepted request once more.
    async fn replay(&self, address: std::net::SocketAddr, nth: usize) -> anyhow::Result<()> {
        let (path, body) = self.paid.get(nth).context("there is one")?;
        let client = MeshClient::plain(address);
        let Some(answer) = answered(client.post(path, body.clone())).await else { return Ok(()) };
        eprintln!(
            "REPLAY {} {}",
            answer.status,
            answer.text().chars().take(60).collect::<String>()
        );
        ensure!(answer.status != 202, "a proof counted twice: {}", answer.text());
        ensure!(answer.status >= 400, "{}: {}", answer.status, answer.text());
        Ok(())
    }
}
