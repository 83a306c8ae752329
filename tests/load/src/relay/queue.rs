//! One very long queue: storing into it must not slow down, reading it must not take memory.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use testkit::keys::Peer;
use testkit::relay_client::RelayClient;

use super::prepare;
use crate::meter::{peak_resident, reset_peak, resident};
use crate::report::Row;
use crate::target::Target;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Messages in the queue.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) messages: usize,
}

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let (mailbox, run) = (Peer::random(), Peer::random().id);
    // Prepared and sent in parts, so that this program's own memory stays small.
    let parts = options.messages.div_ceil(10_000).max(1);
    let before = target.server_pid.and_then(resident);
    target.server_pid.inspect(|&pid| reset_peak(pid));
    let mut outcomes = Vec::new();
    for part in 0..parts {
        let count = options.messages / parts;
        outcomes.push(prepare::fill(target, &mailbox, &format!("{run}-{part}"), count).await?);
    }
    let stored: u64 = outcomes.iter().map(|outcome| outcome.done).sum();
    let mut usage = outcomes.first().context("at least one part")?.usage;
    for outcome in &outcomes[1..] {
        usage.elapsed += outcome.usage.elapsed;
        usage.server = usage.server.zip(outcome.usage.server).map(|(a, b)| a + b);
        usage.postgres = usage.postgres.zip(outcome.usage.postgres).map(|(a, b)| a + b);
    }
    let rate = |nth: usize| {
        outcomes.get(nth).map_or(0.0, |o| o.done as f64 / o.usage.elapsed.as_secs_f64())
    };
    let (first, last) = (rate(0), rate(parts - 1));
    let latencies = outcomes.into_iter().flat_map(|outcome| outcome.latencies).collect();

    let started = Instant::now();
    let read = read_all(target, &mailbox).await?;
    ensure!(read as u64 == stored, "{read} of {stored} came back");
    let reading = read as f64 / started.elapsed().as_secs_f64();

    let name = format!("relay queue of {stored}");
    let mut row = Row::new(name, "stores", stored, usage)
        .latencies(latencies)
        .note("first part stores/s", first)
        .note("last part stores/s", last)
        .note("read back messages/s", reading);
    if let Some((before, peak)) = before.zip(target.server_pid.and_then(peak_resident)) {
        row = row.note("RSS growth MiB", (peak as f64 - before as f64) / 1_048_576.0);
    }
    Ok(row)
}

/// Reads the mailbox page by page, by cursor, the way the app does.
async fn read_all(target: &Target, mailbox: &Peer) -> anyhow::Result<usize> {
    let relay = RelayClient::plain(target.target);
    let mut seen = std::collections::HashSet::new();
    let mut query = "&limit=500".to_owned();
    loop {
        let ids = relay.fetch_ids(&mailbox.id, &query).await?;
        let Some(last) = ids.last() else { return Ok(seen.len()) };
        query = format!("&limit=500&cursor={last}");
        let fresh = ids.into_iter().all(|id| seen.insert(id));
        ensure!(fresh, "a message came twice");
    }
}
