//! The real relay, all recorded cases.
#![allow(missing_docs, clippy::print_stdout, reason = "a test")]

use conformance::{Mode, Report, replay_relay};
use testkit::database::Database;
use testkit::process::Service;
use testkit::vectors::Vectors;

async fn replay(mode: Mode) -> anyhow::Result<()> {
    let vectors = Vectors::load();
    let mut reports = Vec::new();
    for profile in [None, Some("short")] {
        let database = Database::fresh().await?;
        let mut relay = Service::named("relay").database(&database.url());
        if mode == Mode::Exact {
            relay = relay.set("IDENTITY_POLICY", "open");
        }
        if profile == Some("short") {
            relay = relay.set("TTL_SECONDS", "2").set("BODY_LIMIT", "4kb");
        }
        let relay = relay.start().await?;
        reports.push(replay_relay(&vectors, relay.address(), profile, mode).await);
    }
    reports.iter().for_each(|report| println!("{report}"));
    assert_eq!(
        reports.iter().map(Report::failed).sum::<usize>(),
        0,
        "failed cases are listed above"
    );
    Ok(())
}

#[tokio::test]
async fn without_pinning_the_relay_answers_as_the_original() -> anyhow::Result<()> {
    replay(Mode::Exact).await
}

#[tokio::test]
async fn by_default_the_relay_refuses_only_what_is_listed() -> anyhow::Result<()> {
    replay(Mode::Sound).await
}
