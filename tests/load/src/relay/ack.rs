//! Acks in a mailbox that holds many messages.

use std::time::Duration;

use testkit::keys::Peer;
use testkit::relay_client::body;
use testkit::time::now_ms;

use super::prepare;
use crate::http::{Mode, Plan, drive, post};
use crate::report::Row;
use crate::target::Target;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Messages in the mailbox, all of which are acked.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) messages: usize,
    /// Requests under way at once.
    #[arg(long, default_value_t = 32)]
    pub(crate) connections: usize,
    /// Seconds at most.
    #[arg(long, default_value_t = 60.0)]
    pub(crate) seconds: f64,
}

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let (mailbox, prefix) = (Peer::random(), Peer::random().id);
    prepare::fill(target, &mailbox, &prefix, options.messages).await?;
    let ts = now_ms();
    let requests = prepare::on_both_cores(options.messages, |nth| {
        let body = body::ack(&mailbox, &format!("{prefix}-{nth}"), ts);
        post("/relay/ack", &body, Mode::KeepAlive)
    });
    let plan = Plan {
        mode: Mode::KeepAlive,
        connections: options.connections,
        requests: &requests,
        again: false,
        limit: Duration::from_secs_f64(options.seconds),
        status: 200,
        expect: "\"ok\":true",
    };
    let outcome = drive(target, &plan).await?;
    let name = format!("relay ack, one mailbox of {}", options.messages);
    Ok(Row::new(name, "acks", outcome.done, outcome.usage).latencies(outcome.latencies))
}
