//! Replaying what the original peerbooks answered, and what the two documents say.
//!
//! The scenarios were recorded from three builds that contradict one another and the documents.
//! One server answers all of them, so that some of its answers differ from each recording. A
//! difference passes in two ways only: by one of the [`RULES`], which hold everywhere, or by an
//! entry of [`BOOK`](crate::deviations::BOOK), which replaces one step of one scenario by exactly
//! what happens instead. Whatever a socket receives beyond what its scenario expects fails it.

mod answer;
mod channel;
mod compare;
mod fixture;
mod line;
mod names;
mod stage;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use sqlx::PgPool;
use testkit::smtp_sink::SmtpSink;
use testkit::vectors::Tier;
use testkit::webdriver::Browser;

use crate::deviations::of_book;
use crate::{Outcome, Report};
use stage::Stage;

/// Secret of the TURN server whose credentials the server under test hands out, where it does.
pub const TURN_SECRET: &str = "a secret of the tests";
/// And the URL of that server, as in the one recording with a TURN server.
pub const TURN_URL: &str = "turn:turn.example.org:3478";

/// Differences that hold in every scenario, and why.
pub const RULES: &[(&str, &str)] = &[
    (
        "a verified peer's first frame is the 200 that the documents promise",
        "section 6 of the merged interface; no original sent it on connect",
    ),
    (
        "forwarded messages name their sender (`source_name`)",
        "the README and 0.2.1 do; later builds dropped it",
    ),
    (
        "a message at once after connecting finds the lists in force: `online` is true for the peer that asks",
        "the originals' lists raced with their own presence",
    ),
    (
        "records and updates may have the members the other builds and the documents give them, and a status its `uid` and `nonce`",
        "one interface for the clients of all of them",
    ),
    (
        "nobody is sent another peer's `auth_token`",
        "it was a secret sent to everybody; nothing used it",
    ),
    (
        "an unverified peer is sent 0.3.2's 401 and nothing else",
        "0.3.2 sent it the whole address book; HEAD named an app and a site",
    ),
    (
        "`user` is an address and `uid` an id, whichever of them the build called `user`",
        "one interface for the clients of all of them",
    ),
    (
        "over a data channel that 200's text is the user's id",
        "HEAD's clients take the text of a 200 for it",
    ),
    ("one-time codes sent over a data channel are of different time steps", "a code is good once"),
    ("TURN credentials are of now and name the user", "HEAD's named one account for all users"),
    ("JSON is labelled application/json", "0.3.2 labelled it text/plain"),
    (
        "a link is exchanged by every change; the page that answers holds the next",
        "the originals' links could be used again by whoever finds them",
    ),
    ("pages are compared by status, type and message", "they are other pages"),
    ("mails are compared by recipient and the link's host", "they say something else"),
];

/// One recorded scenario.
#[derive(Debug)]
pub struct Scenario {
    /// The build's short name and the scenario's, as in `0.3.2/home`.
    pub id: String,
    /// What was recorded, in order.
    pub steps: Vec<Value>,
    documented: bool,
}

impl Scenario {
    /// Whether some of it goes over a data channel, which needs a browser.
    pub fn has_channel(&self) -> bool {
        self.steps.iter().any(|step| step["dc"].is_string())
    }

    /// Whether it needs a TURN server in the settings: [`TURN_URL`] with [`TURN_SECRET`].
    pub fn has_turn(&self) -> bool {
        let fixture =
            |step: &Value| step["fixture"].as_str().is_some_and(|it| it.contains(TURN_URL));
        self.steps.iter().any(fixture)
    }
}

/// The server under test and what it talks to.
#[derive(Debug)]
pub struct Bench<'b> {
    /// Where it serves clients.
    pub address: SocketAddr,
    /// Where its mail goes.
    pub mail: &'b SmtpSink,
    /// Opens the data channels.
    pub browser: Option<&'b Browser>,
    /// Its database, for what the recordings' storage held.
    pub pool: &'b PgPool,
    /// How long a recorded second takes; zero leaves pauses out.
    pub second: Duration,
}

/// Every scenario of `tests/vectors/peerbook.json`.
///
/// # Panics
/// The file is not what this was written for.
pub fn scenarios() -> Vec<Scenario> {
    let path = testkit::process::workspace().join("tests/vectors/peerbook.json");
    let text = std::fs::read(&path).expect("the vectors are part of the workspace");
    let all: Value = serde_json::from_slice(&text).expect("the vectors are JSON");
    let scenarios = all["scenarios"].as_array().expect("a list of scenarios");
    let scenario = |scenario: &Value| {
        let text = |name: &str| scenario[name].as_str().expect("a string").to_owned();
        let build = text("server").split(' ').next().unwrap_or_default().to_owned();
        Scenario {
            id: format!("{build}/{}", text("id")),
            steps: scenario["steps"].as_array().expect("a list of steps").clone(),
            documented: scenario["provenance"] == "documented",
        }
    };
    scenarios.iter().map(scenario).collect()
}

/// Replays the scenarios that `wanted` accepts.
pub async fn replay_book(bench: &Bench<'_>, wanted: impl Fn(&Scenario) -> bool) -> Report {
    let mut rows = Vec::new();
    for scenario in scenarios() {
        if !wanted(&scenario) {
            continue;
        }
        let outcome = match replay_one(bench, &scenario).await {
            Err(error) => Outcome::Failed(format!("{error:#}")),
            Ok(()) => match of_book(&scenario.id).first() {
                Some(entry) => Outcome::Deviates(entry.reason),
                None => Outcome::Passed,
            },
        };
        let tier = if scenario.documented { Tier::Doc } else { Tier::Core };
        rows.push((scenario.id, tier, outcome));
    }
    Report::new("peerbook", rows)
}

/// Replays one scenario.
///
/// # Errors
/// The first thing that is neither as recorded nor as listed.
pub async fn replay_one(bench: &Bench<'_>, scenario: &Scenario) -> anyhow::Result<()> {
    let listed = of_book(&scenario.id);
    let mut stage = Stage::new(bench);
    stage.prepare(&scenario.steps).await?;
    for (at, step) in scenario.steps.iter().enumerate() {
        let entry = listed.iter().find(|entry| entry.steps.contains(&at));
        let Some(entry) = entry else {
            stage.act(step).await.with_context(|| format!("step {at}"))?;
            continue;
        };
        if at != entry.steps.start {
            continue;
        }
        for (nth, json) in entry.instead.iter().enumerate() {
            let place = || format!("step {at}, instead {nth}");
            let step: Value = serde_json::from_str(json).with_context(place)?;
            stage.act(&step).await.with_context(place)?;
        }
    }
    stage.end().await
}
