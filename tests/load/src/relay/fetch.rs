//! Fetches: what every device does every few seconds.

use std::time::Duration;

use super::prepare;
use crate::http::{Mode, Plan, drive, get};
use crate::report::Row;
use crate::target::Target;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// How to connect.
    #[arg(long, value_enum, default_value = "keep-alive")]
    pub(crate) mode: Mode,
    /// Requests under way at once.
    #[arg(long, default_value_t = 32)]
    pub(crate) connections: usize,
    /// Messages in each mailbox.
    #[arg(long, default_value_t = 0)]
    pub(crate) messages: usize,
    /// Mailboxes asked in turn.
    #[arg(long, default_value_t = 100)]
    pub(crate) mailboxes: usize,
    /// Seconds at most.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
}

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let mailboxes = prepare::peers(options.mailboxes);
    if options.messages > 0 {
        let senders = prepare::peers(10);
        let count = options.messages * options.mailboxes;
        let stores = prepare::stores(&senders, &mailboxes, count, Mode::KeepAlive);
        let plan = Plan {
            mode: Mode::KeepAlive,
            connections: 32,
            requests: &stores,
            again: false,
            limit: Duration::from_secs(120),
            status: 200,
            expect: "\"stored\":true",
        };
        drive(target, &plan).await?;
    }
    let requests: Vec<Vec<u8>> = mailboxes
        .iter()
        .map(|peer| get(&format!("/relay/fetch?to={}&limit=50", peer.id), options.mode))
        .collect();
    let plan = Plan {
        mode: options.mode,
        connections: options.connections,
        requests: &requests,
        again: true,
        limit: Duration::from_secs_f64(options.seconds),
        status: 200,
        expect: if options.messages == 0 { "\"messages\":[]" } else { "" },
    };
    let outcome = drive(target, &plan).await?;
    let contents = match options.messages {
        0 => "empty".to_owned(),
        messages => format!("{messages} messages"),
    };
    let how = match options.mode {
        Mode::KeepAlive => "",
        Mode::New => ", new connections",
        Mode::NewTls => ", new TLS connections",
    };
    let name = format!("relay fetch, {contents}{how}");
    Ok(Row::new(name, "fetches", outcome.done, outcome.usage).latencies(outcome.latencies))
}
