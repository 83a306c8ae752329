//! Pad requests: a requester asks, the channel's owner answers, over and over.

use std::time::{Duration, Instant};

use anyhow::ensure;
use proto::pad::{kind, tcp, ws};

use super::peer::{Peer, Wire};
use crate::meter::Meter;
use crate::report::Row;
use crate::target::Target;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// What is spoken.
    #[arg(long, value_enum, default_value = "websocket")]
    pub(crate) wire: Wire,
    /// Seconds to measure.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) seconds: f64,
}

const CHANNEL: &[u8] = b"bench-channel";
const PAD: &[u8] = b"bench-pad";

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let wire = options.wire;
    ensure!(wire != Wire::Bare, "there are no pad requests through a copy relay");
    let mut owner = Peer::open(target, 0, wire, "channel-hub").await?;
    let mut asker = Peer::open(target, 1, wire, "channel-hub").await?;
    let name = string(wire, CHANNEL)?;
    owner.ask(ws::hub::REGISTER, 2, &name).await?;
    let mut once = async || match wire {
        Wire::Encrypted => ask_encrypted(&mut asker, &mut owner).await,
        _ => ask_websocket(&mut asker, &mut owner).await,
    };
    let warm = Instant::now() + Duration::from_secs_f64(options.seconds / 10.0);
    while Instant::now() < warm {
        once().await?;
    }
    let mut nanos: Vec<u32> = Vec::with_capacity(100_000);
    let meter = Meter::start(target);
    let end = Instant::now() + Duration::from_secs_f64(options.seconds);
    loop {
        let begun = Instant::now();
        if begun >= end {
            break;
        }
        nanos.push(once().await?.as_nanos().try_into().unwrap_or(u32::MAX));
    }
    let usage = meter.stop();
    let latencies = nanos.iter().map(|ns| ns / 1000).collect();
    nanos.sort_unstable();
    let median = nanos.get(nanos.len() / 2).map_or(f64::NAN, |ns| f64::from(*ns) / 1000.0);
    let name = format!("pad request, {}", wire.name());
    Ok(Row::new(name, "requests", nanos.len() as u64, usage)
        .latencies(latencies)
        .note("p50 us", median))
}

/// A string as a generation writes it when it is the whole body.
fn string(wire: Wire, text: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    match wire {
        Wire::Encrypted => tcp::push_string(text, &mut body)?,
        _ => body.extend_from_slice(text),
    }
    Ok(body)
}

/// Success to the requester comes beside the request to the owner, and Success to the owner
/// beside the response to the requester; time stops with the response.
async fn ask_websocket(asker: &mut Peer, owner: &mut Peer) -> anyhow::Result<Duration> {
    let request = asker.frame(ws::hub::PAD_REQUEST, 7, CHANNEL)?;
    let begun = Instant::now();
    asker.send(&request).await?;
    let asked = owner.packet().await?;
    ensure!(asked.kind == ws::hub::PAD_REQUEST && asked.body == CHANNEL, "{asked:?}");
    let mut verdict = Vec::new();
    ws::Verdict { ok: 1, name: PAD }.encode(&mut verdict);
    let response = owner.frame(ws::hub::PAD_REQUEST_RESPONSE, asked.id, &verdict)?;
    owner.send(&response).await?;
    let accepted = asker.packet().await?;
    ensure!(accepted.kind == kind::SUCCESS, "{accepted:?}");
    let answer = asker.packet().await?;
    let took = begun.elapsed();
    ensure!(answer.kind == ws::hub::PAD_REQUEST_RESPONSE && answer.body == verdict, "{answer:?}");
    let done = owner.packet().await?;
    ensure!(done.kind == kind::SUCCESS, "{done:?}");
    Ok(took)
}

async fn ask_encrypted(asker: &mut Peer, owner: &mut Peer) -> anyhow::Result<Duration> {
    let request = asker.frame(tcp::hub::REQUEST_PAD, 7, &string(Wire::Encrypted, CHANNEL)?)?;
    let mut created = Vec::new();
    tcp::PadCreated { channel: CHANNEL, pad: PAD }.encode(&mut created)?;
    let response = owner.frame(tcp::hub::PAD_CREATED, 1, &created)?;
    let begun = Instant::now();
    asker.send(&request).await?;
    let asked = owner.packet().await?;
    ensure!(asked.kind == tcp::hub::REQUEST_PAD, "{asked:?}");
    owner.send(&response).await?;
    let answer = asker.packet().await?;
    let took = begun.elapsed();
    ensure!(answer.kind == tcp::hub::PAD_CREATED && answer.body == created, "{answer:?}");
    let done = owner.packet().await?;
    ensure!(done.kind == kind::SUCCESS, "{done:?}");
    Ok(took)
}
