//! Two peerbooks on one database: what the page of one decides holds at the other.
#![allow(missing_docs, reason = "a test")]

use anyhow::{Context as _, ensure};
use serde_json::json;
use testkit::book_client::{BookPeer, Dialect, tick};
use testkit::database::Database;
use testkit::http_client::HttpClient;
use testkit::json_socket::JsonSocket;
use testkit::nats::Nats;
use testkit::process::Service;
use testkit::smtp_sink::SmtpSink;

async fn start(database: &Database, mail: &SmtpSink) -> anyhow::Result<Service> {
    start_with(database, mail, &[]).await
}

async fn start_with(
    database: &Database,
    mail: &SmtpSink,
    bus: &[(&str, String)],
) -> anyhow::Result<Service> {
    let service = Service::named("peerbook").database(&database.url());
    let service = bus.iter().fold(service, |all, (name, value)| all.set(name, value));
    let service = service.set("PUBLIC_URL", "http://book.test").set("SMTP_HOST", "127.0.0.1");
    service.set("SMTP_PORT", mail.address().port()).start().await
}

/// Two verified peers, connected to one replica each.
async fn apart(
    (here, there): (&Service, &Service),
    mail: &SmtpSink,
    (laptop, server): (&BookPeer, &BookPeer),
) -> anyhow::Result<(JsonSocket, JsonSocket)> {
    let mut from = laptop.connect(here.address(), Dialect::Readme).await?;
    let mut to = server.connect(there.address(), Dialect::Readme).await?;
    let link = mail.next_to(&laptop.email).await?.link_path();
    let token = link.rsplit('/').next().unwrap_or_default();
    for waiting in [&mut from, &mut to] {
        ensure!(waiting.next().await?["code"] == 401, "nobody is in yet");
    }
    tick(&HttpClient::plain(here.address()), token, &[laptop, server]).await?;
    for waiting in [&mut from, &mut to] {
        waiting.wait_for(|frame| frame["code"] == 200).await?;
    }
    Ok((from, to))
}

async fn peers_of_two_replicas_meet(bus: &[(&str, String)]) -> anyhow::Result<()> {
    let (database, mail) = (Database::fresh().await?, SmtpSink::start().await?);
    let here = start_with(&database, &mail, bus).await?;
    let mut there = start_with(&database, &mail, bus).await?;
    let email = "ada@example.org";
    let laptop = BookPeer::new("laptop", "terminal7", email);
    let server = BookPeer::new("server", "webexec", email);
    let (mut from, mut to) = apart((&here, &there), &mail, (&laptop, &server)).await?;

    // Presence, both ways.
    let online = |fp: &str, online: bool| {
        let fp = fp.to_owned();
        move |frame: &serde_json::Value| {
            frame["source_fp"] == fp.as_str() && frame["peer_update"]["online"] == online
        }
    };
    for (who, other) in [(&mut from, &server), (&mut to, &laptop)] {
        // Who is let in second learns it from the list.
        let listed = |peer: &serde_json::Value| peer["fp"] == other.fp && peer["online"] == true;
        let list = who.wait_for(|frame| frame["peers"].is_array()).await?;
        if !list["peers"].as_array().is_some_and(|peers| peers.iter().any(listed)) {
            who.wait_for(online(&other.fp, true)).await.context("the other is there")?;
        }
    }
    from.send(&json!({"command": "get_list"})).await?;
    let list = from.wait_for(|frame| frame["peers"].is_array()).await?;
    let peers = list["peers"].as_array().context("a list")?;
    ensure!(peers.len() == 2 && peers.iter().all(|peer| peer["online"] == true), "{list}");

    // What one says the other hears, in order, and nothing else.
    for round in 0..50 {
        from.send(&json!({"target": server.fp, "offer": round})).await?;
        to.send(&json!({"target": laptop.fp, "answer": round})).await?;
    }
    for round in 0..50 {
        let offer = to.wait_for(|frame| frame["offer"].is_number()).await.context("an offer")?;
        ensure!(offer["offer"] == round && offer["source_name"] == "laptop", "{offer}");
        let answer = from.wait_for(|frame| frame["answer"].is_number()).await;
        let answer = answer.context("an answer")?;
        ensure!(answer["answer"] == round && answer["source_fp"] == server.fp.as_str(), "{answer}");
    }
    ensure!(here.metric("peerbook_envelopes_passed_on_total").await? >= 50.0);

    // Peers of one replica never use the bus.
    let before = here.metric("peerbook_envelopes_passed_on_total").await?;
    let mut again = laptop.connect(here.address(), Dialect::Readme).await?;
    again.wait_for(|frame| frame["code"] == 200).await?;
    again.send(&json!({"target": laptop.fp, "offer": "to myself"})).await?;
    // To the one that was approved, and so has proven that it is the laptop.
    from.wait_for(|frame| frame["offer"] == "to myself").await.context("from here to here")?;
    ensure!(here.metric("peerbook_envelopes_passed_on_total").await? == before);

    // Going and coming; then dying, which is noticed by the lease.
    to.close().await?;
    from.wait_for(online(&server.fp, false)).await.context("the server has gone")?;
    let mut to = server.connect(there.address(), Dialect::Readme).await?;
    to.wait_for(|frame| frame["code"] == 200).await?;
    from.wait_for(online(&server.fp, true)).await.context("the server is back")?;
    there.kill();
    let limit = std::time::Duration::from_secs(30);
    from.wait_for_within(limit, online(&server.fp, false)).await.context("the replica died")?;
    from.send(&json!({"target": server.fp, "offer": "late"})).await?;
    from.wait_for(|frame| frame["code"] == 400).await?;
    Ok(())
}

#[tokio::test]
async fn peers_of_two_replicas_meet_over_postgres() -> anyhow::Result<()> {
    peers_of_two_replicas_meet(&[]).await
}

#[tokio::test]
async fn peers_of_two_replicas_meet_over_nats() -> anyhow::Result<()> {
    let nats = Nats::start().await?;
    peers_of_two_replicas_meet(&[("BUS_URL", nats.url())]).await
}

#[tokio::test]
async fn approval_and_its_end_reach_the_peers_of_another_replica() -> anyhow::Result<()> {
    let (database, mail) = (Database::fresh().await?, SmtpSink::start().await?);
    let (here, there) = (start(&database, &mail).await?, start(&database, &mail).await?);
    let email = "ada@example.org";
    let laptop = BookPeer::new("laptop", "terminal7", email);
    let server = BookPeer::new("server", "webexec", email);
    let mut from = laptop.connect(there.address(), Dialect::Readme).await?;
    let mut to = server.connect(there.address(), Dialect::Readme).await?;
    for waiting in [&mut from, &mut to] {
        ensure!(waiting.next().await?["code"] == 401, "nobody is in yet");
    }
    let link = mail.next_to(email).await?.link_path();
    let token = link.rsplit('/').next().unwrap_or_default();

    let page = HttpClient::plain(here.address());
    let token = tick(&page, token, &[&laptop, &server]).await?;
    from.wait_for(|frame| frame["code"] == 200).await.context("approved elsewhere")?;
    to.wait_for(|frame| frame["code"] == 200).await.context("approved elsewhere")?;
    from.send(&json!({"target": server.fp, "offer": "first"})).await?;
    to.wait_for(|frame| frame["offer"] == "first").await?;

    tick(&page, &token, &[&laptop]).await?;
    to.wait_for(|frame| frame["text"] == "peer's verification was revoked").await?;
    ensure!(to.closed().await?.0 == 1008, "the door is closed");
    from.send(&json!({"target": server.fp, "offer": "late"})).await?;
    let answer = from.wait_for(|frame| frame["code"] == 400).await?;
    ensure!(answer["text"] == format!("Target peer not found: {}", server.fp), "{answer}");

    let mut again = server.connect(there.address(), Dialect::Readme).await?;
    ensure!(again.next().await?["code"] == 401, "a revoked peer waits");
    Ok(())
}
