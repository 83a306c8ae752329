//! Streams in which nothing happens, and what each of them costs the server.

use std::cell::RefCell;

use anyhow::Context as _;
use futures_util::future::try_join_all;

use super::{Listener, room};
use crate::meter::{Meter, settled};
use crate::report::Row;
use crate::target::Target;

/// Streams being opened at once.
const WORKERS: usize = 64;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Streams to hold open; both processes need as many file descriptors.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) streams: usize,
    /// Listeners in a room.
    #[arg(long, default_value_t = 10)]
    pub(crate) per_room: usize,
}

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let pid = target.server_pid.context("mesh-idle needs --server-pid")?;
    // The first connections pay for what a server makes once.
    for nth in 0..WORKERS {
        Listener::open(target, nth, &room(usize::MAX)).await?;
    }
    let before = settled(pid).await?;
    let open = RefCell::new(Vec::with_capacity(options.streams));
    let meter = Meter::start(target);
    try_join_all((0..WORKERS).map(|worker| {
        let open = &open;
        async move {
            for nth in (worker..options.streams).step_by(WORKERS) {
                let room = room(nth / options.per_room.max(1));
                let listener = Listener::open(target, nth, &room).await?;
                open.borrow_mut().push(listener);
            }
            anyhow::Ok(())
        }
    }))
    .await?;
    let usage = meter.stop();
    let after = settled(pid).await?;
    let each = (after as f64 - before as f64) / options.streams as f64;
    let name = format!("{} idle streams", options.streams);
    Ok(Row::new(name, "opens", options.streams as u64, usage)
        .note("RSS bytes/stream", each)
        .note("RSS MiB", after as f64 / 1_048_576.0))
}
