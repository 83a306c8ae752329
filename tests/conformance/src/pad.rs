//! Replaying conversations of peer-linker and channel-hub, both generations.

pub(crate) mod cipher;
mod client;
pub mod keepalive;
mod settled;
mod stage;
pub mod vectors;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::timeout;

use crate::deviations::{Rewrite, rewrite};
use crate::{Mode, Outcome, Report};
use stage::Stage;
use vectors::{Generation, Scenario, Step};

/// How long a scenario may take; the longest stalls a reader.
const SCENARIO: Duration = Duration::from_secs(60);

/// A running server and how it was started.
#[derive(Clone, Copy, Debug)]
pub struct PadServer<'a> {
    /// `peer-linker` or `channel-hub`.
    pub program: &'a str,
    /// Where it listens.
    pub address: SocketAddr,
    /// The original's command line for what it was started with; the names of files without
    /// their directories.
    pub arguments: &'a [String],
    /// Speak TLS to it. Only generation A can.
    pub tls: bool,
    /// Where the replicas behind the address tell of themselves; nowhere when there is one. What
    /// a client's end means reaches the others a moment after it.
    pub replicas: &'a [SocketAddr],
}

/// Replays, one after the other, the scenarios that need a server started like this one. They use
/// the same names, so each begins when the connections of the one before are closed.
pub async fn replay_pad(scenarios: &[Scenario], server: PadServer<'_>, mode: Mode) -> Report {
    let mut rows = Vec::new();
    for scenario in scenarios.iter().filter(|scenario| server.suits(scenario)) {
        let rewrite = rewrite(&scenario.id(), mode);
        let played = timeout(SCENARIO, play(scenario, server, rewrite)).await;
        let outcome = match (played.context("no end").flatten(), rewrite) {
            (Err(error), _) => Outcome::Failed(format!("{error:#}")),
            (Ok(()), Some(rewrite)) => Outcome::Deviates(rewrite.reason),
            (Ok(()), None) => Outcome::Passed,
        };
        rows.push((scenario.id(), scenario.generation, outcome));
    }
    let tls = if server.tls { ", TLS" } else { "" };
    let arguments = server.arguments.join(" ");
    Report::new(format!("{} {arguments}, {mode:?}{tls}", server.program), rows)
}

impl PadServer<'_> {
    fn suits(&self, scenario: &Scenario) -> bool {
        scenario.server.as_deref() == Some(self.program)
            && scenario.server_args == self.arguments
            && (!self.tls || scenario.generation == Generation::A)
    }
}

async fn play(
    scenario: &Scenario,
    server: PadServer<'_>,
    rewrite: Option<&Rewrite>,
) -> anyhow::Result<()> {
    let mut stage = Stage::new(scenario.generation, server);
    for (at, step) in steps(scenario, rewrite)? {
        match step {
            Ok(step) => stage.act(&step).await,
            Err(stall) => stage.stall(&stall).await,
        }
        .with_context(|| format!("step {at}"))?;
    }
    stage.end().await
}

/// The steps to take, each with its place in the scenario. `Err` is the name of something that
/// only a rewrite can ask for.
fn steps(
    scenario: &Scenario,
    rewrite: Option<&Rewrite>,
) -> anyhow::Result<Vec<(usize, Result<Step, String>)>> {
    let mut steps = Vec::new();
    let mut next = 0;
    for (range, instead) in rewrite.map_or(&[][..], |rewrite| rewrite.instead) {
        ensure!(next <= range.start && range.end <= scenario.steps.len(), "{range:?} is outside");
        steps.extend((next..range.start).map(|at| (at, Ok(scenario.steps[at].clone()))));
        for line in *instead {
            let step = match line.strip_prefix("stall ") {
                Some(who) => Err(who.to_owned()),
                None => Ok(Step::short(line)?),
            };
            steps.push((range.start, step));
        }
        next = range.end;
    }
    steps.extend((next..scenario.steps.len()).map(|at| (at, Ok(scenario.steps[at].clone()))));
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deviations::PAD;

    #[test]
    fn every_rewrite_fits_its_scenario_and_changes_it() {
        let scenarios = vectors::load();
        for entry in PAD {
            let scenario = scenarios.iter().find(|scenario| scenario.id() == entry.case);
            let scenario = scenario.unwrap_or_else(|| panic!("no scenario {}", entry.case));
            let rewritten = steps(scenario, Some(entry)).expect(entry.case);
            assert_ne!(format!("{rewritten:?}"), format!("{:?}", steps(scenario, None).unwrap()));
        }
    }

    #[test]
    fn every_step_that_the_file_calls_a_bug_is_rewritten() {
        let path = testkit::process::workspace().join("tests/vectors/peer-linker.json");
        let file: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for (raw, scenario) in file.as_array().unwrap().iter().zip(vectors::load()) {
            let marked = |value: &serde_json::Value| value["deviate"] == true;
            let bug = raw["upstream_bug"] == true
                || raw["steps"].as_array().is_some_and(|steps| steps.iter().any(marked));
            let listed = rewrite(&scenario.id(), Mode::Exact).is_some();
            assert!(!bug || listed, "{}", scenario.id());
        }
    }

    #[test]
    fn what_ends_the_original_is_not_waited_for() {
        for scenario in vectors::load() {
            for (at, step) in steps(&scenario, rewrite(&scenario.id(), Mode::Exact)).unwrap() {
                if let Ok(Step::Event { event, .. }) = step {
                    assert!(stage::EVENTS.contains(&&*event), "{} {at}: {event}", scenario.id());
                }
            }
        }
    }
}
