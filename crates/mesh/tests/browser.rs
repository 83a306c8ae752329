//! The browsers' client and the demo page, in a real Chromium against real nodes.
//!
//! Where Chromium and chromedriver are not installed these tests say so and pass. Screenshots of
//! the demo are left in the target directory, under `tmp/mesh-demo`.
#![allow(missing_docs, clippy::print_stdout, reason = "a test")]

mod common;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use common::{ROOM, linked, node};
use serde_json::{Value, json};
use testkit::database::Database;
use testkit::process::Service;
use testkit::time::eventually;
use testkit::turn_server::{self, TurnServer};
use testkit::webdriver::{Browser, Tab, installed};

/// How long two browsers may take to find each other on a busy machine.
const MET_WITHIN: Duration = Duration::from_secs(60);

macro_rules! needs_a_browser {
    () => {
        if let Err(missing) = installed() {
            println!("SKIPPED: {missing}");
            return Ok(());
        }
    };
}

fn url(node: &Service, path: &str) -> String {
    format!("http://{}{path}", node.address())
}

/// Runs a script of `tests/browser` on a page of the node.
async fn run(browser: &Browser, script: &str, arguments: Value) -> anyhow::Result<Value> {
    browser.run_async(script, &arguments).await
}

#[tokio::test]
async fn every_part_of_the_client_keeps_its_promise() -> anyhow::Result<()> {
    needs_a_browser!();
    let database = Database::fresh().await?;
    let node = node(&database).start().await?;
    let browser = Browser::start(800, 600).await?;
    browser.open(&url(&node, "/demo")).await?;
    let told = run(&browser, include_str!("browser/unit.js"), json!([])).await?;
    let failed = told["failed"].as_array().context("a list")?;
    ensure!(failed.is_empty(), "{failed:#?}");
    ensure!(told["count"].as_u64() == told["passed"].as_array().map(|all| all.len() as u64));
    ensure!(told["count"].as_u64() >= Some(9), "{told}");
    println!("hashes a second of one thread: {}", told["rates"]);
    Ok(())
}

/// Two tabs of the demo in one room.
struct Chat {
    browser: Browser,
    tabs: [Tab; 2],
}

impl Chat {
    /// Opens the demo in two tabs, of these nodes, and joins one room in both.
    async fn start(urls: [String; 2]) -> anyhow::Result<Self> {
        let browser = Browser::start(1280, 800).await?;
        let tabs = [browser.new_tab().await?, browser.new_tab().await?];
        for ((tab, url), name) in tabs.iter().zip(urls).zip(["Ada", "Ben"]) {
            browser.show(tab).await?;
            browser.open(&url).await?;
            let fill = "document.querySelector(arguments[0]).value = arguments[1]";
            browser.run(fill, &json!(["#name", name])).await?;
            browser.run(fill, &json!(["#room", "kitchen"])).await?;
            browser.click(&browser.find("#enter button").await?).await?;
        }
        Ok(Self { browser, tabs })
    }

    async fn shows(&self, tab: usize, part: &str) -> anyhow::Result<()> {
        self.browser.show(&self.tabs[tab]).await?;
        let seen = eventually(MET_WITHIN, async || {
            self.browser.text().await.is_ok_and(|text| text.contains(part)).then_some(())
        });
        seen.await.with_context(|| format!("tab {tab} never showed {part:?}"))?;
        Ok(())
    }

    async fn say(&self, tab: usize, text: &str) -> anyhow::Result<()> {
        self.browser.show(&self.tabs[tab]).await?;
        self.browser.type_into(&self.browser.find("#message").await?, text).await?;
        self.browser.click(&self.browser.find("#say [type=submit]").await?).await
    }

    /// Chats and sends a file both ways; the file arrives byte for byte.
    async fn talk(&self) -> anyhow::Result<()> {
        self.shows(0, "Ben").await?;
        self.shows(1, "Ada").await?;
        self.say(0, "Hello, is this thing on?").await?;
        self.shows(1, "Hello, is this thing on?").await?;
        self.say(1, "Loud and clear.").await?;
        self.shows(0, "Loud and clear.").await?;

        let file = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("mesh-file-{}.bin", std::process::id()));
        let bytes: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
        std::fs::write(&file, &bytes)?;
        let keep = "const made = URL.createObjectURL;
            URL.createObjectURL = (blob) => { window.kept = blob; return made(blob); }";
        self.browser.show(&self.tabs[1]).await?;
        self.browser.run(keep, &json!([])).await?;
        self.browser.show(&self.tabs[0]).await?;
        let name = file.to_str().context("a path in UTF-8")?;
        self.browser.type_into(&self.browser.find("#file").await?, name).await?;
        self.shows(1, "2.7 MiB").await?;
        self.shows(1, "Save").await?;
        let sum = "const done = arguments[0];
            window.kept.arrayBuffer().then((all) => { const words = new Uint32Array(all);
                done({ length: words.length, fits: words.every((word, at) => word === at) }) })
              .catch((error) => done(String(error)));";
        let got = run(&self.browser, sum, json!([])).await?;
        std::fs::remove_file(&file)?;
        ensure!(got == json!({"length": 700_000, "fits": true}), "{got}");
        Ok(())
    }
}

#[tokio::test]
async fn two_tabs_chat_and_send_a_file_without_a_server_between() -> anyhow::Result<()> {
    needs_a_browser!();
    let database = Database::fresh().await?;
    let node = node(&database).set("POW_MIN", 12).start().await?;
    let demo = url(&node, "/demo");
    let chat = Chat::start([demo.clone(), demo]).await?;
    chat.talk().await?;
    chat.browser.show(&chat.tabs[1]).await?;
    pictures(&chat.browser, "chat").await?;
    chat.browser.show(&chat.tabs[0]).await?;
    chat.browser.click(&chat.browser.find("#leave").await?).await?;
    pictures(&chat.browser, "enter").await?;
    chat.shows(1, "Ada left").await?;
    chat.shows(1, "Nobody else is here yet").await
}

#[tokio::test]
async fn two_tabs_meet_through_a_relay_that_work_pays_for() -> anyhow::Result<()> {
    needs_a_browser!();
    if let Err(missing) = turn_server::installed() {
        println!("SKIPPED: {missing}");
        return Ok(());
    }
    let turn = TurnServer::for_this_machine("a secret of two").await?;
    let database = Database::fresh().await?;
    let node = node(&database)
        .set("TURN_SECRET", "a secret of two")
        .set("TURN_URLS", format!("turn:127.0.0.1:{}?transport=udp", turn.port()))
        .start()
        .await?;
    let demo = url(&node, "/demo?relay");
    let chat = Chat::start([demo.clone(), demo]).await?;
    chat.talk().await.with_context(|| turn.log())?;
    ensure!(node.metric("mesh_credentials_total").await? >= 2.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tabs_on_two_nodes_meet_directly_and_through_a_relay() -> anyhow::Result<()> {
    needs_a_browser!();
    if let Err(missing) = turn_server::installed() {
        println!("SKIPPED: {missing}");
        return Ok(());
    }
    let turn = TurnServer::for_this_machine("a secret of two").await?;
    let relay = format!("turn:127.0.0.1:{}?transport=udp", turn.port());
    let nodes = linked(2, |_, builder| {
        builder.set("TURN_SECRET", "a secret of two").set("TURN_URLS", &relay)
    });
    let nodes = nodes.await?;
    for how in ["?here", "?here&relay"] {
        let chat = Chat::start([0, 1].map(|at| format!("{}/demo{how}", nodes[at].url))).await?;
        for (tab, node) in nodes.iter().enumerate() {
            chat.shows(tab, &format!("Connected through {}", node.service.address())).await?;
        }
        chat.talk().await.with_context(|| format!("{how}: {}", turn.log()))?;
    }
    Ok(())
}

#[tokio::test]
async fn clients_choose_the_idle_one_of_three_nodes() -> anyhow::Result<()> {
    needs_a_browser!();
    let mut nodes = Vec::new();
    for load in ["0.9 0.1", "0.1 0.8", "0.02 0.03"] {
        let database = Database::fresh().await?;
        let file = std::env::temp_dir().join(format!("mesh-pick-{}-{load}", std::process::id()));
        std::fs::write(&file, load)?;
        let node = node(&database).set("LOAD_FILE", file.display()).start().await?;
        nodes.push((node, file, database));
    }
    for (node, ..) in &nodes[..2] {
        let client = testkit::mesh_client::MeshClient::plain(node.address());
        let dear = eventually(Duration::from_secs(60), async || {
            let root = client.get("/").await.ok()?.ok().ok()?;
            (root["height"].as_u64()? >= 12).then_some(())
        });
        dear.await.context("the price never rose")?;
    }
    let browser = Browser::start(800, 600).await?;
    browser.open(&url(&nodes[0].0, "/demo")).await?;
    let urls: Vec<String> = nodes.iter().map(|(node, ..)| url(node, "")).collect();
    // In parts: a script may take only so long.
    let mut idle = 0;
    for _ in 0..10 {
        let counts = run(&browser, include_str!("browser/pick.js"), json!([urls, 20])).await?;
        idle += counts[&urls[2]].as_u64().with_context(|| counts.to_string())?;
    }
    for (_, file, _) in &nodes {
        std::fs::remove_file(file)?;
    }
    println!("the idle node was chosen {idle} times of 200");
    ensure!(idle >= 190, "the idle node was chosen {idle} times of 200");
    Ok(())
}

#[tokio::test]
async fn a_client_goes_on_at_another_node_and_pays_what_the_price_has_become() -> anyhow::Result<()>
{
    needs_a_browser!();
    let (first_data, second_data) = (Database::fresh().await?, Database::fresh().await?);
    let mut first = node(&first_data).start().await?;
    // Dearer: the client goes there when it has to.
    let second = node(&second_data).set("POW_MIN", 11).start().await?;
    let browser = Browser::start(800, 600).await?;
    browser.open(&url(&second, "/demo")).await?;
    let urls = json!([[url(&first, ""), url(&second, "")], ROOM]);
    run(&browser, include_str!("browser/subscribe.js"), urls).await?;
    let post = "const done = arguments[1];
        window.room.post(arguments[0]).then(done, (error) => done({ error: String(error) }))";
    for text in ["one", "two"] {
        let told = run(&browser, post, json!([text])).await?;
        ensure!(told["node"] == url(&first, ""), "{told}");
    }
    // The first two raised the price of the third, which is quoted only when it is refused.
    first.kill();
    let told = run(&browser, post, json!(["three"])).await?;
    ensure!(told["node"] == url(&second, ""), "{told}");
    let heard = eventually(MET_WITHIN, async || {
        let heard = browser.run("return window.heard", &json!([])).await.ok()?;
        (heard.as_array()?.len() >= 3).then_some(heard)
    });
    let heard = heard.await.context("the third was never heard")?;
    ensure!(heard == json!(["one", "two", "three"]), "{heard}");

    // It is found again, and what comes twice is heard once.
    first.start_again().await?;
    let told = run(&browser, post, json!(["four"])).await?;
    ensure!(told["node"] == url(&second, ""), "{told}");
    let heard = eventually(MET_WITHIN, async || {
        let heard = browser.run("return window.heard", &json!([])).await.ok()?;
        (heard.as_array()?.len() >= 4).then_some(heard)
    });
    ensure!(heard.await == Some(json!(["one", "two", "three", "four"])));
    Ok(())
}

#[tokio::test]
async fn rooms_of_one_page_share_a_stream() -> anyhow::Result<()> {
    needs_a_browser!();
    let database = Database::fresh().await?;
    let node = node(&database).start().await?;
    let browser = Browser::start(800, 600).await?;
    browser.open(&url(&node, "/demo")).await?;
    let rooms: Vec<String> = (1..=5).map(|nth| format!("{nth:040x}")).collect();
    let late = format!("{:040x}", 6);
    let arguments = json!([url(&node, ""), rooms, late]);
    let heard = run(&browser, include_str!("browser/share.js"), arguments).await?;
    for (nth, room) in rooms.iter().enumerate() {
        let said = match nth {
            1 => json!(["first 1", "second"]),
            _ => json!([format!("first {nth}")]),
        };
        ensure!(heard[room] == said, "{heard}");
    }
    ensure!(heard[&late] == json!(["early", "second"]), "{heard}");
    // Those that were replaced end as the node notices, with its next sign of life.
    let one = eventually(MET_WITHIN, async || {
        (node.metric("mesh_streams").await.ok()? == 1.0).then_some(())
    });
    one.await.context("more than one stream")
}

/// Leaves pictures of the page shown, as phones and desktops have it, by day and by night.
async fn pictures(browser: &Browser, name: &str) -> anyhow::Result<()> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mesh-demo");
    browser.pictures(&directory, name).await
}
