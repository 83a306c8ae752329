//! What a pair's round trips take while another pair sends as much as it can.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::anyhow;
use tokio::time::sleep;

use super::bulk::Flow;
use super::pair::Pair;
use super::peer::Wire;
use super::round_trip;
use crate::meter::Meter;
use crate::report::Row;
use crate::target::Target;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// What is spoken; the copy relay takes anything.
    #[arg(long, value_enum, default_value = "websocket")]
    pub(crate) wire: Wire,
    /// Seconds to measure, each quiet and busy.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
}

/// Size of what the busy pair sends.
const BUSY_BYTES: usize = 65_499;

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let mut pair = Pair::open(target, options.wire, 0).await?;
    let body = [7; 64];
    let (there, back) = (pair.one.payload(&body)?, pair.other.payload(&body)?);
    let delivered = options.wire.delivered(body.len());
    let length = Duration::from_secs_f64(options.seconds);
    let (one, other) = (&mut pair.one.stream, &mut pair.other.stream);
    let quiet = round_trip::play(one, other, &there, &back, delivered, length).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let busy = saturate(target.clone(), options.wire, Arc::clone(&stop));
    // Let it fill the queues between.
    sleep(Duration::from_millis(300)).await;
    let meter = Meter::start(target);
    let disturbed = round_trip::play(one, other, &there, &back, delivered, length).await?;
    let usage = meter.stop();
    stop.store(true, Ordering::Relaxed);
    let sent = busy.join().map_err(|_| anyhow!("the busy pair panicked"))??;
    let [quiet, busy] = [quiet, disturbed.clone()].map(p99_us);
    let latencies = disturbed.iter().map(|ns| ns / 1000).collect();
    let name = format!("round trip beside a busy pair, {}", options.wire.name());
    Ok(Row::new(name, "round trips", disturbed.len() as u64, usage)
        .latencies(latencies)
        .note("p99 us quiet", quiet)
        .note("p99 us busy", busy)
        .note("p99 busy / quiet", busy / quiet)
        .note("GB/s of the busy pair", sent as f64 / options.seconds / 1e9))
}

/// The busy pair has a thread of its own: it must not be this program that delays the other.
fn saturate(
    target: Target,
    wire: Wire,
    stop: Arc<AtomicBool>,
) -> std::thread::JoinHandle<anyhow::Result<u64>> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut pair = Pair::open(&target, wire, 1).await?;
            let mut flow = Flow::new(pair.one.payload(&vec![7; BUSY_BYTES])?);
            let mut sent = 0;
            while !stop.load(Ordering::Relaxed) {
                let slice = Duration::from_millis(50);
                let (one, other) = (&mut pair.one.stream, &mut pair.other.stream);
                sent += flow.pump(one, other, slice).await?;
            }
            Ok(sent)
        })
    })
}

fn p99_us(mut nanos: Vec<u32>) -> f64 {
    nanos.sort_unstable();
    nanos.get(nanos.len() * 99 / 100).map_or(f64::NAN, |ns| f64::from(*ns) / 1000.0)
}
