//! Which measurements are made, in which order, at which size.

use testkit::process::{Builder, Service};

use super::stack::{Certificate, Helper, Stack};
use super::{Options, progress};
use crate::http::Mode;
use crate::relay::{ack, blob, fetch, group, pgbench, queue, store};
use crate::report::Row;
use crate::signal::{forward, idle, register, storm};
use crate::target::Target;

/// pgbench alone, which needs no service.
pub(super) async fn pgbench(options: &Options, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    if options.only.iter().any(|only| only == "pgbench") {
        let stack = Stack::start().await?;
        let run = async || pgbench::run(&stack.cluster, options.seconds()).await;
        push(rows, median(options, run).await?);
    }
    Ok(())
}

/// The relay and, taking turns with it, pgbench on the same Postgres.
pub(super) async fn relay(options: &Options, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let sections = ["store", "fetch", "ack", "group", "queue", "blob"];
    if !sections.iter().any(|section| options.wants(section)) {
        return Ok(());
    }
    let stack = Stack::start().await?;
    let certificate = Certificate::make()?;
    let service = stack.service(certificate.set(relay_settings())).await?;
    let target = stack.target(&service);
    if options.wants("store") {
        stores(options, &stack, &target, rows).await?;
    }
    if options.wants("fetch") {
        fetches(options, &target, rows).await?;
    }
    if options.wants("ack") {
        let messages = options.size(10_000, 1000);
        let each = ack::Options { messages, connections: 32, seconds: 60.0 };
        push(rows, median(options, async || ack::run(&target, &each).await).await?);
    }
    if options.wants("group") {
        let each = group::Options {
            recipients: 100,
            groups: 20,
            count: options.size(20_000, 2000),
            connections: 32,
            seconds: options.seconds(),
            database_url: Some(stack.database_url()),
        };
        push(rows, median(options, async || group::run(&target, &each).await).await?);
    }
    // Last, each in a fresh process: they are about its memory.
    if options.wants("queue") {
        let mut service = service;
        service.start_again().await?;
        let each = queue::Options { messages: options.size(100_000, 5000) };
        push(rows, queue::run(&stack.target(&service), &each).await?);
    }
    if options.wants("blob") {
        let service = stack.service(relay_settings()).await?;
        let each = blob::Options { mebibytes: options.size(1024, 64), parallel: 5 };
        push(rows, blob::run(&stack.target(&service), &each).await?);
    }
    Ok(())
}

async fn stores(
    options: &Options,
    stack: &Stack,
    target: &Target,
    rows: &mut Vec<Row>,
) -> anyhow::Result<()> {
    let seconds = options.seconds();
    let each = store::Options {
        mode: Mode::KeepAlive,
        connections: 64,
        count: (20_000.0 * seconds) as usize,
        seconds,
        mailboxes: 1000,
        senders: 100,
    };
    let (mut inserts, mut stores) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds() {
        inserts.push(pgbench::run(&stack.cluster, seconds).await?);
        inserts.last().into_iter().for_each(progress);
        stores.push(store::run(target, &each).await?);
        stores.last().into_iter().for_each(progress);
    }
    let insert = Row::median(inserts);
    let mut row = Row::median(stores);
    if let (Some(insert), Some(row)) = (&insert, &mut row) {
        row.ratio = Some(row.per_second / insert.per_second);
    }
    rows.extend(insert);
    rows.extend(row);
    for (mode, mailboxes) in [(Mode::KeepAlive, 1), (Mode::New, 1000), (Mode::NewTls, 1000)] {
        let each = store::Options { mode, mailboxes, connections: 32, ..each.clone() };
        push(rows, median(options, async || store::run(target, &each).await).await?);
    }
    Ok(())
}

async fn fetches(options: &Options, target: &Target, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    for (messages, mode) in [
        (0, Mode::KeepAlive),
        (0, Mode::New),
        (0, Mode::NewTls),
        (10, Mode::KeepAlive),
        (10, Mode::New),
    ] {
        let seconds = options.seconds();
        let each = fetch::Options { mode, connections: 32, messages, mailboxes: 100, seconds };
        push(rows, median(options, async || fetch::run(target, &each).await).await?);
    }
    Ok(())
}

/// The signal server and, taking turns with it, a bare echo server.
pub(super) async fn signal(options: &Options, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    if !["forward", "register", "storm", "idle"].iter().any(|section| options.wants(section)) {
        return Ok(());
    }
    let stack = Stack::start().await?;
    if options.wants("forward") {
        forwards(options, &stack, rows).await?;
    }
    if options.wants("register") {
        for (sockets, reconnect) in [(1, false), (32, false), (32, true)] {
            let each = register::Options { sockets, reconnect, seconds: options.seconds() };
            let run = async || {
                let service = stack.service(signal_settings()).await?;
                register::run(&stack.target(&service), &each).await
            };
            push(rows, median(options, run).await?);
        }
    }
    if options.wants("storm") {
        let joins = options.size(1500, 500);
        let each = storm::Options { joins, parallel: 64, seconds: 60.0 };
        let run = async || {
            let service = stack.service(signal_settings()).await?;
            storm::run(&stack.target(&service), &each).await
        };
        push(rows, median(options, run).await?);
    }
    if options.wants("idle") {
        let each = idle::Options { sockets: options.size(10_000, 1000), registered: false };
        let service = stack.service(signal_settings()).await?;
        push(rows, idle::run(&stack.target(&service), &each).await?);
        let echo = Helper::start("echo").await?;
        let mut row = idle::run(&echo.target(), &each).await?;
        row.name += ", bare echo";
        push(rows, row);
        let each = idle::Options { sockets: options.size(2000, 500), registered: true };
        let service = stack.service(signal_settings()).await?;
        push(rows, idle::run(&stack.target(&service), &each).await?);
    }
    Ok(())
}

async fn forwards(options: &Options, stack: &Stack, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    for window in [1, 16] {
        let each = forward::Options {
            pairs: 100,
            window,
            bytes: 1024,
            seconds: options.seconds(),
            echo: false,
        };
        let against = forward::Options { echo: true, ..each.clone() };
        let (mut echoes, mut forwards) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds() {
            let echo = Helper::start("echo").await?;
            echoes.push(forward::run(&echo.target(), &against).await?);
            echoes.last().into_iter().for_each(progress);
            drop(echo);
            let service = stack.service(signal_settings()).await?;
            forwards.push(forward::run(&stack.target(&service), &each).await?);
            forwards.last().into_iter().for_each(progress);
        }
        let (echo, mut row) = (Row::median(echoes), Row::median(forwards));
        if let (Some(echo), Some(row)) = (&echo, &mut row) {
            row.ratio = Some(row.per_second / echo.per_second);
        }
        rows.extend(echo);
        rows.extend(row);
    }
    Ok(())
}

/// The median of as many rounds as were asked for.
pub(super) async fn median<F>(options: &Options, mut run: F) -> anyhow::Result<Row>
where
    F: AsyncFnMut() -> anyhow::Result<Row>,
{
    let mut all = Vec::new();
    for _ in 0..options.rounds() {
        all.push(run().await?);
    }
    Row::median(all).ok_or_else(|| anyhow::anyhow!("there is at least one round"))
}

pub(super) fn push(rows: &mut Vec<Row>, row: Row) {
    progress(&row);
    rows.push(row);
}

/// The relay's defaults, but for limits that exist to stop what this program does. They are
/// high, not off: what counting costs is part of what is measured.
fn relay_settings() -> Builder {
    Service::named("relay").set("ADDRESS_REQUESTS", 100_000_000)
}

/// The signal server's defaults, with its limits raised for the same reason.
pub(super) fn signal_settings() -> Builder {
    let limits =
        ["PEER_FRAMES", "PEER_BYTES", "ADDRESS_FRAMES", "ADDRESS_BYTES", "ADDRESS_REGISTERS"];
    limits.into_iter().fold(Service::named("signal"), |settings, limit| {
        settings.set(limit, "4000000000:4000000000")
    })
}
