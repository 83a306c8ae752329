//! Pads that nobody links to, and what each of them costs the server.

use std::cell::RefCell;

use anyhow::Context as _;
use futures_util::future::try_join_all;
use proto::pad::{tcp, ws};

use super::peer::{Peer, Wire};
use crate::meter::{Meter, settled};
use crate::report::Row;
use crate::target::Target;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// What is spoken.
    #[arg(long, value_enum, default_value = "websocket")]
    pub(crate) wire: Wire,
    /// Connections to hold open; both processes need as many file descriptors.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) sockets: usize,
    /// Register a pad on each, instead of only activating it.
    #[arg(long)]
    pub(crate) registered: bool,
    /// The program under test, `peer-linker` or `channel-hub`.
    #[arg(long, default_value = "peer-linker")]
    pub(crate) program: String,
}

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let pid = target.server_pid.context("idle needs --server-pid")?;
    // The first connections pay for what a server makes once.
    for nth in 0..64 {
        Peer::open(target, nth, options.wire, &options.program).await?;
    }
    let before = settled(pid).await?;
    let peers = RefCell::new(Vec::with_capacity(options.sockets));
    let meter = Meter::start(target);
    try_join_all((0..64).map(|worker| {
        let peers = &peers;
        async move {
            for nth in (worker..options.sockets).step_by(64) {
                let peer =
                    open(target, options, nth).await.with_context(|| format!("pad {nth}"))?;
                peers.borrow_mut().push(peer);
            }
            anyhow::Ok(())
        }
    }))
    .await?;
    let usage = meter.stop();
    let after = settled(pid).await?;
    drop(peers);
    let each = (after as f64 - before as f64) / options.sockets as f64;
    let what = if options.registered { "pads" } else { "connections" };
    let name = format!("{} idle {what}, {}", options.sockets, options.wire.name());
    Ok(Row::new(name, "opens", options.sockets as u64, usage)
        .note("RSS bytes/socket", each)
        .note("RSS MiB", after as f64 / 1_048_576.0))
}

async fn open(target: &Target, options: &Options, nth: usize) -> anyhow::Result<Peer> {
    let mut peer = Peer::open(target, nth, options.wire, &options.program).await?;
    if options.registered {
        let name = format!("idle-{nth}");
        let mut body = Vec::new();
        if options.wire == Wire::Encrypted {
            tcp::push_string(name.as_bytes(), &mut body)?;
        } else {
            body.extend_from_slice(name.as_bytes());
        }
        // Both generations of both programs give it the same number.
        peer.ask(ws::linker::REGISTER, 2, &body).await?;
    }
    Ok(peer)
}
