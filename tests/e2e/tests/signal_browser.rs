//! Browsers and signal: two pages meet by its signals alone, directly and, forced, through a real
//! coturn with the credentials it issued; and the connectivity page finds out what works.
//!
//! Chromium is driven through chromedriver. Where it or coturn is not installed these tests say so and
//! pass. Screenshots of the page are left in the target directory, under `tmp/check-page`. Where coturn
//! must not relay to is tested in `tests/deploy`: here it may relay to one private address, its own.
#![allow(missing_docs, clippy::print_stdout, reason = "a test")]

use std::path::Path;

use anyhow::{Context as _, ensure};
use e2e::calls::{Calls, Page};
use serde_json::{Value, json};
use testkit::database::Database;
use testkit::http_client::HttpClient;
use testkit::process::Service;
use testkit::turn_server::{self, TurnServer};
use testkit::webdriver::{Browser, installed};

mod common;

struct World {
    calls: Calls,
    signal: Service,
    _relay: TurnServer,
    _database: Database,
}

impl World {
    /// `relays_to_itself` as [`common::coturn`] has it.
    async fn start(relays_to_itself: bool) -> anyhow::Result<Option<Self>> {
        if let Some(missing) = installed().err().or(turn_server::installed().err()) {
            println!("SKIPPED: {missing}");
            return Ok(None);
        }
        let (database, relay) = (Database::fresh().await?, common::coturn(relays_to_itself).await?);
        let signal = Service::named("signal")
            .database(&database.url())
            .set("TURN_SECRET", common::TURN_SECRET)
            .set("TURN_URLS", common::turn_urls(&relay))
            .start()
            .await?;
        let calls = Calls::new(Browser::start(1280, 800).await?).await?;
        Ok(Some(Self { calls, signal, _relay: relay, _database: database }))
    }

    /// A registered peer in a tab of its own, which connects as `policy` says.
    async fn peer(&self, name: &str, policy: &str) -> anyhow::Result<Page<'_>> {
        self.calls.peer(&format!("ws://{}", self.signal.address()), name, policy).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pages_talk_by_signal_directly_and_through_coturn() -> anyhow::Result<()> {
    let Some(world) = World::start(true).await? else { return Ok(()) };
    let direct = [world.peer("ada", "all").await?, world.peer("bob", "all").await?];
    let way = direct[0].call("bob").await?;
    ensure!(!way.to_string().contains("relay"), "a direct way was there: {way}");
    let forced = [world.peer("carol", "relay").await?, world.peer("dave", "relay").await?];
    let way = forced[0].call("dave").await?;
    ensure!(way == json!(["relay", "relay"]), "{way}");
    Ok(())
}

/// Opens the page, waits for its verdict; the text that it would copy.
async fn check(world: &World) -> anyhow::Result<(String, String)> {
    let browser = &world.calls.browser;
    browser.open(&format!("http://{}/check", world.signal.address())).await?;
    browser.find("html[data-checked]").await?;
    let report = "return document.getElementById('report').value";
    let report = browser.run(report, &json!([])).await?;
    let look = browser.run("return document.documentElement.dataset.checked", &json!([])).await?;
    let text = |value: Value| value.as_str().map(str::to_owned).context("a text");
    Ok((text(look)?, text(report)?))
}

/// The word in the report's line that begins with `name`.
fn word<'r>(report: &'r str, name: &str) -> &'r str {
    let line = report.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or("no line").trim()
}

/// Leaves pictures of the page shown, as phones and desktops have it, by day and by night.
async fn picture(browser: &Browser, name: &str) -> anyhow::Result<()> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("check-page");
    browser.pictures(&directory, name).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_finds_what_works_and_what_does_not() -> anyhow::Result<()> {
    let Some(world) = World::start(true).await? else { return Ok(()) };
    let (look, report) = check(&world).await?;
    ensure!(look == "good", "{report}");
    for name in ["Same network", "Relayed, over UDP", "Relayed, over TCP"] {
        ensure!(word(&report, name) == "works", "{name}: {report}");
    }
    // Nobody is where the address of TLS points.
    ensure!(word(&report, "Relayed, over TLS") == "no answer", "{report}");
    for name in ["There and back through the relay", "Web", "WebSocket"] {
        ensure!(word(&report, name).ends_with(" ms"), "{name}: {report}");
    }
    ensure!(report.contains("Everything works"), "{report}");
    picture(&world.calls.browser, "good").await?;
    // It is copied, or the text is shown with the word that it has to be copied by hand.
    world.calls.browser.click(&world.calls.browser.find("#copy").await?).await?;
    world.calls.browser.find("#copied:not(:empty)").await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_relays_nothing_is_found_out() -> anyhow::Result<()> {
    // With the project's list as it is, coturn relays to no address of this machine.
    let Some(world) = World::start(false).await? else { return Ok(()) };
    let (look, report) = check(&world).await?;
    ensure!(look == "bad" && report.contains("nothing sent through it comes back"), "{report}");
    ensure!(word(&report, "There and back through the relay") == "nothing came back", "{report}");
    picture(&world.calls.browser, "refused").await
}

#[tokio::test]
async fn the_page_is_no_dispenser_and_loads_nothing_from_elsewhere() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let signal = Service::named("signal")
        .database(&database.url())
        .set("TURN_SECRET", "secret")
        .set("TURN_URLS", "turn:turn.example:3478")
        .set("CHECK_SERVICES", "relay=https://relay.example:444/health")
        .start()
        .await?;
    let http = HttpClient::plain(signal.address()).new_connections();
    let page = http.get("/check").await?;
    ensure!(page.status == 200 && !page.text().contains("//"), "{}", page.text());
    let policy = page.header("content-security-policy").to_owned();
    ensure!(policy.contains("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
    ensure!(policy.contains("connect-src 'self' https://relay.example:444;"), "{policy}");
    let ask = async || http.send(http::Method::POST, "/check/servers", &[], "".into()).await;
    let first = ask().await?;
    ensure!(first.json()?["iceServers"][0]["urls"] == "stun:turn.example:3478", "{}", first.text());
    ensure!(first.json()?["services"] == json!([["relay", "https://relay.example:444/health"]]));
    let mut refused = 0;
    for _ in 0..12 {
        let answer = ask().await?;
        match answer.status {
            200 => ensure!(answer.json()?["iceServers"][1]["username"].is_string()),
            429 => refused += 1,
            other => anyhow::bail!("{other}"),
        }
    }
    ensure!(refused >= 5, "{refused} refused");
    ensure!(http.get("/check/servers").await?.status == 405);
    ensure!(http.get("/checks").await?.status == 426, "everything else is a WebSocket's");

    let off =
        Service::named("signal").database(&database.url()).set("CHECK", "off").start().await?;
    let http = HttpClient::plain(off.address()).new_connections();
    ensure!(http.get("/check").await?.status == 426);
    Ok(())
}
