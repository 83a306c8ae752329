//! The real signal server, all recorded scenarios.
#![allow(missing_docs, clippy::print_stdout, reason = "a test")]

use conformance::{Mode, replay_signal};
use testkit::database::Database;
use testkit::process::Service;
use testkit::vectors::Vectors;

async fn replay(mode: Mode) -> anyhow::Result<()> {
    let vectors = Vectors::load();
    let database = Database::fresh().await?;
    let mut signal = Service::named("signal").database(&database.url());
    if mode == Mode::Exact {
        signal = signal.set("IDENTITY_POLICY", "open");
    }
    let signal = signal.start().await?;
    let report = replay_signal(&vectors, signal.address(), mode).await;
    println!("{report}");
    assert_eq!(report.failed(), 0, "failed scenarios are listed above");
    Ok(())
}

#[tokio::test]
async fn without_pinning_signal_answers_as_the_original() -> anyhow::Result<()> {
    replay(Mode::Exact).await
}

#[tokio::test]
async fn by_default_signal_refuses_only_what_is_listed() -> anyhow::Result<()> {
    replay(Mode::Sound).await
}
