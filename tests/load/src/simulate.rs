//! What a deployment carries: on paper from the measured costs, and checked by playing it.
//!
//! The paper side adds up the CPU time that every kind of work takes at every place and says
//! where it runs out first. The played side lets the same work arrive at random, wait in line and
//! be served, and shows whether the sums hold and how long things take on the way there. The two
//! disagreeing is an error.

mod costs;
mod paper;
mod plan;
mod play;

use std::io::Write as _;

use anyhow::ensure;
use clap::Args;
use serde::Serialize;

use crate::report::thousands;
pub(crate) use plan::Plan;

/// Utilisation that leaves room for bursts; beyond it waiting grows faster than load.
const HEADROOM: f64 = 0.7;
/// How far paper and play may be apart, as a share of a place's time.
const TOLERANCE: f64 = 0.05;

/// What to simulate.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    plan: Plan,
    /// Seconds to play; 0 leaves it at the paper.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Another seed plays another run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What came out.
#[derive(Debug, Serialize)]
struct Outcome {
    /// Each place's utilisation, on paper and as played.
    places: Vec<Place>,
    /// Each kind of work's time from end to end, as played.
    work: Vec<play::Times>,
    /// Peers that the same deployment carries with some room left.
    carries_peers: f64,
    /// Which place is full first, and what lifts that limit.
    limit: &'static str,
    lifted_by: &'static str,
    /// Memory of each signal replica for that many peers.
    replica_memory_mib: f64,
}

#[derive(Debug, Serialize)]
struct Place {
    name: String,
    paper: f64,
    played: Option<f64>,
}

/// Sums up, plays, compares and prints.
pub(crate) fn run(options: &Options, json: bool) -> anyhow::Result<()> {
    let outcome = simulate(options)?;
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &outcome)?;
        return Ok(writeln!(out)?);
    }
    writeln!(out, "{:34} {:>8} {:>8}", "place, share of its time", "paper", "played")?;
    for place in &outcome.places {
        let played = place.played.map_or_else(|| "-".into(), |share| format!("{share:.3}"));
        writeln!(out, "{:34} {:>8.3} {played:>8}", place.name, place.paper)?;
    }
    if !outcome.work.is_empty() {
        writeln!(out, "\n{:34} {:>10} {:>8} {:>8}", "work", "rate", "p50 ms", "p99 ms")?;
    }
    for work in &outcome.work {
        let rate = format!("{}/s", thousands(work.per_second));
        writeln!(out, "{:34} {rate:>10} {:>8.2} {:>8.2}", work.name, work.p50_ms, work.p99_ms)?;
    }
    let (peers, memory) = (thousands(outcome.carries_peers), outcome.replica_memory_mib);
    writeln!(
        out,
        "\ncarries {peers} peers with {:.0} % of the busiest place used",
        HEADROOM * 1e2
    )?;
    writeln!(out, "memory of a signal replica then: {} MiB", thousands(memory))?;
    writeln!(out, "full first: {}; lifted by {}", outcome.limit, outcome.lifted_by)?;
    Ok(())
}

fn simulate(options: &Options) -> anyhow::Result<Outcome> {
    let model = options.plan.model()?;
    let paper = paper::utilisation(&model);
    let busiest = paper.iter().copied().fold(0.0, f64::max);
    let (carries_peers, full) = paper::carries(&options.plan, HEADROOM)?;
    let mut places = Vec::new();
    let mut work = Vec::new();
    let mut played = vec![None; paper.len()];
    if options.seconds > 0.0 {
        ensure!(busiest < 1.0, "{} is asked for more than it can do", model.busiest(&paper));
        let run = play::play(&model, options.seconds, options.seed);
        for (at, share) in run.utilisation.iter().enumerate() {
            let apart = (share - paper[at]).abs();
            let name = &model.places[at].name;
            ensure!(apart <= TOLERANCE, "{name}: {share:.3} played, {:.3} on paper", paper[at]);
            played[at] = Some(*share);
        }
        work = run.times;
    }
    for (at, place) in model.places.iter().enumerate() {
        places.push(Place { name: place.name.clone(), paper: paper[at], played: played[at] });
    }
    let replica_memory_mib =
        carries_peers * costs::PEER_BYTES / f64::from(options.plan.replicas) / 1_048_576.0;
    let (limit, lifted_by) = (full.name(), full.lifted_by());
    Ok(Outcome { places, work, carries_peers, limit, lifted_by, replica_memory_mib })
}

#[cfg(test)]
mod tests;
