//! Pages with a peer each that call each other: signal carries every word until the data channel is open.

use std::net::SocketAddr;

use anyhow::ensure;
use serde_json::{Value, json};
use testkit::keys::Peer;
use testkit::signal_client::register_payload;
use testkit::time::now_ms;
use testkit::webdriver::{Browser, Tab};

/// A browser and the app its pages run.
pub struct Calls {
    /// The browser.
    pub browser: Browser,
    app: SocketAddr,
}

impl Calls {
    /// The app, for pages of this browser.
    ///
    /// # Errors
    /// When there is no port for the app.
    pub async fn new(browser: Browser) -> anyhow::Result<Self> {
        Ok(Self { browser, app: crate::app::serve(include_str!("calls.html")).await? })
    }

    /// A peer registered at `signal` (`ws://…`, `wss://…`) in a tab of its own, which connects by the ICE
    /// servers it is told of as `policy` says: `all`, or `relay` for by those alone.
    ///
    /// # Errors
    /// When it does not come to a `register_ack`.
    pub async fn peer(&self, signal: &str, name: &str, policy: &str) -> anyhow::Result<Page<'_>> {
        let tab = self.browser.new_tab().await?;
        self.browser.show(&tab).await?;
        self.browser.open(&format!("http://{}/", self.app)).await?;
        let key = Peer::random().with_id(name);
        let mut register = register_payload(&key, now_ms(), &format!("{name} {}", now_ms()));
        register["iceServers"] = json!(true);
        let connect = "connect(arguments[0], arguments[1])";
        self.browser.run(connect, &json!([signal, register])).await?;
        let page = Page { browser: &self.browser, tab };
        page.until("ack").await?;
        let script = "config = {iceServers: ack.iceServers, iceTransportPolicy: arguments[0]}";
        self.browser.run(script, &json!([policy])).await?;
        Ok(page)
    }
}

/// One tab with a peer in it.
pub struct Page<'c> {
    browser: &'c Browser,
    tab: Tab,
}

impl Page<'_> {
    async fn until(&self, expression: &str) -> anyhow::Result<Value> {
        self.browser.show(&self.tab).await?;
        let script = format!("until(() => {expression}, arguments[0])");
        match self.browser.run_async(&script, &json!([])).await {
            Ok(found) => Ok(found),
            Err(error) => {
                let seen = "return {heard, errors, state: pc && pc.connectionState}";
                let seen = self.browser.run(seen, &json!([])).await;
                Err(error.context(format!("{expression}; seen: {seen:?}")))
            }
        }
    }

    /// Calls `name`, and hears an answer over the data channel; which kinds of path it took, here and there.
    ///
    /// # Errors
    /// When no answer comes, or one of the pages met an error.
    pub async fn call(&self, name: &str) -> anyhow::Result<Value> {
        self.browser.show(&self.tab).await?;
        self.browser.run_async("call(arguments[0]).then(arguments[1])", &json!([name])).await?;
        self.until("channel.readyState === 'open'").await?;
        self.browser.run("channel.send('ping 7')", &json!([])).await?;
        self.until("heard.includes('pong 7')").await?;
        let errors = self.browser.run("return errors", &json!([])).await?;
        ensure!(errors == json!([]), "{errors}");
        self.browser.run_async("way().then(arguments[0])", &json!([])).await
    }
}
