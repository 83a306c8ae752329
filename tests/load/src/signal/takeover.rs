//! A peer that registers at one replica, then at the other: until the old socket is told.

use std::net::SocketAddr;
use std::time::Instant;

use testkit::keys::Peer;

use super::{contains, forward::register, register_frame};
use crate::meter::Meter;
use crate::report::Row;
use crate::target::{Target, loopback};
use crate::ws::Socket;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// The replica peers move to; they begin at the target.
    #[arg(long, value_parser = loopback)]
    pub(crate) other: SocketAddr,
    /// Takeovers, one after the other.
    #[arg(long, default_value_t = 300)]
    pub(crate) count: usize,
}

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let other = Target { target: options.other, ..target.clone() };
    let mut latencies = Vec::new();
    let meter = Meter::start(target);
    for nth in 0..options.count {
        let peer = Peer::random();
        let mut old = Socket::open(target, 2 * nth).await?;
        register(&mut old, &peer).await?;
        let mut new = Socket::open(&other, 2 * nth + 1).await?;
        let begun = Instant::now();
        new.send(&register_frame(&peer)).await?;
        let mut told = false;
        while !told {
            let replaced = |frame: &[u8]| told |= contains(frame, "\"SESSION_REPLACED\"");
            let received = old.receive(replaced).await;
            if !told {
                received?; // the close comes with it, or right after
            }
        }
        latencies.push(begun.elapsed().as_micros().try_into().unwrap_or(u32::MAX));
        new.close().await?;
    }
    let usage = meter.stop();
    let count = latencies.len() as u64;
    Ok(Row::new("takeover, two replicas", "takeovers", count, usage).latencies(latencies))
}
