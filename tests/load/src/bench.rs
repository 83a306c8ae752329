//! Everything in one go: a private Postgres, the services as processes, all generators, and
//! the table of figures to reach.

mod book;
mod goals;
mod mesh;
mod pads;
mod replicas;
mod rows;
mod stack;

use anyhow::Context as _;

use crate::report::{self, Row};

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// About a minute in all, with smaller figures: shows that everything runs.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Rounds of everything that is compared; medians are reported.
    #[arg(long, default_value_t = 3)]
    pub(crate) rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Only sections whose name contains one of these: store, fetch, ack, group, queue, blob,
    /// forward, register, storm, idle, pad-trip, pad-bulk, pad-neighbour, pad-request, pad-stall,
    /// pad-idle, book-forward, book-revoke, mesh-request, mesh-deliver, mesh-idle, replicas-steady,
    /// replicas-many, replicas-local, replicas-takeover; or pgbench for that comparison alone.
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
}

impl Options {
    fn wants(&self, section: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| section.contains(only.as_str()))
    }

    fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.rounds.max(1) }
    }

    fn seconds(&self) -> f64 {
        if self.quick { 1.0 } else { self.seconds }
    }

    /// The full size of something, or a small part of it for a quick run.
    fn size(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }
}

/// Runs what was asked for and returns every row; the goals go to standard output as a table.
pub(crate) async fn run(options: &Options, json: bool) -> anyhow::Result<Vec<Row>> {
    raise_descriptor_limit();
    let mut rows = Vec::new();
    rows::pgbench(options, &mut rows).await.context("pgbench")?;
    rows::relay(options, &mut rows).await.context("relay")?;
    rows::signal(options, &mut rows).await.context("signal")?;
    pads::run(options, &mut rows).await.context("pads")?;
    book::rows(options, &mut rows).await.context("peerbook")?;
    mesh::rows(options, &mut rows).await.context("mesh")?;
    replicas::rows(options, &mut rows).await.context("replicas")?;
    if !json {
        goals::print(&rows)?;
    }
    Ok(rows)
}

/// Tells whoever waits what was just measured.
fn progress(row: &Row) {
    let rate = report::thousands(row.per_second);
    eprintln!("  {}: {rate} {}/s", row.name, row.unit);
}

/// Ten thousand sockets need as many descriptors; children inherit the limit.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Refused only where idle will say itself what is missing.
    let _ = setrlimit(Resource::Nofile, limit);
}
