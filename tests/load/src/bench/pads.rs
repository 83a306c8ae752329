//! peer-linker and channel-hub, taking turns with a copy relay and with nothing between.

use testkit::process::Service;

use super::stack::{Helper, Stack};
use super::{Options, progress};
use crate::pad::peer::Wire;
use crate::pad::{bulk, idle, neighbour, request, round_trip, stall};
use crate::report::Row;
use crate::target::Target;

/// Both generations.
const WIRES: [Wire; 2] = [Wire::Websocket, Wire::Encrypted];

/// All sections; each round measures every contestant once.
pub(super) async fn run(options: &Options, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let sections =
        ["pad-trip", "pad-bulk", "pad-neighbour", "pad-request", "pad-stall", "pad-idle"];
    if !sections.iter().any(|section| options.wants(section)) {
        return Ok(());
    }
    let stack = Stack::start().await?;
    let scene = Scene {
        options,
        copy: Helper::start("copy").await?,
        linker: stack.service(Service::named("peer-linker")).await?,
        stack,
    };
    if options.wants("pad-trip") {
        scene.round_trips(rows).await?;
    }
    if options.wants("pad-bulk") {
        scene.bulk(rows).await?;
    }
    if options.wants("pad-neighbour") {
        scene.neighbours(rows).await?;
    }
    if options.wants("pad-request") {
        scene.requests(rows).await?;
    }
    // Last, each in a fresh process: they are about its memory.
    if options.wants("pad-stall") {
        scene.stalled(rows).await?;
    }
    if options.wants("pad-idle") {
        scene.idle(rows).await?;
    }
    Ok(())
}

/// Everybody who is compared.
struct Scene<'o> {
    options: &'o Options,
    copy: Helper,
    linker: Service,
    stack: Stack,
}

impl Scene<'_> {
    fn contestants(&self) -> impl Iterator<Item = (Wire, Target)> {
        let ours = WIRES.into_iter().map(|wire| (wire, self.stack.target(&self.linker)));
        std::iter::once((Wire::Bare, self.copy.target())).chain(ours)
    }

    /// Rounds of a measurement that the copy relay and both generations undergo, in this order.
    async fn compare(
        &self,
        mut measure: impl AsyncFnMut(Wire, &Target) -> anyhow::Result<Row>,
    ) -> anyhow::Result<[Vec<Row>; 3]> {
        let mut rounds = [const { Vec::new() }; 3];
        for _ in 0..self.options.rounds() {
            for (at, (wire, target)) in self.contestants().enumerate() {
                note(&mut rounds[at], measure(wire, &target).await?);
            }
        }
        Ok(rounds)
    }

    async fn round_trips(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        let seconds = self.options.seconds();
        let mut direct = Vec::new();
        let [copy, websocket, encrypted] = self
            .compare(async |wire, target| {
                if wire == Wire::Bare {
                    note(&mut direct, round_trip::without_relay(64, seconds).await?);
                }
                let each = round_trip::Options { wire, bytes: 64, seconds };
                round_trip::run(target, &each).await
            })
            .await?;
        // What a relay adds to a round trip, ours against the other.
        let p50 = |rows: &[Row], round: usize| read(&rows[round], "p50 us");
        let added = |rows: &[Row], round| p50(rows, round) - p50(&direct, round);
        for ours in [&websocket, &encrypted] {
            rows.extend(with_ratio(ours, |round| added(ours, round) / added(&copy, round)));
        }
        rows.extend([copy, direct].into_iter().filter_map(Row::median));
        Ok(())
    }

    async fn bulk(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        let seconds = self.options.seconds();
        let [copy, websocket, encrypted] = self
            .compare(async |wire, target| {
                bulk::run(target, &bulk::Options { wire, bytes: 65_499, seconds }).await
            })
            .await?;
        for ours in [websocket, encrypted] {
            rows.extend(with_ratio(&ours, |round| ours[round].per_second / copy[round].per_second));
        }
        rows.extend(Row::median(copy));
        Ok(())
    }

    async fn neighbours(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        let seconds = self.options.seconds();
        let all = self
            .compare(async |wire, target| {
                neighbour::run(target, &neighbour::Options { wire, seconds }).await
            })
            .await?;
        for rounds in all {
            rows.extend(with_ratio(&rounds, |round| read(&rounds[round], "p99 busy / quiet")));
        }
        Ok(())
    }

    async fn requests(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        let seconds = self.options.seconds();
        let hub = self.stack.service(Service::named("channel-hub")).await?;
        let hub = self.stack.target(&hub);
        let [copy, websocket, encrypted] = self
            .compare(async |wire, target| match wire {
                // As many bytes there and back through the relay that only copies.
                Wire::Bare => {
                    let each = round_trip::Options { wire, bytes: 64, seconds };
                    round_trip::run(target, &each).await
                }
                wire => request::run(&hub, &request::Options { wire, seconds }).await,
            })
            .await?;
        for ours in [websocket, encrypted] {
            rows.extend(with_ratio(&ours, |round| {
                read(&ours[round], "p50 us") / read(&copy[round], "p50 us")
            }));
        }
        Ok(())
    }

    async fn stalled(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        for wire in WIRES {
            let settings = Service::named("peer-linker").set("PAYLOAD_MARK", stall::MARK);
            let service = self.stack.service(settings).await?;
            let pairs = self.options.size(1000, 100);
            let each = stall::Options { wire, pairs, mark: stall::MARK };
            note(rows, stall::run(&self.stack.target(&service), &each).await?);
        }
        Ok(())
    }

    async fn idle(&self, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        for registered in [false, true] {
            for wire in WIRES {
                let service = self.stack.service(Service::named("peer-linker")).await?;
                let sockets = self.options.size(10_000, 1000);
                let program = "peer-linker".to_owned();
                let each = idle::Options { wire, sockets, registered, program };
                note(rows, idle::run(&self.stack.target(&service), &each).await?);
            }
        }
        Ok(())
    }
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
