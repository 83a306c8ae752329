//! The real peerbook, all recorded scenarios, with its mail delivered over SMTP.
#![allow(missing_docs, clippy::print_stdout, reason = "a test")]

use std::time::Duration;

use conformance::Report;
use conformance::book::{
    Bench, Scenario, TURN_SECRET, TURN_URL, replay_book, replay_one, scenarios,
};
use testkit::database::Database;
use testkit::nats::Nats;
use testkit::process::{Builder, Service};
use testkit::proxy::Proxy;
use testkit::smtp_sink::SmtpSink;
use testkit::webdriver::{Browser, installed};

/// Recorded at its own pace: when a link ends and when the next mail may go.
const TIMED: &str = "0.3.2/slow-tokens";

fn peerbook(database: &Database, mail: &SmtpSink) -> Builder {
    Service::named("peerbook")
        .database(&database.url())
        .set("PUBLIC_URL", "http://book.test")
        .set("SMTP_HOST", "127.0.0.1")
        .set("SMTP_PORT", mail.address().port())
        .set("RTC_LISTEN", "127.0.0.1:0")
        .set("SUPPORT_ADDRESS", "operator@book.test")
        // Every scenario's requests come from one address.
        .set("MAIL_PER_CLIENT", 10_000)
        .set("ADDRESS_REQUESTS", 10_000)
        .set("MAX_REQUESTS_PER_USER", 4)
}

/// Every scenario but the timed one, each at servers that have a TURN server if the recorded one
/// had; without a browser those over a data channel are left out.
async fn replay_all(replicas: usize, bus: &[(&str, String)]) -> anyhow::Result<()> {
    let browser = match installed() {
        Ok(_) => Some(Browser::start(800, 600).await?),
        Err(missing) => {
            println!("SKIPPED over data channels: {missing}");
            None
        }
    };
    let only = std::env::var_os("ONLY").and_then(|only| only.into_string().ok());
    let turn = [("TURN_SECRET", TURN_SECRET.to_owned()), ("TURN_URLS", TURN_URL.to_owned())];
    for has_turn in [false, true] {
        let settings = if has_turn { [bus, &turn].concat() } else { bus.to_vec() };
        let report = replay_at(replicas, &settings, browser.as_ref(), |scenario| {
            scenario.id != TIMED
                && scenario.has_turn() == has_turn
                && (browser.is_some() || !scenario.has_channel())
                && only.as_deref().is_none_or(|only| scenario.id.contains(only))
        });
        let report = report.await?;
        println!("{report}");
        assert_eq!(report.failed(), 0, "failed scenarios are listed above");
    }
    Ok(())
}

/// Replicas on one database, every request at another one.
async fn replay_at(
    replicas: usize,
    settings: &[(&str, String)],
    browser: Option<&Browser>,
    wanted: impl Fn(&Scenario) -> bool,
) -> anyhow::Result<Report> {
    let (database, mail) = (Database::fresh().await?, SmtpSink::start().await?);
    let mut services = Vec::new();
    for _ in 0..replicas {
        let service = peerbook(&database, &mail);
        let set = settings.iter().fold(service, |all, (name, value)| all.set(name, value));
        services.push(set.start().await?);
    }
    let addresses: Vec<_> = services.iter().map(Service::address).collect();
    let balancer = Proxy::to(&addresses).await?;
    let address = if replicas == 1 { addresses[0] } else { balancer.address() };
    let pool = database.pool().await?;
    let bench = Bench { address, mail: &mail, browser, pool: &pool, second: Duration::ZERO };
    Ok(replay_book(&bench, wanted).await)
}

#[tokio::test]
async fn every_scenario_passes_as_corrected() -> anyhow::Result<()> {
    replay_all(1, &[]).await
}

#[tokio::test]
async fn two_replicas_answer_like_one_over_postgres() -> anyhow::Result<()> {
    replay_all(2, &[]).await
}

#[tokio::test]
async fn two_replicas_answer_like_one_over_nats() -> anyhow::Result<()> {
    let nats = Nats::start().await?;
    replay_all(2, &[("BUS_URL", nats.url())]).await
}

#[tokio::test]
async fn links_end_and_mails_are_spaced_at_a_twentieth_of_the_time() -> anyhow::Result<()> {
    let (database, mail) = (Database::fresh().await?, SmtpSink::start().await?);
    let service = peerbook(&database, &mail).set("MAIL_INTERVAL", "3s").set("TOKEN_TTL", "15s");
    let service = service.start().await?;
    let pool = database.pool().await?;
    let second = Duration::from_millis(50);
    let address = service.address();
    let bench = Bench { address, mail: &mail, browser: None, pool: &pool, second };
    let report = replay_book(&bench, |scenario| scenario.id == TIMED).await;
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
    let (address, second) = (service.address(), Duration::ZERO);
    let bench = Bench { address, mail: &mail, browser: None, pool: &pool, second };
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
