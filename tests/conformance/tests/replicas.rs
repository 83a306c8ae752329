//! All recorded scenarios, through a balancer that gives every connection to the next of two replicas.
#![allow(missing_docs, clippy::print_stdout, reason = "a test")]

use conformance::{Mode, replay_relay, replay_signal};
use testkit::database::Database;
use testkit::nats::Nats;
use testkit::process::Service;
use testkit::proxy::Proxy;
use testkit::vectors::Vectors;

async fn two(
    name: &'static str,
    database: &Database,
    settings: &[(&str, String)],
) -> anyhow::Result<(Vec<Service>, Proxy)> {
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let mut service = Service::named(name).database(&database.url());
        for (setting, value) in settings {
            service = service.set(setting, value);
        }
        replicas.push(service.start().await?);
    }
    let targets: Vec<_> = replicas.iter().map(Service::address).collect();
    let balancer = Proxy::to(&targets).await?;
    Ok((replicas, balancer))
}

async fn signal(mode: Mode, nats: Option<&Nats>) -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let mut settings = Vec::new();
    settings.extend(nats.map(|nats| ("BUS_URL", nats.url())));
    settings.extend((mode == Mode::Exact).then(|| ("IDENTITY_POLICY", "open".to_owned())));
    let (_replicas, balancer) = two("signal", &database, &settings).await?;
    let report = replay_signal(&Vectors::load(), balancer.address(), mode).await;
    println!("{report}");
    assert_eq!(report.failed(), 0, "failed scenarios are listed above");
    Ok(())
}

#[tokio::test]
async fn two_signals_over_postgres_answer_as_the_original() -> anyhow::Result<()> {
    signal(Mode::Exact, None).await
}

#[tokio::test]
async fn two_signals_over_postgres_refuse_only_what_is_listed() -> anyhow::Result<()> {
    signal(Mode::Sound, None).await
}

#[tokio::test]
async fn two_signals_over_nats_answer_as_the_original() -> anyhow::Result<()> {
    signal(Mode::Exact, Some(&Nats::start().await?)).await
}

#[tokio::test]
async fn two_signals_over_nats_refuse_only_what_is_listed() -> anyhow::Result<()> {
    signal(Mode::Sound, Some(&Nats::start().await?)).await
}

async fn relay(mode: Mode) -> anyhow::Result<()> {
    let vectors = Vectors::load();
    for profile in [None, Some("short")] {
        let database = Database::fresh().await?;
        let mut settings = Vec::new();
        settings.extend((mode == Mode::Exact).then(|| ("IDENTITY_POLICY", "open".to_owned())));
        if profile == Some("short") {
            settings.push(("TTL_SECONDS", "2".to_owned()));
            settings.push(("BODY_LIMIT", "4kb".to_owned()));
        }
        let (_replicas, balancer) = two("relay", &database, &settings).await?;
        let report = replay_relay(&vectors, balancer.address(), profile, mode).await;
        println!("{report}");
        assert_eq!(report.failed(), 0, "failed cases are listed above");
    }
    Ok(())
}

#[tokio::test]
async fn two_relays_answer_as_the_original() -> anyhow::Result<()> {
    relay(Mode::Exact).await
}

#[tokio::test]
async fn two_relays_refuse_only_what_is_listed() -> anyhow::Result<()> {
    relay(Mode::Sound).await
}
