//! Channels of channel-hub, and guests of other replicas that ask for pads.
//!
//! Invariants, besides that everything is in order 20 s after the fault:
//! 1. Every request that was accepted is answered, by its owner or with a refusal, unless its guest is
//!    gone: long before its own time would be over.
//! 2. A guest gets a pad of the channel it asked for, which nobody else got.
//! 3. Every replica lists exactly the channels whose owners are connected.
//! 4. No two owners have one name; a name is free when its owner is gone, or its replica's lease over.
//! 5. Every channel can be asked for at every replica.

mod host;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use rand::RngExt as _;
use testkit::pad_client::{Generation, PadClient, Program};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::drama::{CONVERGES_WITHIN, Players, answered, soon, within};
use crate::stage::Stage;
use host::{Host, Ledger};

const OWNERS: usize = 3;
const GUESTS: usize = 5;

/// A guest waits as long as the fault takes; whether that was too long is judged afterwards.
const PATIENCE: Duration = Duration::from_secs(600);

/// A lease of 4 s, a renewal of 1 s, and what a busy machine adds.
const FREE_WITHIN: Duration = Duration::from_secs(10);

/// Everybody who uses the hub.
#[derive(Debug)]
pub struct Visitors {
    generation: Generation,
    owners: Vec<Owner>,
    guests: Vec<Guest>,
    ledger: Ledger,
    /// Whether owners answer now.
    answering: watch::Sender<bool>,
    registers: u64,
}

#[derive(Debug)]
struct Owner {
    channel: String,
    host: Option<Host>,
}

#[derive(Debug)]
enum Guest {
    Away,
    Here(PadClient),
    Waiting { channel: String, answer: Answer },
}

/// What a guest waits for, and its connection; it leaves when dropped.
#[derive(Debug)]
struct Answer(JoinHandle<(PadClient, anyhow::Result<Option<Bytes>>)>);

impl Drop for Answer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Players for Visitors {
    const SERVICES: &'static [&'static str] = &["channel-hub"];
    const LIVING: &'static str = "SELECT count(*) FROM channel_hub.node";
    const SKEW_S: i64 = 3_600;
    const OPERATIONS: usize = 20;

    async fn gather(seed: u64) -> anyhow::Result<Self> {
        let owner = |nth| Owner { channel: format!("channel-{seed}-{nth}"), host: None };
        Ok(Self {
            generation: Generation::BOTH[usize::from(seed.is_multiple_of(2))],
            owners: (0..OWNERS).map(owner).collect(),
            guests: (0..GUESTS).map(|_| Guest::Away).collect(),
            ledger: Ledger::default(),
            answering: watch::Sender::new(true),
            registers: 0,
        })
    }

    async fn act(&mut self, stage: &mut Stage, count: usize) -> anyhow::Result<()> {
        for _ in 0..count {
            let owner = stage.rng.random_range(0..OWNERS);
            let guest = stage.rng.random_range(0..GUESTS);
            match stage.rng.random_range(0..10) {
                0..3 => {
                    let address = stage.anywhere();
                    answered(self.register(address, owner)).await;
                }
                3..7 => {
                    let address = stage.anywhere();
                    self.ask(address, guest, owner).await?;
                }
                7 => self.owners[owner].host = None,
                8 => self.guests[guest] = Guest::Away,
                _ => {
                    self.answering.send_replace(stage.rng.random_bool(0.5));
                }
            }
        }
        Ok(())
    }

    async fn brace(&mut self, stage: &mut Stage, victim: usize) -> anyhow::Result<()> {
        // The victim has a channel which guests of every replica wait for.
        self.answering.send_replace(false);
        let own = stage.address(victim);
        soon(async || self.register(own, 0).await).await?;
        for (guest, replica) in stage.all().into_iter().enumerate() {
            self.guests[guest] = Guest::Away;
            self.ask(stage.address(replica), guest, 0).await?;
        }
        Ok(())
    }

    async fn settle(&mut self, stage: &mut Stage, living: &[usize]) -> anyhow::Result<()> {
        self.answering.send_replace(true);
        for guest in 0..GUESTS {
            self.told(guest).await?;
        }
        let mut probes = Vec::new();
        for &replica in living {
            let address = stage.address(replica);
            let connect = PadClient::activated(self.generation, Program::ChannelHub, address);
            probes.push(connect.await.context("a replica takes nobody")?);
        }
        for (probe, replica) in probes.iter_mut().zip(living) {
            let listed = async || {
                let open = self.open();
                let names = probe.channels().await?.context("no list")?;
                let names: BTreeSet<String> =
                    names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
                ensure!(names == open, "replica {replica} lists {names:?}, not {open:?}");
                Ok(())
            };
            soon(listed).await?;
        }
        for Owner { channel, host } in &mut self.owners {
            for probe in &mut probes {
                check_channel(
                    channel,
                    host.as_ref().is_some_and(Host::is_open),
                    probe,
                    &self.ledger,
                )
                .await?;
            }
        }
        Ok(())
    }
}

impl Visitors {
    /// Channels whose owners are connected.
    fn open(&self) -> BTreeSet<String> {
        let open = |owner: &&Owner| owner.host.as_ref().is_some_and(Host::is_open);
        self.owners.iter().filter(open).map(|owner| owner.channel.clone()).collect()
    }

    async fn register(
        &mut self,
        address: std::net::SocketAddr,
        owner: usize,
    ) -> anyhow::Result<()> {
        let Owner { channel, host } = &mut self.owners[owner];
        *host = None;
        let mut client =
            PadClient::activated(self.generation, Program::ChannelHub, address).await?;
        ensure!(client.register_channel(channel.as_bytes()).await?, "{channel} is refused");
        client.set_patience(PATIENCE);
        self.registers += 1;
        let answering = self.answering.subscribe();
        let ledger = self.ledger.clone();
        *host = Some(Host::start(client, channel.clone(), self.registers, answering, ledger));
        Ok(())
    }

    async fn ask(
        &mut self,
        address: std::net::SocketAddr,
        guest: usize,
        owner: usize,
    ) -> anyhow::Result<()> {
        let channel = self.owners[owner].channel.clone();
        let client = match std::mem::replace(&mut self.guests[guest], Guest::Away) {
            Guest::Here(client) => Some(client),
            Guest::Away => {
                answered(PadClient::activated(self.generation, Program::ChannelHub, address)).await
            }
            // One that waits goes on waiting.
            waiting @ Guest::Waiting { .. } => {
                self.guests[guest] = waiting;
                return Ok(());
            }
        };
        let Some(mut client) = client else { return Ok(()) };
        client.set_patience(PATIENCE);
        let Some(id) = answered(client.send_pad_request(channel.as_bytes())).await else {
            return Ok(());
        };
        #[expect(clippy::disallowed_methods, reason = "a test has no service context")]
        let answer = tokio::spawn(async move {
            let answer = client.pad(id).await;
            (client, answer)
        });
        self.guests[guest] = Guest::Waiting { channel, answer: Answer(answer) };
        Ok(())
    }

    /// Waits until a guest is told what became of its request.
    async fn told(&mut self, guest: usize) -> anyhow::Result<()> {
        let Guest::Waiting { channel, answer } = &mut self.guests[guest] else { return Ok(()) };
        let told = timeout(CONVERGES_WITHIN, &mut answer.0).await;
        let told = told.with_context(|| format!("nobody tells guest {guest} about {channel}"))?;
        let (client, answer) = told?;
        let channel = std::mem::take(channel);
        self.guests[guest] = match answer {
            Ok(pad) => {
                self.ledger.check(&channel, pad)?;
                Guest::Here(client)
            }
            // Its own replica is gone, and it noticed.
            Err(_) => Guest::Away,
        };
        Ok(())
    }
}

/// Whether the name is taken, and the channel there, exactly when its owner is.
async fn check_channel(
    channel: &str,
    open: bool,
    probe: &mut PadClient,
    ledger: &Ledger,
) -> anyhow::Result<()> {
    let name = channel.as_bytes();
    if open {
        ensure!(!probe.register_channel(name).await?, "{channel} is given out twice");
        let pad = probe.request_pad(name).await?;
        ensure!(pad.is_some(), "the owner of {channel} is there, but gives no pad");
        return ledger.check(channel, pad);
    }
    ensure!(probe.request_pad(name).await?.is_none(), "{channel} has no owner, but pads");
    within(FREE_WITHIN, async || {
        ensure!(probe.register_channel(name).await?, "{channel} is not free");
        Ok(())
    })
    .await?;
    ensure!(probe.unregister_channel(name).await?, "{channel} cannot be given back");
    Ok(())
}
