//! Two browsers' peers meet through peerbook: a request, a mail, a page, a decision, and then a
//! real WebRTC data channel by peerbook's signaling alone.
//!
//! Chromium is driven through chromedriver. Where they are not installed these tests say so and
//! pass. Screenshots of every page are left in the target directory, under `tmp/peerbook-pages`.
#![allow(missing_docs, clippy::print_stdout, reason = "a test")]

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testkit::book_client::{Dialect, escaped};
use testkit::database::Database;
use testkit::process::{Port, Service};
use testkit::smtp_sink::SmtpSink;
use testkit::totp;
use testkit::turn_server;
use testkit::webdriver::{Browser, Tab, installed};

mod common;

const PEER: &str = include_str!("peer.html");
const PHONE: (u32, u32) = (390, 844);
const DESKTOP: (u32, u32) = (1280, 800);

/// Everything one test needs.
struct World {
    browser: Browser,
    mail: SmtpSink,
    book: SocketAddr,
    /// Where the app's page is.
    app: SocketAddr,
    _service: Service,
    _port: Port,
    _database: Database,
}

impl World {
    async fn start() -> anyhow::Result<Option<Self>> {
        Self::with_turn("turn:127.0.0.1:9").await
    }

    /// With a TURN server at `urls`.
    async fn with_turn(urls: &str) -> anyhow::Result<Option<Self>> {
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
            .set("TURN_SECRET", common::TURN_SECRET)
            .set("TURN_URLS", urls)
            .start()
            .await?;
        let browser = Browser::start(DESKTOP.0, DESKTOP.1).await?;
        let (book, app) = (port.address(), e2e::app::serve(PEER).await?);
        Ok(Some(Self {
            browser,
            mail,
            book,
            app,
            _service: service,
            _port: port,
            _database: database,
        }))
    }

    /// Opens the app in a tab of its own and connects it to peerbook.
    async fn peer(&self, name: &str, email: &str, dialect: Dialect) -> anyhow::Result<Peer<'_>> {
        let tab = self.browser.new_tab().await?;
        self.browser.show(&tab).await?;
        self.browser.open(&format!("http://{}/", self.app)).await?;
        let identify = "identify().then(arguments[0])";
        let fp = self.browser.run_async(identify, &json!([])).await?;
        let fp = fp.as_str().context("a fingerprint")?.to_owned();
        ensure!(fp.len() == 64, "a SHA-256: {fp}");
        let key = if dialect == Dialect::Plan { "fingerprint" } else { "fp" };
        let (name, email) = (name.to_owned(), escaped(email));
        let url = format!("ws://{}/ws?{key}={fp}&name={name}&kind=web&email={email}", self.book);
        self.browser.run("connect(arguments[0])", &json!([url])).await?;
        Ok(Peer { world: self, tab, fp, name })
    }

    /// Leaves pictures of the page shown, as phones and desktops have it, by day and by night.
    async fn picture(&self, name: &str) -> anyhow::Result<()> {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peerbook-pages");
        std::fs::create_dir_all(&directory)?;
        for (form, (width, height)) in [("phone", PHONE), ("desktop", DESKTOP)] {
            self.browser.emulate(width, height).await?;
            let wide = "return document.documentElement.scrollWidth";
            let wide = self.browser.run(wide, &json!([])).await?.as_u64().unwrap_or_default();
            ensure!(wide <= u64::from(width), "{name} is {wide} pixels wide on a {form}");
            for scheme in ["light", "dark"] {
                self.browser.prefer(scheme).await?;
                let file = directory.join(format!("{name}-{form}-{scheme}.png"));
                std::fs::write(file, self.browser.screenshot().await?)?;
            }
        }
        self.browser.prefer("light").await
    }
}

/// One tab with a peer in it.
struct Peer<'w> {
    world: &'w World,
    tab: Tab,
    fp: String,
    name: String,
}

impl Peer<'_> {
    /// Waits until the script's expression gives something, and returns it.
    async fn until(&self, expression: &str) -> anyhow::Result<Value> {
        let browser = &self.world.browser;
        browser.show(&self.tab).await?;
        let script = format!("until(() => {expression}, arguments[0])");
        match browser.run_async(&script, &json!([])).await {
            Ok(found) => Ok(found),
            Err(error) => {
                let seen = browser.run("return {frames, heard, states}", &json!([])).await;
                Err(error.context(format!("{}: {expression}; seen: {seen:?}", self.name)))
            }
        }
    }

    async fn run(&self, script: &str, arguments: &Value) -> anyhow::Result<Value> {
        self.world.browser.show(&self.tab).await?;
        self.world.browser.run(script, arguments).await
    }

    async fn is_refused(&self) -> anyhow::Result<()> {
        let status = self.until("frames.find((frame) => frame.code)").await?;
        ensure!(status["code"] == 401, "{status}");
        Ok(())
    }

    async fn is_approved(&self) -> anyhow::Result<()> {
        self.until("frames.find((frame) => frame.code === 200)").await.map(drop)
    }
}

/// Calls from one peer to the other; each hears the other on a data channel.
async fn call(from: &Peer<'_>, to: &Peer<'_>, target: &str) -> anyhow::Result<()> {
    from.run("call(arguments[0])", &json!([target])).await?;
    from.until("channel && channel.readyState === 'open'").await?;
    from.run("channel.send('ping 42')", &json!([])).await?;
    from.until("heard.includes('pong 42')").await?;
    to.until("heard.includes('ping 42')").await?;
    to.until("states.includes('connected')").await?;
    let errors = "return frames.filter((frame) => frame.error)";
    for peer in [from, to] {
        let errors = peer.run(errors, &json!([])).await?;
        ensure!(errors == json!([]), "{}: {errors}", peer.name);
    }
    Ok(())
}

/// The page on which a user decides.
struct Page<'w> {
    browser: &'w Browser,
}

impl Page<'_> {
    async fn click(&self, selector: &str) -> anyhow::Result<()> {
        self.browser.click(&self.browser.find(selector).await?).await
    }

    async fn choose(&self, fp: &str, what: &str) -> anyhow::Result<()> {
        self.click(&format!("label:has(input[name='do:{fp}'][value='{what}'])")).await
    }

    async fn type_code(&self, selector: &str, code: &str) -> anyhow::Result<()> {
        self.browser.type_into(&self.browser.find(selector).await?, code).await
    }

    async fn save(&self) -> anyhow::Result<()> {
        self.click("button[value=update]").await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mailed_page_lets_two_browsers_talk_and_parts_them_again() -> anyhow::Result<()> {
    let Some(world) = World::start().await? else { return Ok(()) };
    let (browser, email) = (&world.browser, "ada@example.org");
    let laptop = world.peer("laptop", email, Dialect::Readme).await?;
    laptop.is_refused().await?;
    let phone = world.peer("phone", email, Dialect::Readme).await?;
    phone.is_refused().await?;

    let mail = world.mail.next_to(email).await?;
    let user = browser.new_tab().await?;
    browser.show(&user).await?;
    browser.open(&format!("http://{}/", world.book)).await?;
    world.picture("home").await?;
    browser.open(&mail.link()).await?;
    browser.shows("laptop").await?;
    browser.shows("phone").await?;
    world.picture("review-requests").await?;
    let page = Page { browser };
    page.choose(&laptop.fp, "on").await?;
    page.choose(&phone.fp, "on").await?;
    page.save().await?;
    browser.shows("In your peerbook").await?;
    world.picture("review-approved").await?;
    laptop.is_approved().await?;
    phone.is_approved().await?;
    call(&laptop, &phone, &phone.fp).await.context("the first call")?;

    // The page that answered goes on where the mailed link has ended.
    browser.show(&user).await?;
    page.click(&format!("details:has(input[name='do:{}']) summary", phone.fp)).await?;
    page.choose(&phone.fp, "off").await?;
    page.save().await?;
    let revoked = "frames.find((frame) => frame.text === \"peer's verification was revoked\")";
    phone.until(revoked).await?;
    laptop.run("send({target: arguments[0], offer: 'late'})", &json!([phone.fp])).await?;
    laptop.until("frames.find((frame) => frame.code === 400)").await?;
    let late = phone.run("return frames.filter((frame) => frame.offer)", &json!([])).await?;
    ensure!(!late.to_string().contains("late"), "a revoked peer heard {late}");

    browser.show(&user).await?;
    browser.open(&mail.link()).await?;
    let text = browser.text().await?;
    ensure!(!text.contains("laptop"), "the mailed link still shows devices: {text}");
    world.picture("stale").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_codes_the_page_asks_for_one_and_both_documents_clients_talk() -> anyhow::Result<()> {
    let Some(world) = World::start().await? else { return Ok(()) };
    let (browser, email) = (&world.browser, "grace@example.org");
    let desk = world.peer("desk", email, Dialect::Readme).await?;
    desk.is_refused().await?;
    let tablet = world.peer("tablet", email, Dialect::Plan).await?;
    tablet.is_refused().await?;

    let mail = world.mail.next_to(email).await?;
    let user = browser.new_tab().await?;
    browser.show(&user).await?;
    browser.open(&mail.link()).await?;
    let page = Page { browser };
    page.click("a[href^='/qr/']").await?;
    browser.find("svg").await?;
    world.picture("enrol").await?;
    let secret = "return document.querySelector('.secret').textContent";
    let secret = browser.run(secret, &json!([])).await?;
    let secret = secret.as_str().unwrap_or_default().replace(char::is_whitespace, "");
    let secret = totp::secret(&secret).context("a key in base32")?;
    let step = totp::step();
    page.type_code("#otp", &totp::code(&secret, step)).await?;
    page.click("form button").await?;
    browser.shows("One-time codes are on").await?;

    page.choose(&desk.fp, "on").await?;
    page.choose(&tablet.fp, "on").await?;
    // The code that switched them on is used up.
    page.type_code("#otp", &totp::code(&secret, step)).await?;
    page.save().await?;
    browser.shows("Wrong One Time Password").await?;
    world.picture("review-wrong-code").await?;
    let still = desk.run("return frames.filter((frame) => frame.code === 200)", &json!([])).await?;
    ensure!(still == json!([]), "a used code let a peer in");
    browser.show(&user).await?;
    page.choose(&desk.fp, "on").await?;
    page.choose(&tablet.fp, "on").await?;
    page.type_code("#otp", &totp::code(&secret, step + 1)).await?;
    page.save().await?;
    browser.shows("In your peerbook").await?;
    desk.is_approved().await?;
    tablet.is_approved().await?;
    // By name, as the plan has it, and by fingerprint, as the README has it.
    call(&tablet, &desk, "desk").await.context("by name")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_browsers_talk_through_turn_with_credentials_of_peerbook() -> anyhow::Result<()> {
    if let Err(missing) = turn_server::installed() {
        println!("SKIPPED: {missing}");
        return Ok(());
    }
    let relay = common::coturn(true).await?;
    let Some(world) = World::with_turn(&common::turn_urls(&relay)).await? else { return Ok(()) };
    let (browser, email) = (&world.browser, "ada@example.org");
    let laptop = world.peer("laptop", email, Dialect::Readme).await?;
    laptop.is_refused().await?;
    let phone = world.peer("phone", email, Dialect::Readme).await?;
    phone.is_refused().await?;
    let mail = world.mail.next_to(email).await?;
    let user = browser.new_tab().await?;
    browser.show(&user).await?;
    browser.open(&mail.link()).await?;
    // All of it in sight, not under the bar with the button.
    browser.emulate(DESKTOP.0, 2_000).await?;
    let page = Page { browser };
    page.choose(&laptop.fp, "on").await?;
    page.choose(&phone.fp, "on").await?;
    page.save().await?;
    for peer in [&laptop, &phone] {
        peer.is_approved().await?;
        // The secret of the approval is what gets a peer its credentials.
        let script = "const [book, done] = arguments;
            const {token} = frames.find((frame) => frame.code === 200);
            fetch(`${book}/turn?fp=${fp}`, {method: 'POST', headers: {Authorization: `Bearer ${token}`}})
              .then(async (answer) => {
                config = {iceServers: await answer.json(), iceTransportPolicy: 'relay'};
                done(config.iceServers.length);
              })";
        browser.show(&peer.tab).await?;
        let book = format!("http://{}", world.book);
        ensure!(browser.run_async(script, &json!([book])).await? == 3, "three ways to one server");
    }
    call(&laptop, &phone, &phone.fp).await?;
    browser.show(&laptop.tab).await?;
    let way = browser.run_async("way().then(arguments[0])", &json!([])).await?;
    ensure!(way == json!(["relay", "relay"]), "{way}");
    Ok(())
}
