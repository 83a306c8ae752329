//! The real peerbook, all recorded scenarios, with its mail delivered over SMTP.
#![allow(missing_docs, clippy::print_stdout, reason = "a test")]

use std::time::Duration;

use conformance::book::{Bench, Scenario, replay_book, replay_one, scenarios};
use testkit::database::Database;
use testkit::nats::Nats;
use testkit::process::{Builder, Service};
use testkit::proxy::Proxy;
use testkit::smtp_sink::SmtpSink;

/// Recorded at its own pace: when a link ends and when the next mail may go.
const TIMED: &str = "0.3.2/slow-tokens";

fn peerbook(database: &Database, mail: &SmtpSink) -> Builder {
    Service::named("peerbook")
        .database(&database.url())
        .set("PUBLIC_URL", "http://book.test")
        .set("SMTP_HOST", "127.0.0.1")
        .set("SMTP_PORT", mail.address().port())
        .set("SUPPORT_ADDRESS", "operator@book.test")
        // Every scenario's requests come from one address.
        .set("MAIL_PER_CLIENT", 10_000)
        .set("ADDRESS_REQUESTS", 10_000)
        .set("MAX_REQUESTS_PER_USER", 4)
}

#[tokio::test]
async fn every_scenario_passes_as_corrected() -> anyhow::Result<()> {
    let (database, mail) = (Database::fresh().await?, SmtpSink::start().await?);
    let service = peerbook(&database, &mail).start().await?;
    let pool = database.pool().await?;
    let bench =
        Bench { address: service.address(), mail: &mail, pool: &pool, second: Duration::ZERO };
    let only = std::env::var_os("ONLY").and_then(|only| only.into_string().ok());
    let wanted = |id: &str| id != TIMED && only.as_deref().is_none_or(|only| id.contains(only));
    let report = replay_book(&bench, wanted).await;
    println!("{report}");
    assert_eq!(report.failed(), 0, "failed scenarios are listed above");
    Ok(())
}

/// Two replicas on one database, every request at another one.
async fn replay_at_two(bus: &[(&str, String)]) -> anyhow::Result<()> {
    let (database, mail) = (Database::fresh().await?, SmtpSink::start().await?);
    let start = async || {
        let settings =
            bus.iter().fold(peerbook(&database, &mail), |all, (name, value)| all.set(name, value));
        settings.start().await
    };
    let (one, other) = (start().await?, start().await?);
    let balancer = Proxy::to(&[one.address(), other.address()]).await?;
    let pool = database.pool().await?;
    let bench =
        Bench { address: balancer.address(), mail: &mail, pool: &pool, second: Duration::ZERO };
    let only = std::env::var_os("ONLY").and_then(|only| only.into_string().ok());
    let wanted = |id: &str| id != TIMED && only.as_deref().is_none_or(|only| id.contains(only));
    let report = replay_book(&bench, wanted).await;
    println!("{report}");
    assert_eq!(report.failed(), 0, "failed scenarios are listed above");
    Ok(())
}

#[tokio::test]
async fn two_replicas_answer_like_one_over_postgres() -> anyhow::Result<()> {
    replay_at_two(&[]).await
}

#[tokio::test]
async fn two_replicas_answer_like_one_over_nats() -> anyhow::Result<()> {
    let nats = Nats::start().await?;
    replay_at_two(&[("BUS_URL", nats.url())]).await
}

#[tokio::test]
async fn links_end_and_mails_are_spaced_at_a_twentieth_of_the_time() -> anyhow::Result<()> {
    let (database, mail) = (Database::fresh().await?, SmtpSink::start().await?);
    let service = peerbook(&database, &mail).set("MAIL_INTERVAL", "3s").set("TOKEN_TTL", "15s");
    let service = service.start().await?;
    let pool = database.pool().await?;
    let second = Duration::from_millis(50);
    let bench = Bench { address: service.address(), mail: &mail, pool: &pool, second };
    let report = replay_book(&bench, |id| id == TIMED).await;
    println!("{report}");
    assert_eq!(report.failed(), 0, "failed scenarios are listed above");
    Ok(())
}

fn signaling() -> Scenario {
    let mut all = scenarios().into_iter();
    all.find(|scenario| scenario.id == "0.3.2/signaling").expect("a scenario")
}

#[tokio::test]
async fn a_replay_notices_wrong_missing_and_additional_answers() -> anyhow::Result<()> {
    let (database, mail) = (Database::fresh().await?, SmtpSink::start().await?);
    let service = peerbook(&database, &mail).start().await?;
    let pool = database.pool().await?;
    let bench =
        Bench { address: service.address(), mail: &mail, pool: &pool, second: Duration::ZERO };
    let mut wrong = signaling();
    wrong.steps[15]["recv"]["answer"] = "another".into();
    let mut missing = signaling();
    missing.steps[12]["send"]["target"] = "nobody".into();
    let mut additional = signaling();
    additional.steps.remove(13);
    for (what, scenario) in [("wrong", wrong), ("missing", missing), ("additional", additional)] {
        let noticed = replay_one(&bench, &scenario).await;
        assert!(noticed.is_err(), "an answer that is {what} passes");
    }
    replay_one(&bench, &signaling()).await
}
