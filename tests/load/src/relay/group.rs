//! Group messages: one request, many deliveries.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, PgConnection};
use testkit::keys::Peer;
use testkit::relay_client::{RelayClient, body};
use testkit::time::now_ms;

use super::prepare;
use crate::http::{Mode, Plan, drive, post};
use crate::report::Row;
use crate::target::Target;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Recipients of each message.
    #[arg(long, default_value_t = 100)]
    pub(crate) recipients: usize,
    /// Groups, each with members and an owner of its own.
    #[arg(long, default_value_t = 20)]
    pub(crate) groups: usize,
    /// Group messages at most.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) count: usize,
    /// Requests under way at once.
    #[arg(long, default_value_t = 32)]
    pub(crate) connections: usize,
    /// Seconds at most.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// A database of the same server, to read how much WAL was written.
    #[arg(long)]
    pub(crate) database_url: Option<String>,
}

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let relay = RelayClient::plain(target.target);
    let mut groups = Vec::new();
    for nth in 0..options.groups {
        let (owner, members) = (Peer::random(), prepare::peers(options.recipients));
        let mut ids: Vec<&str> = members.iter().map(|member| member.id.as_str()).collect();
        let id = format!("group:{}:{nth}", owner.id);
        let with_owner: Vec<&str> = ids.iter().copied().chain([owner.id.as_str()]).collect();
        relay.members_update(&owner, &format!("u{nth}"), &id, &with_owner).await?.ok()?;
        ids.sort_unstable();
        let ids: Vec<String> = ids.into_iter().map(str::to_owned).collect();
        groups.push((owner, id, ids));
    }
    let (ts, payload) = (now_ms(), prepare::payload(prepare::PAYLOAD_BYTES));
    let run = &Peer::random().id[..8];
    let requests = prepare::on_both_cores(options.count, |nth| {
        let (owner, group, members) = &groups[nth % groups.len()];
        let members: Vec<&str> = members.iter().map(String::as_str).collect();
        let id = format!("{run}-{nth}");
        let body = body::group_store(owner, &id, group, &members, ts, &payload);
        post("/relay/group/store", &body, Mode::KeepAlive)
    });
    let plan = Plan {
        mode: Mode::KeepAlive,
        connections: options.connections,
        requests: &requests,
        again: false,
        limit: Duration::from_secs_f64(options.seconds),
        status: 200,
        expect: &format!("\"stored\":{}", options.recipients),
    };
    let mut database = match &options.database_url {
        Some(url) => Some(url.parse::<PgConnectOptions>()?.connect().await?),
        None => None,
    };
    let before = wal_bytes(database.as_mut()).await?;
    let outcome = drive(target, &plan).await?;
    let written = wal_bytes(database.as_mut()).await? - before;
    ensure!(outcome.done > 0, "nothing was stored");

    let deliveries = outcome.done * options.recipients as u64;
    let name = format!("relay group of {}", options.recipients);
    let row = Row::new(name, "deliveries", deliveries, outcome.usage)
        .latencies(outcome.latencies)
        .note("requests/s", outcome.done as f64 / outcome.usage.elapsed.as_secs_f64());
    if database.is_none() {
        return Ok(row);
    }
    let payload = (deliveries * prepare::PAYLOAD_BYTES as u64) as f64;
    Ok(row
        .note("WAL bytes/delivery", written / deliveries as f64)
        .note("WAL / payload delivered", written / payload))
}

async fn wal_bytes(database: Option<&mut PgConnection>) -> anyhow::Result<f64> {
    let Some(database) = database else { return Ok(0.0) };
    let written = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8";
    sqlx::query_scalar(written).fetch_one(database).await.context("cannot read the WAL position")
}
