//! Readers that stop while their partners go on sending: what that costs the server, and whether
//! they miss anything once they go on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::pair::Pair;
use super::peer::{Peer, Wire};
use crate::meter::{Meter, settled};
use crate::report::Row;
use crate::target::Target;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// What is spoken.
    #[arg(long, value_enum, default_value = "websocket")]
    pub(crate) wire: Wire,
    /// Links whose reader stops.
    #[arg(long, default_value_t = 1000)]
    pub(crate) pairs: usize,
    /// What the server is set to hold for one reader, in bytes.
    #[arg(long, default_value_t = MARK)]
    pub(crate) mark: usize,
}

/// What the benchmark sets peer-linker to hold for one reader.
pub(crate) const MARK: usize = 262_144;
/// Size of a payload; the first eight bytes number it.
const BYTES: usize = 8 * 1024;
/// What the kernel holds at the clients' ends.
const BUFFER: u32 = 16 * 1024;
/// Nobody sends more, stopped or not: more than what the kernel may hold between two ends.
const MOST: usize = 24 << 20;
/// Who cannot send for so long has been stopped.
const STOPPED: Duration = Duration::from_secs(3);

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let pid = target.server_pid.context("stall needs --server-pid")?;
    let mut pairs = Vec::with_capacity(options.pairs);
    for nth in 0..options.pairs {
        let one = target.connect_small(2 * nth, BUFFER).await?;
        let other = target.connect_small(2 * nth + 1, BUFFER).await?;
        let one = Peer::over(one, options.wire, "peer-linker").await?;
        let other = Peer::over(other, options.wire, "peer-linker").await?;
        let pair = Pair::link(one, other, options.wire).await?;
        pairs.push(Stalled { pair, sent: 0, rest: Vec::new() });
    }
    let before = settled(pid).await?;
    try_join_all(pairs.iter_mut().map(Stalled::send)).await?;
    let after = settled(pid).await?;
    let stopped = pairs.iter().filter(|pair| !pair.rest.is_empty()).count();
    let meter = Meter::start(target);
    try_join_all(pairs.iter_mut().map(Stalled::resume)).await?;
    let usage = meter.stop();
    let sent: u64 = pairs.iter().map(|pair| pair.sent).sum();
    let allowed = (options.pairs * options.mark) as f64;
    let name = format!("{} stalled readers, {}", options.pairs, options.wire.name());
    Ok(Row::new(name, "payloads", sent, usage)
        .note("writers stopped", stopped as f64)
        .note("RSS growth MiB", (after as f64 - before as f64) / 1_048_576.0)
        .note("RSS growth / marks", (after as f64 - before as f64) / allowed))
}

/// One link and how far its writer got.
struct Stalled {
    pair: Pair,
    /// Whole payloads sent, the one that was begun last included.
    sent: u64,
    /// What is left of that one.
    rest: Vec<u8>,
}

fn body(nth: u64) -> Vec<u8> {
    let mut body = vec![nth.to_le_bytes()[0] ^ 0x5a; BYTES];
    body[..8].copy_from_slice(&nth.to_le_bytes());
    body
}

impl Stalled {
    /// Sends until it is stopped.
    async fn send(&mut self) -> anyhow::Result<()> {
        while (self.sent as usize) * BYTES < MOST {
            let frame = self.pair.one.payload(&body(self.sent))?;
            self.sent += 1;
            let mut at = 0;
            while at < frame.len() {
                match timeout(STOPPED, self.pair.one.stream.write(&frame[at..])).await {
                    Ok(written) => at += written?,
                    Err(_) => {
                        self.rest = frame[at..].to_vec();
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads everything and compares.
    async fn resume(&mut self) -> anyhow::Result<()> {
        let Self { pair, sent, rest } = self;
        let write = async { Ok(pair.one.stream.write_all(rest).await?) };
        let read = async {
            let deadline = Instant::now() + Duration::from_secs(60);
            for nth in 0..*sent {
                let left = deadline.saturating_duration_since(Instant::now());
                let packet = timeout(left, pair.other.packet()).await;
                let packet = packet.with_context(|| format!("no payload {nth} of {sent}"))??;
                ensure!(packet.body == body(nth), "another payload than {nth}");
            }
            anyhow::Ok(())
        };
        tokio::try_join!(write, read)?;
        Ok(())
    }
}
