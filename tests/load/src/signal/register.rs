//! Registrations: a signature, a nonce and a commit each.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use testkit::keys::Peer;

use super::forward::register;
use crate::meter::Meter;
use crate::report::Row;
use crate::target::Target;
use crate::ws::Socket;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Registrations under way at once, each on a socket of its own.
    #[arg(long, default_value_t = 32)]
    pub(crate) sockets: usize,
    /// Connect, register and close every time instead of registering again.
    #[arg(long)]
    pub(crate) reconnect: bool,
    /// Seconds to measure.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
}

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let latencies = RefCell::new(Vec::new());
    let opened = Cell::new(0);
    let end = Instant::now() + Duration::from_secs_f64(options.seconds);
    let meter = Meter::start(target);
    let workers = (0..options.sockets).map(|_| async {
        let peer = Peer::random();
        let mut socket: Option<Socket> = None;
        while Instant::now() < end {
            let started = Instant::now();
            let mut open = match socket.take() {
                Some(open) => open,
                None => Socket::open(target, opened.replace(opened.get() + 1)).await?,
            };
            register(&mut open, &peer).await?;
            let took = started.elapsed().as_micros().try_into().unwrap_or(u32::MAX);
            latencies.borrow_mut().push(took);
            if options.reconnect {
                open.close().await?;
            } else {
                socket = Some(open);
            }
        }
        anyhow::Ok(())
    });
    try_join_all(workers).await?;
    let usage = meter.stop();
    let latencies = latencies.into_inner();
    let how = if options.reconnect { "connect, register, close" } else { "register" };
    let name = format!("signal {how}, {} sockets", options.sockets);
    Ok(Row::new(name, "registers", latencies.len() as u64, usage).latencies(latencies))
}
