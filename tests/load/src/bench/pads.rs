//! peer-linker and channel-hub, taking turns with a copy relay and with nothing between.

use testkit::process::Service;

use super::stack::{Helper, Stack};
use super::{Options, progress};
use crate::pad::peer::Wire;
use crate::pad::{bulk, idle, neighbour, request, round_trip};
use crate::report::Row;

/// Both generations.
const WIRES: [Wire; 2] = [Wire::Websocket, Wire::Encrypted];

/// All sections; each round measures every contestant once.
pub(super) async fn run(options: &Options, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let sections = ["pad-trip", "pad-bulk", "pad-neighbour", "pad-request", "pad-idle"];
    if !sections.iter().any(|section| options.wants(section)) {
        return Ok(());
    }
    let stack = Stack::start().await?;
    let copy = Helper::start("copy").await?;
    let linker = stack.service(Service::named("peer-linker")).await?;
    let contestants = || {
        let ours = WIRES.into_iter().map(|wire| (wire, stack.target(&linker)));
        std::iter::once((Wire::Bare, copy.target())).chain(ours)
    };
    let seconds = options.seconds();
    if options.wants("pad-trip") {
        let mut rounds = [const { Vec::new() }; 4];
        for _ in 0..options.rounds() {
            note(&mut rounds[3], round_trip::without_relay(64, seconds).await?);
            for (at, (wire, target)) in contestants().enumerate() {
                let each = round_trip::Options { wire, bytes: 64, seconds };
                note(&mut rounds[at], round_trip::run(&target, &each).await?);
            }
        }
        let [copy, websocket, encrypted, direct] = &rounds;
        let p50 = |rows: &[Row], round: usize| read(&rows[round], "p50 us");
        for ours in [websocket, encrypted] {
            // What a relay adds to a round trip, theirs and ours.
            let added = |rows: &[Row], round| p50(rows, round) - p50(direct, round);
            rows.extend(with_ratio(ours, |round| added(ours, round) / added(copy, round)));
        }
        rows.extend(Row::median(copy.clone()));
        rows.extend(Row::median(direct.clone()));
    }
    if options.wants("pad-bulk") {
        let mut rounds = [const { Vec::new() }; 3];
        for _ in 0..options.rounds() {
            for (at, (wire, target)) in contestants().enumerate() {
                let each = bulk::Options { wire, bytes: 65_499, seconds };
                note(&mut rounds[at], bulk::run(&target, &each).await?);
            }
        }
        let [copy, websocket, encrypted] = &rounds;
        for ours in [websocket, encrypted] {
            rows.extend(with_ratio(ours, |round| ours[round].per_second / copy[round].per_second));
        }
        rows.extend(Row::median(copy.clone()));
    }
    if options.wants("pad-neighbour") {
        let mut rounds = [const { Vec::new() }; 3];
        for _ in 0..options.rounds() {
            for (at, (wire, target)) in contestants().enumerate() {
                let each = neighbour::Options { wire, seconds };
                note(&mut rounds[at], neighbour::run(&target, &each).await?);
            }
        }
        for ours in &rounds {
            rows.extend(with_ratio(ours, |round| read(&ours[round], "p99 busy / quiet")));
        }
    }
    if options.wants("pad-request") {
        let hub = stack.service(Service::named("channel-hub")).await?;
        let mut rounds = [const { Vec::new() }; 3];
        for _ in 0..options.rounds() {
            let each = round_trip::Options { wire: Wire::Bare, bytes: 64, seconds };
            note(&mut rounds[2], round_trip::run(&copy.target(), &each).await?);
            for (at, wire) in WIRES.into_iter().enumerate() {
                let each = request::Options { wire, seconds };
                note(&mut rounds[at], request::run(&stack.target(&hub), &each).await?);
            }
        }
        let [websocket, encrypted, copy] = &rounds;
        for ours in [websocket, encrypted] {
            rows.extend(with_ratio(ours, |round| {
                read(&ours[round], "p50 us") / read(&copy[round], "p50 us")
            }));
        }
    }
    if options.wants("pad-idle") {
        for registered in [false, true] {
            for wire in WIRES {
                // A fresh process each: this is about its memory.
                let service = stack.service(Service::named("peer-linker")).await?;
                let sockets = options.size(10_000, 1000);
                let program = "peer-linker".to_owned();
                let each = idle::Options { wire, sockets, registered, program };
                let row = idle::run(&stack.target(&service), &each).await?;
                progress(&row);
                rows.push(row);
            }
        }
    }
    Ok(())
}

fn note(rows: &mut Vec<Row>, row: Row) {
    progress(&row);
    rows.push(row);
}

fn read(row: &Row, note: &str) -> f64 {
    row.notes.get(note).copied().unwrap_or(f64::NAN)
}

/// The median round; its ratio is the median of all rounds' ratios, beside the least and the most.
fn with_ratio(rounds: &[Row], ratio: impl Fn(usize) -> f64) -> Option<Row> {
    let mut ratios: Vec<f64> = (0..rounds.len()).map(ratio).collect();
    ratios.sort_by(f64::total_cmp);
    let mut row = Row::median(rounds.to_vec())?;
    row.ratio = ratios.get(ratios.len() / 2).copied();
    let (least, most) = (ratios.first().copied()?, ratios.last().copied()?);
    Some(row.note("ratio least", least).note("ratio most", most))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::meter::Usage;

    #[test]
    fn ratios_are_those_of_each_round() {
        let usage = Usage { elapsed: Duration::from_secs(1), server: None, postgres: None };
        let rows: Vec<Row> = [10, 30, 20].map(|count| Row::new("x", "ops", count, usage)).into();
        let base = [10.0, 10.0, 40.0];
        let row = with_ratio(&rows, |round| rows[round].per_second / base[round]).unwrap();
        assert_eq!((row.ratio, row.per_second), (Some(1.0), 20.0));
        assert_eq!((read(&row, "ratio least"), read(&row, "ratio most")), (0.5, 3.0));
    }
}
