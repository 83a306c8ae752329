//! The clients of one scenario.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::time::{Instant, timeout};

use super::PadServer;
use super::client::{Client, Heard};
use super::settled;
use super::vectors::{Generation, Said, Step, hex, unhex};

/// How long a packet may take that has to come.
const PATIENCE: Duration = Duration::from_secs(15);
/// What the stalled reader's partner sends at least before it is stopped, and at most.
const STALL: (usize, usize) = (10, 5000);
/// A packet that cannot be sent for so long is held up by the reader, not by a busy machine.
const HELD_UP: Duration = Duration::from_secs(2);

/// Events that can be replayed.
#[cfg(test)]
pub(crate) const EVENTS: [&str; 7] =
    ["connect", "tcp connect", "disconnect", "tcp reset", "closed", "closed by server", "silence"];

/// Everybody on the scene.
pub(crate) struct Stage<'s> {
    generation: Generation,
    server: PadServer<'s>,
    clients: HashMap<String, Client>,
    /// Ids that this server chose for requests, by those in the vectors.
    chosen: HashMap<u32, u32>,
    /// The last answer of a client to a request: the id in the vectors and the real one.
    answered: HashMap<String, (u32, u32)>,
}

impl<'s> Stage<'s> {
    pub(crate) fn new(generation: Generation, server: PadServer<'s>) -> Self {
        let (clients, chosen, answered) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { generation, server, clients, chosen, answered }
    }

    pub(crate) async fn act(&mut self, step: &Step) -> anyhow::Result<()> {
        match step {
            Step::C2s(said) => self.say(said).await,
            Step::S2c(said) => self.hear(said).await,
            Step::Event { client: None, event, ms } if event == "silence" => {
                self.silence(Duration::from_millis(*ms)).await
            }
            Step::Event { client: Some(client), event, .. } => self.event(client, event).await,
            Step::Event { event, .. } => bail!("{event} cannot be replayed"),
        }
    }

    /// Nobody is owed or given anything more; then everybody leaves.
    pub(crate) async fn end(mut self) -> anyhow::Result<()> {
        let names: Vec<String> = self.clients.keys().cloned().collect();
        for name in &names {
            if matches!(self.clients.get_mut(name), Some(Client::Encrypted(c)) if !c.is_open()) {
                continue;
            }
            // A packet that gets an Error in every state: whatever comes before that is too much.
            let (question, answer) = match self.generation {
                Generation::A => (vec![0], unhex("0800010000000000")?),
                _ => (vec![0x55, 0xee, 0, 0], vec![1, 0xee, 0, 0]),
            };
            self.client(name)?.packet(&question).await?;
            let heard = self.next(name).await.with_context(|| format!("asking {name} last"))?;
            expect(&heard, &Heard::Packet(answer))
                .with_context(|| format!("too much for {name}"))?;
        }
        for name in &names {
            self.client(name)?.hang_up().await?;
            self.client(name)?.until_end(Instant::now() + PATIENCE).await?;
        }
        Ok(())
    }

    fn client(&mut self, name: &str) -> anyhow::Result<&mut Client> {
        self.clients.get_mut(name).with_context(|| format!("no client {name}"))
    }

    async fn next(&mut self, name: &str) -> anyhow::Result<Heard> {
        let heard = self.client(name)?.hear(Instant::now() + PATIENCE).await?;
        heard.context("nothing came")
    }

    async fn event(&mut self, name: &str, event: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let replicas = self.server.replicas;
        let leaves = matches!(event, "disconnect" | "tcp reset") && !replicas.is_empty();
        let before = if leaves { settled::open(replicas).await? } else { 0 };
        match event {
            "connect" => {
                let PadServer { address, program, tls, .. } = self.server;
                let client = Client::websocket(address, program, tls).await?;
                self.clients.insert(name.to_owned(), client);
            }
            "tcp connect" => {
                let client = Client::encrypted(self.server.address).await?;
                self.clients.insert(name.to_owned(), client);
            }
            "disconnect" => self.client(name)?.hang_up().await?,
            "tcp reset" => self.clients.remove(name).context("no such client")?.abort()?,
            "closed" => {
                if let Some(mut client) = self.clients.remove(name) {
                    client.until_end(deadline).await?;
                }
            }
            "closed by server" => {
                let heard = self.next(name).await?;
                ensure!(matches!(heard, Heard::End(_)), "an end wanted, not {}", shown(&heard));
                self.clients.remove(name);
            }
            other => bail!("{other} cannot be replayed"),
        }
        if leaves { settled::wait(replicas, before).await } else { Ok(()) }
    }

    /// Nobody hears anything.
    async fn silence(&mut self, time: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + time;
        for (name, client) in &mut self.clients {
            if let Some(heard) = client.hear(deadline).await? {
                bail!("silence wanted, but {name} hears {}", shown(&heard));
            }
        }
        Ok(())
    }

    async fn say(&mut self, said: &Said) -> anyhow::Result<()> {
        let mut packet = said.packet(self.generation)?;
        match said.layer.as_deref() {
            // The recorded key would do as well, but not the frames sealed with it.
            Some("handshake") => {
                let deadline = Instant::now() + PATIENCE;
                return self.client(&said.client)?.bare()?.shake_hands(deadline).await;
            }
            Some("raw") => {
                let wire = unhex(said.wire.as_deref().context("raw bytes")?)?;
                let client = self.client(&said.client)?.bare()?;
                // An IV and a tag of nothing are only good under the recorded key.
                let nothing = wire.len() == 34 && wire[2..].iter().any(|byte| *byte != 0);
                return if nothing { client.packet(&[]).await } else { client.raw(&wire).await };
            }
            Some(other) => bail!("unknown layer {other}"),
            None => {}
        }
        if self.is_answer(&packet) {
            let id = id(&packet);
            let real = self.chosen.get(&id).copied().unwrap_or(id);
            packet[4..8].copy_from_slice(&real.to_le_bytes());
            self.answered.insert(said.client.clone(), (id, real));
        }
        let client = self.client(&said.client)?;
        match (said.opcode.as_deref(), said.fragments) {
            (None, None) => client.packet(&packet).await,
            (opcode, fragments) => {
                let text = opcode == Some("text");
                client.message(&packet, text, fragments.unwrap_or(packet.len().max(1))).await
            }
        }
    }

    async fn hear(&mut self, said: &Said) -> anyhow::Result<()> {
        if said.layer.is_some() {
            return Ok(()); // the key, which the handshake has taken already
        }
        let mut wanted = said.packet(self.generation)?;
        let heard = self.next(&said.client).await?;
        if self.generation == Generation::A && self.server.program == "channel-hub" {
            let Heard::Packet(packet) = &heard else {
                bail!("{} wanted, not {}", hex(&wanted), shown(&heard));
            };
            self.adapt(&said.client, &mut wanted, packet)?;
        }
        expect(&heard, &Heard::Packet(wanted)).with_context(|| said.client.clone())
    }

    /// Whether it is an answer to a request that the server gave an id.
    fn is_answer(&self, packet: &[u8]) -> bool {
        self.generation == Generation::A
            && self.server.program == "channel-hub"
            && packet.len() >= 8
            && packet[2..4] == [8, 0]
    }

    /// Makes what the original says what a server may say that chooses other ids and lists
    /// channels in another order.
    fn adapt(&mut self, client: &str, wanted: &mut [u8], heard: &[u8]) -> anyhow::Result<()> {
        if heard.len() != wanted.len() || heard.len() < 8 || heard[..4] != wanted[..4] {
            return Ok(()); // it will be refused as it is
        }
        match wanted[2] {
            // Success or Error to somebody who answered a request.
            0 | 1 => {
                if let Some((_, real)) =
                    self.answered.get(client).filter(|(id_, _)| *id_ == id(wanted))
                {
                    wanted[4..8].copy_from_slice(&real.to_le_bytes());
                }
            }
            6 => {
                let list = sorted(&heard[8..]);
                ensure!(list == sorted(&wanted[8..]), "other channels: {}", hex(heard));
                wanted[8..].copy_from_slice(&heard[8..]);
            }
            7 => {
                let real = id(heard);
                // Old clients cut ids to 16 bits, and count their own from 1.
                ensure!((0x8000..0x1_0000).contains(&real), "the id {real:#x}");
                ensure!(!self.chosen.values().any(|id| *id == real), "{real:#x} is in use");
                self.chosen.insert(id(wanted), real);
                wanted[4..8].copy_from_slice(&real.to_le_bytes());
            }
            _ => {}
        }
        Ok(())
    }

    /// `WRITER READER OTHER`: the reader stops reading, its partner sends until it is stopped too,
    /// the other is served meanwhile. Then the reader goes on and misses nothing.
    pub(crate) async fn stall(&mut self, who: &str) -> anyhow::Result<()> {
        let names: Vec<&str> = who.split(' ').collect();
        let [writer, reader, other] = names[..] else { bail!("three clients, not {who}") };
        let payload = |nth: usize| {
            let mut packet = vec![0x10, 9, 0x60, 0xea];
            packet.extend((0..60_000).map(|at| (nth + at) as u8));
            packet
        };
        let mut sent = 0;
        // The packet that is held up is half sent, so it has to be finished later.
        let mut client = self.clients.remove(writer).context("no writer")?;
        let mut held_up = loop {
            ensure!(sent < STALL.1, "nothing stops the writer");
            let packet = payload(sent);
            let mut sending = Box::pin(async move {
                client.packet(&packet).await?;
                anyhow::Ok(client)
            });
            match timeout(HELD_UP, &mut sending).await {
                Ok(done) => client = done?,
                Err(_) => break sending,
            }
            sent += 1;
        };
        ensure!(sent >= STALL.0, "stopped after {sent} packets");
        self.client(other)?.packet(&unhex("020902000000")?).await?;
        expect(&self.next(other).await?, &Heard::Packet(unhex("00090000")?))
            .context(other.to_owned())?;
        let mut back = None;
        for nth in 0..=sent {
            let mut wanted = payload(nth);
            wanted[1] = id_of(nth + 2); // the reader has heard one packet before
            loop {
                tokio::select! {
                    client = &mut held_up, if back.is_none() => back = Some(client?),
                    heard = self.next(reader) => {
                        expect(&heard?, &Heard::Packet(wanted)).with_context(|| format!("payload {nth}"))?;
                        break;
                    }
                }
            }
        }
        let client = match back {
            Some(client) => client,
            None => held_up.await?,
        };
        self.clients.insert(writer.to_owned(), client);
        Ok(())
    }
}

/// The server's `nth` id on a connection of generation B, counted from 1.
fn id_of(nth: usize) -> u8 {
    (nth % 256) as u8
}

fn id(packet: &[u8]) -> u32 {
    packet[4..8].iter().rev().fold(0, |id, byte| id << 8 | u32::from(*byte))
}

fn sorted(list: &[u8]) -> Vec<&[u8]> {
    let mut names: Vec<&[u8]> = list.split(|byte| *byte == 0).collect();
    names.sort_unstable();
    names
}

fn expect(heard: &Heard, wanted: &Heard) -> anyhow::Result<()> {
    ensure!(heard == wanted, "{} wanted, not {}", shown(wanted), shown(heard));
    Ok(())
}

fn shown(heard: &Heard) -> String {
    match heard {
        Heard::Packet(packet) if packet.len() > 100 => {
            format!("{}... ({} bytes)", hex(&packet[..100]), packet.len())
        }
        Heard::Packet(packet) => hex(packet),
        Heard::End(code) => format!("the end ({code:?})"),
    }
}
