//! Stores: the relay's main job.

use std::time::Duration;

use super::prepare;
use crate::http::{Mode, Plan, drive};
use crate::report::Row;
use crate::target::Target;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// How to connect.
    #[arg(long, value_enum, default_value = "keep-alive")]
    pub(crate) mode: Mode,
    /// Requests under way at once.
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Messages at most.
    #[arg(long, default_value_t = 50_000)]
    pub(crate) count: usize,
    /// Seconds at most.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Recipients; 1 makes them all queue in one mailbox.
    #[arg(long, default_value_t = 1000)]
    pub(crate) mailboxes: usize,
    /// Senders, each with a key of its own.
    #[arg(long, default_value_t = 100)]
    pub(crate) senders: usize,
}

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let (senders, mailboxes) = (prepare::peers(options.senders), prepare::peers(options.mailboxes));
    let requests = prepare::stores(&senders, &mailboxes, options.count, options.mode);
    let plan = Plan {
        mode: options.mode,
        connections: options.connections,
        requests: &requests,
        again: false,
        limit: Duration::from_secs_f64(options.seconds),
        status: 200,
        expect: "\"stored\":true",
    };
    let outcome = drive(target, &plan).await?;
    let name = match (options.mode, options.mailboxes) {
        (Mode::KeepAlive, 1) => "relay store, one mailbox",
        (Mode::KeepAlive, _) => "relay store",
        (Mode::New, _) => "relay store, new connections",
        (Mode::NewTls, _) => "relay store, new TLS connections",
    };
    Ok(Row::new(name, "stores", outcome.done, outcome.usage).latencies(outcome.latencies))
}
