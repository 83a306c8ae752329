//! A browser reaches peerbook by WebRTC: an offer by HTTP, the data channel `%`, its commands, and
//! through them another peer.
//!
//! Chromium is driven through chromedriver. Where they are not installed these tests say so and pass.
#![allow(missing_docs, clippy::print_stdout, reason = "a test")]

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testkit::database::Database;
use testkit::process::{Port, Service};
use testkit::smtp_sink::SmtpSink;
use testkit::totp;
use testkit::webdriver::{Browser, Tab, installed};

mod common;

const PEER: &str = include_str!("peer.html");
const EMAIL: &str = "ada@example.org";

/// Everything one test needs.
struct World {
    browser: Browser,
    mail: SmtpSink,
    app: SocketAddr,
    service: Service,
    port: Port,
    _database: Database,
}

impl World {
    async fn start() -> anyhow::Result<Option<Self>> {
        if let Err(missing) = installed() {
            println!("SKIPPED: {missing}");
            return Ok(None);
        }
        let (database, mail) = (Database::fresh().await?, SmtpSink::start().await?);
        let port = Port::reserve()?;
        let service = Service::named("peerbook")
            .database(&database.url())
            .set("LISTEN", port.address())
            .set("PUBLIC_URL", format!("http://{}", port.address()))
            .set("SMTP_HOST", "127.0.0.1")
            .set("SMTP_PORT", mail.address().port())
            .set("RTC_LISTEN", port.address())
            .set("TURN_SECRET", "a secret of this test")
            .set("TURN_URLS", "turn:127.0.0.1:9")
            .start()
            .await?;
        let browser = Browser::start(1280, 800).await?;
        let app = e2e::app::serve(PEER).await?;
        Ok(Some(Self { browser, mail, app, service, port, _database: database }))
    }

    /// Opens the app in a tab of its own, with a certificate of its own.
    async fn peer(&self) -> anyhow::Result<Peer<'_>> {
        let tab = self.browser.new_tab().await?;
        self.browser.show(&tab).await?;
        self.browser.open(&format!("http://{}/", self.app)).await?;
        let fp = self.browser.run_async("identify().then(arguments[0])", &json!([])).await?;
        let fp = fp.as_str().context("a fingerprint")?.to_owned();
        Ok(Peer { world: self, tab, fp })
    }

    fn book(&self) -> String {
        format!("http://{}", self.port.address())
    }
}

/// One tab with a peer in it.
struct Peer<'w> {
    world: &'w World,
    tab: Tab,
    fp: String,
}

impl Peer<'_> {
    async fn run(&self, script: &str, arguments: &Value) -> anyhow::Result<Value> {
        self.world.browser.show(&self.tab).await?;
        self.world.browser.run_async(script, arguments).await
    }

    /// Offers to connect; status and text, or where it may be ended.
    async fn offer(&self, bearer: &str) -> anyhow::Result<Value> {
        let script = "join(arguments[0], arguments[1]).then(arguments[2])";
        self.run(script, &json!([self.world.book(), bearer])).await
    }

    /// Connects by WebRTC and waits until the channel is open.
    async fn join(&self, bearer: &str) -> anyhow::Result<()> {
        let answer = self.offer(bearer).await?;
        ensure!(answer["status"] == 201, "{answer}");
        self.until("control.readyState === 'open'").await.map(drop)
    }

    /// Connects by WebSocket.
    async fn connect(&self, uid: &str) -> anyhow::Result<()> {
        let url = format!(
            "ws://{}/ws?fp={}&name=server&kind=webexec&uid={uid}",
            self.world.port.address(),
            self.fp
        );
        self.world.browser.show(&self.tab).await?;
        self.world.browser.run("connect(arguments[0])", &json!([url])).await?;
        self.until("frames.find((frame) => frame.code === 401)").await.map(drop)
    }

    /// Sends a command; its `ack`'s body.
    async fn ack(&self, kind: &str, args: Value) -> anyhow::Result<String> {
        let answer = self.command(kind, args).await?;
        ensure!(answer["type"] == "ack", "{kind}: {answer}");
        Ok(answer["args"]["body"].as_str().unwrap_or_default().to_owned())
    }

    /// Sends a command; why it was not obeyed.
    async fn nack(&self, kind: &str, args: Value) -> anyhow::Result<String> {
        let answer = self.command(kind, args).await?;
        ensure!(answer["type"] == "nack", "{kind}: {answer}");
        Ok(answer["args"]["desc"].as_str().unwrap_or_default().to_owned())
    }

    async fn command(&self, kind: &str, args: Value) -> anyhow::Result<Value> {
        let script = "command(arguments[0], arguments[1]).then(arguments[2])";
        self.run(script, &json!([kind, args])).await
    }

    /// Waits until the script's expression gives something, and returns it.
    async fn until(&self, expression: &str) -> anyhow::Result<Value> {
        let script = format!("until(() => {expression}, arguments[0])");
        match self.run(&script, &json!([])).await {
            Ok(found) => Ok(found),
            Err(error) => {
                let seen =
                    "return {frames, heard, states, joined: joined && joined.connectionState}";
                let seen = self.world.browser.run(seen, &json!([])).await;
                let log = self.world.service.log();
                Err(error.context(format!("{expression}; seen: {seen:?}; log: {log}")))
            }
        }
    }

    /// Its user has approved it.
    async fn is_in(&self, uid: &str) -> anyhow::Result<()> {
        let status = self.until("frames.find((frame) => frame.code === 200)").await?;
        ensure!(status["uid"] == uid, "{status}");
        self.until("frames.find((frame) => frame.peers)").await.map(drop)
    }
}

/// Opens the link in the next mail.
async fn open_mail(world: &World) -> anyhow::Result<()> {
    let mail = world.mail.next_to(EMAIL).await?;
    let tab = world.browser.new_tab().await?;
    world.browser.show(&tab).await?;
    world.browser.open(&mail.link()).await
}

async fn click(browser: &Browser, selector: &str) -> anyhow::Result<()> {
    browser.click(&browser.find(selector).await?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_registers_by_webrtc_and_reaches_a_server_it_lets_in() -> anyhow::Result<()> {
    let Some(world) = World::start().await? else { return Ok(()) };
    let app = world.peer().await?;
    let refused = app.offer("").await?;
    ensure!(refused["status"] == 401 && refused["text"] == "Unauthorized\n", "{refused}");
    app.join("any subscription").await?;
    ensure!(app.ack("ping", json!({})).await? == "TBD", "nobody's peer yet");
    for (kind, args) in [
        ("verify", json!({"target": "X"})),
        ("rename", json!({"target": app.fp, "name": "x"})),
        ("delete", json!({"target": "X"})),
        ("ice_servers", json!({})),
        ("offer", json!({"target": app.fp, "sdp": "x"})),
    ] {
        let why = app.nack(kind, args).await?;
        ensure!(why.contains("not verified"), "{kind}: {why}");
    }
    ensure!(app.nack("register", json!({"email": "no address"})).await?.contains("Bad email"));
    ensure!(app.ack("of the future", json!({})).await?.is_empty(), "unknown commands are acked");

    let answer = app.ack("register", json!({"email": EMAIL, "peer_name": "browser"})).await?;
    let answer: Value = serde_json::from_str(&answer)?;
    let uid = answer["ID"].as_str().context("an id")?.to_owned();
    ensure!(uid.len() == 16 && app.ack("ping", json!({})).await? == uid);
    ensure!(app.nack("ping", json!({"otp": "123456"})).await? == "invalid OTP");

    open_mail(&world).await?;
    world.browser.shows("browser").await?;
    world.browser.shows("key proven").await.context("by DTLS, before it is let in")?;
    click(&world.browser, &format!("label:has(input[name='do:{}'][value='on'])", app.fp)).await?;
    click(&world.browser, "button[value=update]").await?;
    world.browser.shows("In your peerbook").await?;
    app.is_in(&uid).await?;
    let pushed = app.until("frames.find((frame) => frame.ice_servers)").await?;
    let asked: Value = serde_json::from_str(&app.ack("ice_servers", json!({})).await?)?;
    for servers in [&pushed["ice_servers"], &asked] {
        ensure!(servers[0]["urls"] == json!(["turn:127.0.0.1:9"]), "{servers}");
        let name = servers[0]["username"].as_str().unwrap_or_default();
        ensure!(name.ends_with(&format!(":{uid}")), "{servers}");
    }

    let server = world.peer().await?;
    server.connect(&uid).await?;
    app.ack("verify", json!({"target": server.fp})).await?;
    server.is_in(&uid).await?;
    app.ack("rename", json!({"target": server.fp, "name": "basement"})).await?;
    app.until("frames.find((frame) => frame.peer_update?.name === 'basement')").await?;

    // Offer and candidates by commands; the answer comes over the same channel.
    app.run("call(arguments[0]).then(arguments[1])", &json!([server.fp])).await?;
    app.until("channel && channel.readyState === 'open'").await?;
    world.browser.run("channel.send('ping 42')", &json!([])).await?;
    app.until("heard.includes('pong 42')").await?;
    server.until("heard.includes('ping 42')").await?;
    let errors = "frames.filter((frame) => frame.error)";
    for peer in [&app, &server] {
        let errors = peer.run(&format!("arguments[0]({errors})"), &json!([])).await?;
        ensure!(errors == json!([]), "{errors}");
    }
    let stranger = app.nack("offer", json!({"target": "NOBODY", "sdp": "x"})).await?;
    ensure!(stranger == "peer does not exist", "{stranger}");
    let forged = "v=0\r\na=fingerprint:sha-256 00:11\r\n";
    let forged = app.nack("offer", json!({"target": server.fp, "sdp": forged})).await?;
    ensure!(forged.contains("not the sender's"), "{forged}");

    app.ack("delete", json!({"target": server.fp})).await?;
    server.until("frames.find((frame) => frame.closed === 1008)").await?;
    let gone = app.nack("delete", json!({"target": server.fp})).await?;
    ensure!(gone.contains("does not belong"), "{gone}");

    // A peer that was let in needs no bearer; ending it by its address ends the channel.
    let again = app.offer("").await?;
    ensure!(again["status"] == 201, "{again}");
    app.until("control.readyState === 'open'").await?;
    app.run("fetch(place, {method: 'DELETE'}).then((a) => arguments[0](a.status))", &json!([]))
        .await?;
    app.until("control.readyState === 'closed'").await?;

    // A peer that is removed, here by itself, hears why and is put out.
    app.join("").await?;
    let myself = json!({"type": "delete", "args": {"target": app.fp}}).to_string();
    app.run("control.send(arguments[0]); arguments[1]()", &json!([myself])).await?;
    app.until("frames.find((frame) => frame.code === 401 && frame.text.includes('revoked'))")
        .await?;
    app.until("control.readyState === 'closed'").await?;
    let stranger = app.offer("").await?;
    ensure!(stranger["status"] == 401, "{stranger}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_of_a_user_with_one_time_passwords_need_one() -> anyhow::Result<()> {
    let Some(world) = World::start().await? else { return Ok(()) };
    let browser = &world.browser;
    let app = world.peer().await?;
    app.join("x").await?;
    let answer = app.ack("register", json!({"email": EMAIL, "peer_name": "browser"})).await?;
    let answer: Value = serde_json::from_str(&answer)?;
    let uid = answer["ID"].as_str().context("an id")?.to_owned();

    open_mail(&world).await?;
    click(browser, "a[href^='/qr/']").await?;
    browser.find("svg").await?;
    let secret = "return document.querySelector('.secret').textContent";
    let secret = browser.run(secret, &json!([])).await?;
    let secret = secret.as_str().unwrap_or_default().replace(char::is_whitespace, "");
    let secret = totp::secret(&secret).context("a key in base32")?;
    // Each code is good once, and none older than the last.
    let step = totp::step();
    browser.type_into(&browser.find("#otp").await?, &totp::code(&secret, step - 1)).await?;
    click(browser, "form button").await?;
    browser.shows("One-time codes are on").await?;

    ensure!(app.nack("ping", json!({"otp": "000000"})).await? == "invalid OTP");
    ensure!(app.ack("ping", json!({"otp": totp::code(&secret, step)})).await? == "1");
    app.is_in(&uid).await?;
    let used = json!({"target": "SERVER", "otp": totp::code(&secret, step)});
    ensure!(app.nack("verify", used).await? == "Invalid OTP", "a code is good once");
    ensure!(app.nack("verify", json!({"target": "SERVER"})).await? == "Invalid OTP");
    ensure!(app.nack("delete", json!({"target": app.fp})).await? == "invalid OTP");
    // A server that nobody has heard of yet.
    let right = json!({"target": "SERVER", "otp": totp::code(&secret, step + 1)});
    app.ack("verify", right).await?;
    app.until("frames.find((frame) => frame.source_fp === 'SERVER' && frame.peer_update.verified)")
        .await?;
    Ok(())
}
