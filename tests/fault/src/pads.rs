//! Pads of peer-linker, linked in pairs across replicas.
//!
//! Invariants, besides that everything is in order 20 s after the fault:
//! 1. No two clients hold one name, wherever they registered it; who lost it meanwhile is cut off.
//! 2. Links are symmetric: whoever's partner is gone, or linked to nobody, is told.
//! 3. Payload comes from the other end of the link and from nobody else, in order, whole, and with
//!    nothing missing before the place where the link was cut. What a living link was given, arrives.
//! 4. A name is free when its client is gone, or its replica's lease over.
//! 5. Pads of any two living replicas can be linked.

mod link;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rand::RngExt as _;
use testkit::pad_client::{Generation, PadClient, Program};

use crate::drama::{Players, answered, soon, within};
use crate::stage::Stage;
use link::{Link, Open};

const PADS: usize = 6;

/// Payloads of one operation.
const BURST: u32 = 20;

/// Payloads that show that a link lives.
const PROBES: u32 = 3;

/// A lease of 4 s, a renewal of 1 s, and what a busy machine adds.
const FREE_WITHIN: Duration = Duration::from_secs(10);

/// Everybody with a pad.
#[derive(Debug)]
pub struct Pads {
    generation: Generation,
    pads: Vec<Pad>,
    /// Links made so far.
    links: u64,
}

/// One name and the connections it was registered by.
#[derive(Debug)]
struct Pad {
    name: String,
    open: Option<Open>,
    /// Connections that did not answer; they may hold the name still.
    mute: Vec<Open>,
    /// Connections that held the name before somebody else was given it.
    replaced: Vec<Open>,
}

impl Players for Pads {
    const SERVICES: &'static [&'static str] = &["peer-linker"];
    const LIVING: &'static str = "SELECT count(*) FROM peer_linker.node";
    const SKEW_S: i64 = 3_600;
    const OPERATIONS: usize = 20;

    async fn gather(seed: u64) -> anyhow::Result<Self> {
        let pad = |nth| Pad {
            name: format!("pad-{seed}-{nth}"),
            open: None,
            mute: Vec::new(),
            replaced: Vec::new(),
        };
        let generation = Generation::BOTH[usize::from(seed.is_multiple_of(2))];
        Ok(Self { generation, pads: (0..PADS).map(pad).collect(), links: 0 })
    }

    async fn act(&mut self, stage: &mut Stage, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            let (one, other) = (stage.rng.random_range(0..PADS), stage.rng.random_range(0..PADS));
            match stage.rng.random_range(0..10) {
                0..3 => self.register(stage, one).await,
                3..5 => self.link(one, other).await?,
                5..8 => {
                    let count = stage.rng.random_range(1..=BURST);
                    self.send(one, count).await?;
                }
                8 => self.unlink(one).await?,
                _ => self.pads[one].open = None,
            }
            self.read(other).await?;
        }
        Ok(())
    }

    async fn brace(&mut self, stage: &mut Stage, victim: usize) -> anyhow::Result<()> {
        // A link into the victim and, with three replicas, one past it; bytes under way on each.
        for (nth, replica) in stage.all().into_iter().chain([victim]).enumerate().take(PADS) {
            self.pads[nth].open = None;
            soon(async || self.register_at(stage, nth, replica).await).await?;
        }
        for one in (0..stage.replicas.len()).step_by(2) {
            self.link(one, one + 1).await?;
            self.send(one, BURST).await?;
            self.send(one + 1, BURST).await?;
        }
        Ok(())
    }

    async fn settle(&mut self, stage: &mut Stage, living: &[usize]) -> anyhow::Result<()> {
        soon(async || {
            self.read_all().await?;
            self.symmetric()
        })
        .await?;
        for one in 0..PADS {
            self.send(one, PROBES).await?;
        }
        soon(async || {
            self.read_all().await?;
            self.symmetric()?;
            self.all_arrived()
        })
        .await?;
        self.replaced_are_cut_off().await?;
        let addresses: Vec<_> = living.iter().map(|&replica| stage.address(replica)).collect();
        let mut probes = Vec::new();
        for &address in &addresses {
            let connect = PadClient::activated(self.generation, Program::PeerLinker, address);
            probes.push(connect.await.context("a replica takes nobody")?);
        }
        for pad in &mut self.pads {
            pad.mute.clear();
            for probe in &mut probes {
                pad.check_name(probe).await?;
            }
        }
        meet(&mut probes).await
    }
}

impl Pads {
    async fn register(&mut self, stage: &mut Stage, one: usize) {
        let address = stage.anywhere();
        let Pad { name, open, mute, replaced } = &mut self.pads[one];
        if let Some(before) = open.take() {
            // Half of them hang up before they come again.
            if stage.rng.random_bool(0.5) {
                mute.push(before);
            }
        }
        let attempt = async {
            let mut client =
                PadClient::activated(self.generation, Program::PeerLinker, address).await?;
            ensure!(client.register_pad(name.as_bytes()).await?, "refused");
            Ok(client)
        };
        if let Some(client) = answered(attempt).await {
            replaced.append(mute);
            *open = Some(Open::new(client));
        }
    }

    async fn register_at(
        &mut self,
        stage: &Stage,
        one: usize,
        replica: usize,
    ) -> anyhow::Result<()> {
        let Pad { name, open, mute, .. } = &mut self.pads[one];
        mute.clear();
        let address = stage.address(replica);
        let mut client =
            PadClient::activated(self.generation, Program::PeerLinker, address).await?;
        ensure!(client.register_pad(name.as_bytes()).await?, "{name} is refused");
        *open = Some(Open::new(client));
        Ok(())
    }

    /// The two places, when both have a connection.
    fn both(&mut self, one: usize, other: usize) -> Option<(&mut Open, &mut Open)> {
        let [one, other] = self.pads.get_disjoint_mut([one, other]).ok()?;
        Some((one.open.as_mut()?, other.open.as_mut()?))
    }

    async fn link(&mut self, one: usize, other: usize) -> anyhow::Result<()> {
        self.read(one).await?;
        self.read(other).await?;
        self.links += 1;
        let number = self.links;
        let secret = number.to_le_bytes();
        let name = self.pads[other].name.clone();
        let Some((a, b)) = self.both(one, other) else { return Ok(()) };
        if a.link.is_some() || b.link.is_some() {
            return Ok(());
        }
        let linked = a.client.link_to(&mut b.client, name.as_bytes(), &secret);
        if answered(linked).await.is_some() {
            a.link = Some(Link::new(number, one, other));
            b.link = Some(Link::new(number, other, one));
        } else {
            self.give_up(one);
            self.give_up(other);
        }
        Ok(())
    }

    async fn send(&mut self, one: usize, count: u32) -> anyhow::Result<()> {
        self.read(one).await?;
        let Some(open) = &mut self.pads[one].open else { return Ok(()) };
        for _ in 0..count {
            if open.link.is_some() && answered(open.send()).await.is_none() {
                self.give_up(one);
                break;
            }
        }
        Ok(())
    }

    async fn unlink(&mut self, one: usize) -> anyhow::Result<()> {
        let Some(open) = &mut self.pads[one].open else { return Ok(()) };
        if open.link.is_none() {
            return Ok(());
        }
        if answered(open.client.unlink()).await.is_none() {
            self.give_up(one);
            return Ok(());
        }
        // All that came before the answer is of the old link.
        self.read(one).await?;
        if let Some(open) = &mut self.pads[one].open {
            open.link = None;
        }
        Ok(())
    }

    /// A connection that does not answer may come back to life.
    fn give_up(&mut self, one: usize) {
        let Pad { open, mute, .. } = &mut self.pads[one];
        mute.extend(open.take());
    }

    async fn read(&mut self, one: usize) -> anyhow::Result<()> {
        let Pad { name, open, .. } = &mut self.pads[one];
        let Some(reader) = open else { return Ok(()) };
        if !reader.read().await.with_context(|| format!("at {name}"))? {
            *open = None;
        }
        Ok(())
    }

    async fn read_all(&mut self) -> anyhow::Result<()> {
        for one in 0..PADS {
            self.read(one).await?;
        }
        Ok(())
    }

    /// Whether both ends of every link know of each other.
    fn symmetric(&self) -> anyhow::Result<()> {
        for pad in &self.pads {
            let Some(link) = pad.link() else { continue };
            let other = &self.pads[link.partner];
            let back = other.link().is_some_and(|back| back.number == link.number);
            ensure!(back, "{} is linked to {}, which is not", pad.name, other.name);
        }
        Ok(())
    }

    /// Whether everything sent over links that live has been received.
    fn all_arrived(&self) -> anyhow::Result<()> {
        for pad in &self.pads {
            let Some(link) = pad.link() else { continue };
            let sent = self.pads[link.partner].link().map_or(0, |back| back.sent);
            ensure!(link.heard == sent, "{} heard {} of {sent}", pad.name, link.heard);
        }
        Ok(())
    }

    async fn replaced_are_cut_off(&mut self) -> anyhow::Result<()> {
        for Pad { name, replaced, .. } in &mut self.pads {
            for mut before in replaced.drain(..) {
                soon(async || {
                    ensure!(!before.read().await?, "two hold {name}");
                    Ok(())
                })
                .await?;
            }
        }
        Ok(())
    }
}

impl Pad {
    fn link(&self) -> Option<&Link> {
        self.open.as_ref()?.link.as_ref()
    }

    /// Whether the name is taken exactly when a connection has it.
    async fn check_name(&self, probe: &mut PadClient) -> anyhow::Result<()> {
        let name = self.name.as_bytes();
        if self.open.is_some() {
            ensure!(!probe.register_pad(name).await?, "{} is given out twice", self.name);
            return Ok(());
        }
        within(FREE_WITHIN, async || {
            ensure!(probe.register_pad(name).await?, "{} is not free", self.name);
            Ok(())
        })
        .await?;
        ensure!(probe.unregister_pad().await?, "{} cannot be given back", self.name);
        Ok(())
    }
}

/// Every replica's probe links to the next one's, and something passes.
async fn meet(probes: &mut [PadClient]) -> anyhow::Result<()> {
    for (nth, probe) in probes.iter_mut().enumerate() {
        let name = format!("probe-{nth}");
        within(FREE_WITHIN, async || {
            ensure!(probe.register_pad(name.as_bytes()).await?, "{name} is not free");
            Ok(())
        })
        .await?;
    }
    for nth in 1..probes.len() {
        let [one, other] = probes.get_disjoint_mut([nth - 1, nth])?;
        let name = format!("probe-{nth}");
        one.link_to(other, name.as_bytes(), b"probe").await.context("across replicas")?;
        one.send_payload(b"there").await?;
        other.send_payload(b"back").await?;
        let passed = (other.next_payload().await?, one.next_payload().await?);
        ensure!(passed == (b"there"[..].into(), b"back"[..].into()), "{passed:?}");
        ensure!(one.unlink().await?, "the link is not there");
        other.unlinked().await?;
    }
    Ok(())
}
