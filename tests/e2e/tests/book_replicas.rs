//! Two peerbooks on one database: what the page of one decides holds at the other.
#![allow(missing_docs, reason = "a test")]

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Method;
use serde_json::json;
use testkit::book_client::{BookPeer, Dialect};
use testkit::database::Database;
use testkit::http_client::HttpClient;
use testkit::process::Service;
use testkit::smtp_sink::SmtpSink;

async fn start(database: &Database, mail: &SmtpSink) -> anyhow::Result<Service> {
    let service = Service::named("peerbook").database(&database.url());
    let service = service.set("PUBLIC_URL", "http://book.test").set("SMTP_HOST", "127.0.0.1");
    service.set("SMTP_PORT", mail.address().port()).start().await
}

/// Ticks exactly these peers, as a form of the first release does; the next link.
async fn tick(http: &HttpClient, token: &str, peers: &[&BookPeer]) -> anyhow::Result<String> {
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let ticks: Vec<String> = peers.iter().map(|peer| format!("{}=on", peer.fp)).collect();
    let body = Bytes::from(ticks.join("&"));
    let answer = http.send(Method::POST, &format!("/list/{token}"), &form, body).await?;
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
    let text = answer.text();
    let (_, behind) = text.split_once("/auth/").context("the answer holds the next link")?;
    Ok(behind.split('"').next().unwrap_or_default().to_owned())
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
