//! A WebRTC data channel between a real browser and a server that answers offers.
//!
//! The browser has a certificate of its own for each channel, whose fingerprint is known before
//! anything is offered. How offer and answer travel is the test's business.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::webdriver::{Browser, Tab};

const SCRIPT: &str = include_str!("data_channel.js");
/// How long a browser on a busy machine may take to connect.
const OPEN_WITHIN: Duration = Duration::from_secs(20);
/// How long one look at the channel may take; scripts have limits of their own.
const LOOK: Duration = Duration::from_secs(10);

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Heard {
    /// Whether it was sent as bytes.
    pub binary: bool,
    /// What it says, with U+FFFD where it is not UTF-8.
    pub text: String,
}

#[derive(Deserialize)]
struct Look {
    state: String,
    heard: Vec<Heard>,
}

/// One data channel in a tab of its own. Messages that a call was not waiting for are kept, in
/// order, for later calls.
#[derive(Debug)]
pub struct DataChannel<'b> {
    browser: &'b Browser,
    tab: Tab,
    offer: String,
    state: String,
    kept: VecDeque<Heard>,
}

impl<'b> DataChannel<'b> {
    /// Makes one with this label and an offer to open it.
    pub async fn new(browser: &'b Browser, label: &str) -> anyhow::Result<Self> {
        let tab = browser.new_tab().await?;
        browser.show(&tab).await?;
        browser.open("about:blank").await?;
        let made = browser.run_async(SCRIPT, &json!([label])).await?;
        let offer = made.as_str().with_context(|| format!("no offer: {made}"))?.to_owned();
        Ok(Self { browser, tab, offer, state: "connecting".to_owned(), kept: VecDeque::new() })
    }

    /// What to send to the server (SDP), candidates included.
    pub fn offer(&self) -> &str {
        &self.offer
    }

    /// SHA-256 of the certificate as peerbook's clients write it: upper case, no colons.
    pub fn fingerprint(&self) -> anyhow::Result<String> {
        let (_, print) =
            self.offer.split_once("a=fingerprint:sha-256 ").context("a fingerprint")?;
        let print = print.lines().next().unwrap_or_default();
        Ok(print.replace(':', "").to_ascii_uppercase())
    }

    /// Takes the server's answer (SDP) and waits until the channel is open.
    pub async fn accept(&mut self, answer: &str) -> anyhow::Result<()> {
        let script = "const [sdp, done] = arguments;
            peer.connection.setRemoteDescription({type: 'answer', sdp})
              .then(() => done(null), (error) => done(String(error)))";
        let failed = self.run(script, &json!([answer])).await?;
        ensure!(failed.is_null(), "the answer is not taken: {failed}");
        let end = Instant::now() + OPEN_WITHIN;
        while self.state == "connecting" {
            ensure!(Instant::now() < end, "not open within {OPEN_WITHIN:?}");
            self.look(end).await?;
        }
        ensure!(self.state == "open", "the channel is {}", self.state);
        Ok(())
    }

    /// Sends a text message.
    pub async fn send_text(&self, text: &str) -> anyhow::Result<()> {
        let script = "const [text, done] = arguments; peer.channel.send(text); done(null)";
        self.run(script, &json!([text])).await.map(drop)
    }

    /// The oldest message, kept or yet to come, that `wanted` accepts, within `limit`.
    pub async fn wait_for_within(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&Heard) -> bool,
    ) -> anyhow::Result<Heard> {
        let end = Instant::now() + limit;
        loop {
            if let Some(at) = self.kept.iter().position(&wanted) {
                return self.kept.remove(at).context("found just now");
            }
            if self.state == "closed" {
                bail!("the channel is closed; kept: {:?}", self.kept);
            }
            if Instant::now() >= end {
                bail!("nothing of the kind within {limit:?}; kept: {:?}", self.kept);
            }
            self.look(end).await?;
        }
    }

    /// Takes all messages that are kept and all that come within `limit`: for asserting that
    /// something does not come.
    pub async fn messages_within(&mut self, limit: Duration) -> Vec<Heard> {
        // Fails at the deadline or at the end of the channel, whichever is first.
        let _ = self.wait_for_within(limit, |_| false).await;
        self.kept.drain(..).collect()
    }

    /// Waits until the server has closed it.
    pub async fn closed(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + OPEN_WITHIN;
        while self.state != "closed" {
            ensure!(Instant::now() < end, "not closed within {OPEN_WITHIN:?}");
            self.look(end).await?;
        }
        Ok(())
    }

    /// Ends the connection.
    pub async fn close(self) -> anyhow::Result<()> {
        let script = "const [done] = arguments; peer.connection.close(); done(null)";
        self.run(script, &json!([])).await.map(drop)
    }

    /// Sees what has come and how the channel is, waiting until `end` for a change.
    async fn look(&mut self, end: Instant) -> anyhow::Result<()> {
        let limit = end.saturating_duration_since(Instant::now()).min(LOOK);
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let script = "peer.listen(...arguments)";
        let seen = self.run(script, &json!([self.state, limit_ms])).await?;
        let Look { state, heard } = serde_json::from_value(seen)?;
        self.state = state;
        self.kept.extend(heard);
        Ok(())
    }

    async fn run(&self, script: &str, arguments: &Value) -> anyhow::Result<Value> {
        self.browser.show(&self.tab).await?;
        self.browser.run_async(script, arguments).await
    }
}
