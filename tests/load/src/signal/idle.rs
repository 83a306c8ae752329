//! Sockets that do nothing, and what each of them costs the server.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::try_join_all;
use testkit::keys::Peer;

use super::forward::register;
use crate::meter::{Meter, settled};
use crate::report::Row;
use crate::target::Target;
use crate::ws::Socket;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// WebSockets to hold open; both processes need as many file descriptors.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) sockets: usize,
    /// Register each of them. Presence then grows with the square of their number.
    #[arg(long)]
    pub(crate) registered: bool,
}

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let pid = target.server_pid.context("idle needs --server-pid")?;
    // The first connections pay for what a server makes once.
    for nth in 0..64 {
        Socket::open(target, nth).await?.close().await?;
    }
    let before = settled(pid).await?;
    let sockets = RefCell::new(Vec::with_capacity(options.sockets));
    let meter = Meter::start(target);
    try_join_all((0..64).map(|worker| {
        let sockets = &sockets;
        async move {
            for nth in (worker..options.sockets).step_by(64) {
                let mut socket = Socket::open(target, nth).await?;
                if options.registered {
                    register(&mut socket, &Peer::random()).await?;
                }
                sockets.borrow_mut().push(socket);
            }
            anyhow::Ok(())
        }
    }))
    .await?;
    let usage = meter.stop();
    let mut sockets = sockets.into_inner();
    if options.registered {
        drain(&mut sockets).await?;
    }
    let after = settled(pid).await?;
    drop(sockets);
    let each = (after as f64 - before as f64) / options.sockets as f64;
    let kind = if options.registered { "registered" } else { "idle" };
    let name = format!("{} {kind} WebSockets", options.sockets);
    Ok(Row::new(name, "opens", options.sockets as u64, usage)
        .note("RSS bytes/socket", each)
        .note("RSS MiB", after as f64 / 1_048_576.0))
}

/// Reads what everybody hears of everybody.
async fn drain(sockets: &mut [Socket]) -> anyhow::Result<()> {
    for _ in 0..10 {
        for socket in &mut *sockets {
            socket.receive_ready(|_| ()).await?;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
