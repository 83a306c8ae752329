//! Peerbook and, taking turns with it, signal.

use testkit::process::{Builder, Service};

use super::rows::{median, push, signal_settings};
use super::stack::Stack;
use super::{Options, progress};
use crate::book::{forward, revoke};
use crate::report::Row;
use crate::signal::forward as signal_forward;

pub(super) async fn rows(options: &Options, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let sections = ["book-forward", "book-revoke"];
    if !sections.iter().any(|section| options.wants(section)) {
        return Ok(());
    }
    let stack = Stack::start().await?;
    if options.wants("book-forward") {
        forwards(options, &stack, rows).await?;
    }
    if options.wants("book-revoke") {
        let here = stack.service(settings()).await?;
        let there = stack.service(settings()).await?;
        for replica in [None, Some(there.address())] {
            let rounds = options.size(200, 20);
            let each = revoke::Options { database_url: stack.database_url(), rounds, replica };
            let target = stack.target(&here);
            push(rows, median(options, async || revoke::run(&target, &each).await).await?);
        }
    }
    Ok(())
}

async fn forwards(options: &Options, stack: &Stack, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    for window in [1, 16] {
        let seconds = options.seconds();
        let against =
            signal_forward::Options { pairs: 100, window, bytes: 1024, seconds, echo: false };
        let each = forward::Options {
            database_url: stack.database_url(),
            pairs: 100,
            window,
            bytes: 1024,
            seconds,
        };
        let (mut signals, mut forwards) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds() {
            let service = stack.service(signal_settings()).await?;
            signals.push(signal_forward::run(&stack.target(&service), &against).await?);
            signals.last().into_iter().for_each(progress);
            drop(service);
            let service = stack.service(settings()).await?;
            forwards.push(forward::run(&stack.target(&service), &each).await?);
            forwards.last().into_iter().for_each(progress);
        }
        let (signal, mut row) = (Row::median(signals), Row::median(forwards));
        if let (Some(signal), Some(row)) = (&signal, &mut row) {
            row.ratio = Some(row.per_second / signal.per_second);
        }
        rows.extend(signal);
        rows.extend(row);
    }
    Ok(())
}

/// The defaults, with limits raised that exist to stop what this program does.
fn settings() -> Builder {
    let limits = ["PEER_FRAMES", "ADDRESS_FRAMES", "ADDRESS_BYTES", "ADDRESS_REQUESTS_HTTP"];
    limits.into_iter().fold(Service::named("peerbook"), |settings, limit| {
        settings.set(limit, "4000000000:4000000000")
    })
}
