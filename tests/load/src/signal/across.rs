//! Signals between peers of two replicas, at a steady rate.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::forward::{Pair, settle};
use crate::meter::Meter;
use crate::report::Row;
use crate::target::{Target, loopback};

/// Signals sent at a time lie this far apart.
const TICK: Duration = Duration::from_millis(2);

/// How long the last signals may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// The replica of the receivers; the senders are at the target. The same for comparison.
    #[arg(long, value_parser = loopback)]
    pub(crate) other: SocketAddr,
    /// Pairs of peers.
    #[arg(long, default_value_t = 50)]
    pub(crate) pairs: usize,
    /// Signals per second, of all pairs together.
    #[arg(long, default_value_t = 1000)]
    pub(crate) rate: u32,
    /// Size of `data` in a signal.
    #[arg(long, default_value_t = 1024)]
    pub(crate) bytes: usize,
    /// Seconds to measure.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// The other replica's process, for its CPU time.
    #[arg(long)]
    pub(crate) other_pid: Option<u32>,
    /// The NATS server's process, for its CPU time.
    #[arg(long)]
    pub(crate) broker_pid: Option<u32>,
}

impl Options {
    /// The defaults, to receivers at `other`.
    pub(crate) fn new(other: SocketAddr, rate: u32, seconds: f64) -> Self {
        Self { other, pairs: 50, rate, bytes: 1024, seconds, other_pid: None, broker_pid: None }
    }
}

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let other = Target { target: options.other, ..target.clone() };
    let mut pairs = Vec::new();
    for nth in 0..options.pairs {
        pairs.push(Pair::open(target, &other, options.bytes, nth).await?);
    }
    settle(&mut pairs).await?;
    let latencies = RefCell::new(Vec::new());
    let sent = Cell::new(0);
    let meter = Meter::start(target);
    let beside = |server_pid| Meter::start(&Target { server_pid, ..other.clone() });
    let beside = [("receiver us", options.other_pid), ("broker us", options.broker_pid)]
        .map(|(name, pid)| (name, beside(pid)));
    let begun = Instant::now();
    let each = f64::from(options.rate) / options.pairs as f64;
    let play = |pair| steady(pair, each, options.seconds, &sent, &latencies);
    // What is still missing at the end is counted as lost, not waited for.
    let _ = timeout(
        Duration::from_secs_f64(options.seconds) + PATIENCE,
        try_join_all(pairs.iter_mut().map(play)),
    )
    .await
    .unwrap_or(Ok(Vec::new()))?;
    let usage = meter.stop();
    let beside = beside.map(|(name, meter)| (name, meter.stop().server));
    let latencies = latencies.into_inner();
    let lost = sent.get() - latencies.len() as u64;
    let where_to = if options.other == target.target { "one replica" } else { "two replicas" };
    let name = format!("signals, {where_to}, {}/s", options.rate);
    let seconds = begun.elapsed().as_secs_f64();
    let count = latencies.len().max(1) as f64;
    let mut row = Row::new(name, "signals", latencies.len() as u64, usage)
        .latencies(latencies)
        .note("sent", sent.get() as f64)
        .note("lost", lost as f64)
        .note("seconds", seconds);
    for (name, used) in beside {
        if let Some(used) = used {
            row = row.note(name, used.as_secs_f64() * 1e6 / count);
        }
    }
    Ok(row)
}

/// Sends `rate` signals a second and reads what arrives, until all that were sent are here.
async fn steady(
    pair: &mut Pair,
    rate: f64,
    seconds: f64,
    sent: &Cell<u64>,
    latencies: &RefCell<Vec<u32>>,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut count, mut under_way) = (0_u64, VecDeque::new());
    loop {
        let now = begun.elapsed().as_secs_f64();
        let due = (now.min(seconds) * rate) as u64;
        for _ in count..due {
            pair.sender.send(&pair.signal).await?;
            under_way.push_back(Instant::now());
        }
        sent.set(sent.get() + due.saturating_sub(count));
        count = count.max(due);
        if now >= seconds && under_way.is_empty() {
            return Ok(());
        }
        pair.receive_ready(|| {
            let Some(started) = under_way.pop_front() else { return };
            let took = started.elapsed().as_micros().try_into().unwrap_or(u32::MAX);
            latencies.borrow_mut().push(took);
        })
        .await?;
        tokio::select! {
            _ = ticks.tick() => {}
            ready = pair.readable() => ready?,
        }
    }
}
