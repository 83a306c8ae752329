//! One small payload there and back again, over and over.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::pair::{Pair, direct};
use super::peer::Wire;
use crate::meter::Meter;
use crate::report::Row;
use crate::target::Target;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// What is spoken; the copy relay takes anything.
    #[arg(long, value_enum, default_value = "websocket")]
    pub(crate) wire: Wire,
    /// Size of the payload.
    #[arg(long, default_value_t = 64)]
    pub(crate) bytes: usize,
    /// Seconds to measure.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
}

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let mut pair = Pair::open(target, options.wire, 0).await?;
    let body = vec![7; options.bytes];
    let (there, back) = (pair.one.payload(&body)?, pair.other.payload(&body)?);
    let delivered = options.wire.delivered(options.bytes);
    // The first round trips find the branch predictor and the allocator cold.
    let (one, other) = (&mut pair.one.stream, &mut pair.other.stream);
    let warm = Duration::from_secs_f64(options.seconds / 10.0);
    play(one, other, &there, &back, delivered, warm).await?;
    let meter = Meter::start(target);
    let length = Duration::from_secs_f64(options.seconds);
    let latencies = play(one, other, &there, &back, delivered, length).await?;
    let usage = meter.stop();
    Ok(row(options.wire.name(), options.bytes, latencies, usage))
}

/// The same with nothing between the two ends.
pub(crate) async fn without_relay(bytes: usize, seconds: f64) -> anyhow::Result<Row> {
    let (mut one, mut other) = direct().await?;
    let body = vec![7; bytes];
    let started = Instant::now();
    let length = Duration::from_secs_f64(seconds);
    let latencies = play(&mut one, &mut other, &body, &body, bytes, length).await?;
    let usage = crate::meter::Usage { elapsed: started.elapsed(), server: None, postgres: None };
    Ok(row("direct", bytes, latencies, usage))
}

fn row(through: &str, bytes: usize, nanos: Vec<u32>, usage: crate::meter::Usage) -> Row {
    let name = format!("round trip of {bytes} B, {through}");
    let count = nanos.len() as u64;
    let mut sorted = nanos.clone();
    sorted.sort_unstable();
    let median_us = sorted.get(sorted.len() / 2).map_or(0.0, |ns| f64::from(*ns) / 1000.0);
    let latencies = nanos.into_iter().map(|ns| ns / 1000).collect();
    Row::new(name, "round trips", count, usage).latencies(latencies).note("p50 us", median_us)
}

/// Nanoseconds of each round trip.
pub(super) async fn play(
    one: &mut tokio::net::TcpStream,
    other: &mut tokio::net::TcpStream,
    there: &[u8],
    back: &[u8],
    delivered: usize,
    length: Duration,
) -> anyhow::Result<Vec<u32>> {
    let mut nanos = Vec::with_capacity(100_000);
    let mut buffer = vec![0; delivered];
    let end = Instant::now() + length;
    loop {
        let begun = Instant::now();
        if begun >= end {
            return Ok(nanos);
        }
        one.write_all(there).await?;
        other.read_exact(&mut buffer).await?;
        other.write_all(back).await?;
        one.read_exact(&mut buffer).await?;
        nanos.push(begun.elapsed().as_nanos().try_into().unwrap_or(u32::MAX));
    }
}
