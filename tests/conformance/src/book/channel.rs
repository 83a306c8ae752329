//! Steps over a data channel: the offer, the commands and their answers.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Method;
use serde_json::Value;
use testkit::data_channel::DataChannel;

use super::answer;
use super::line::Line;
use super::stage::{PATIENCE, Peer, Stage};

/// The label of peerbook's channel.
const LABEL: &str = "%";
/// What an answered offer says beside where its candidates go.
const HEADERS: [&str; 3] =
    ["Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Content-Type"];

impl Stage<'_> {
    /// Makes the channel of a scenario that has one: its fingerprint is spoken of before it is
    /// offered.
    pub(super) async fn prepare(&mut self, steps: &[Value]) -> anyhow::Result<()> {
        let Some(name) = steps.iter().find_map(|step| step["dc"].as_str()) else { return Ok(()) };
        let browser = self.bench.browser.context("data channels need a browser")?;
        let channel = DataChannel::new(browser, LABEL).await?;
        let fp = channel.fingerprint()?;
        self.names.set(&format!("<FP_{}>", name.to_uppercase()), &fp);
        let line = Line::Channel(channel);
        self.peers.insert(name.to_owned(), Peer { line, fp, verified: None });
        self.channel = Some(name.to_owned());
        Ok(())
    }

    /// One step over the scenario's channel.
    pub(super) async fn channel(&mut self, step: &Value) -> anyhow::Result<()> {
        let name = self.channel.clone().context("the scenario has no channel")?;
        if step["dc"] == "close" {
            self.settle().await?;
            self.quiet(&name).await?;
            let peer = self.peers.remove(&name).context("it was closed before")?;
            return peer.line.close().await;
        }
        if step["POST /offer"].is_object() {
            self.settle().await?;
            return self.offer(&name, step).await;
        }
        if step["recv"].is_object() {
            let wanted = &step["recv"];
            if self.names.get("<UID>").is_none() && wanted.to_string().contains("<UID>") {
                return self.learn_uid(&name, wanted).await;
            }
            let wanted = self.names.fill_json(wanted)?;
            self.expected.push((name, wanted));
        } else if step["send"].is_object() {
            self.settle().await?;
            self.command(&name, &step["send"]).await?;
        }
        Ok(())
    }

    async fn offer(&mut self, name: &str, step: &Value) -> anyhow::Result<()> {
        let offer = self.peer(name)?.line.channel()?.offer().to_owned();
        // As from a page of another origin, which its clients are.
        let mut headers =
            vec![("content-type", "application/sdp"), ("origin", "https://app.example")];
        headers
            .extend(step["POST /offer"]["Authorization"].as_str().map(|it| ("authorization", it)));
        let answer = self.http.send(Method::POST, "/offer", &headers, Bytes::from(offer)).await?;
        let wanted = &step["response"];
        ensure!(wanted["status"] == answer.status, "{}: {}", answer.status, answer.text());
        for header in HEADERS {
            let wanted = wanted["headers"][header][0].as_str().unwrap_or_default();
            ensure!(answer.header(header) == wanted, "{header} is {:?}", answer.header(header));
        }
        let place = answer.header("location").strip_prefix("http://book.test/candidates/");
        let place = place.with_context(|| format!("candidates go to {:?}", answer.headers))?;
        // As the recorded one: a UUID, in hexadecimal with hyphens.
        ensure!(place.len() == 36 && !answer.header("etag").is_empty(), "{:?}", answer.headers);
        self.peer(name)?.line.channel()?.accept(&answer.text()).await
    }

    async fn command(&mut self, name: &str, command: &Value) -> anyhow::Result<()> {
        let command = self.names.fill_json(command)?;
        let args = &command["args"];
        match (command["type"].as_str(), args["target"].as_str()) {
            (Some("register"), _) => {
                let fp = self.peer(name)?.fp.clone();
                if self.names.of_peer(&fp).is_err() {
                    self.names.call(&fp, args["peer_name"].as_str().unwrap_or_default());
                }
            }
            (Some("rename"), Some(fp)) => {
                self.names.call(fp, args["name"].as_str().unwrap_or_default());
            }
            _ => {}
        }
        if args["otp"].is_string() {
            self.forget_codes().await?;
        }
        let text = self.with_codes(command.to_string()).await?;
        self.peer(name)?.line.send(text, false).await
    }

    /// Waits for the answer to a command.
    pub(super) async fn answered(&mut self, name: &str, wanted: &Value) -> anyhow::Result<()> {
        let line = &mut self.peer(name)?.line;
        let of_it = |frame: &Value| frame["args"]["ref"] == wanted["args"]["ref"];
        answer::compare(wanted, &line.text_within(PATIENCE, of_it).await?)
    }

    /// The answer to `register` is the first to tell the user's id.
    async fn learn_uid(&mut self, name: &str, wanted: &Value) -> anyhow::Result<()> {
        self.settle().await?;
        let line = &mut self.peer(name)?.line;
        let of_it = |frame: &Value| frame["args"]["ref"] == wanted["args"]["ref"];
        let heard = line.text_within(PATIENCE, of_it).await?;
        let frame: Value = serde_json::from_str(&heard)?;
        let body = frame["args"]["body"].as_str().with_context(|| heard.clone())?;
        let body: Value = serde_json::from_str(body)?;
        let uid = body["ID"].as_str().context("an id")?;
        let base32 = |byte: u8| byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte);
        ensure!(uid.len() == 16 && uid.bytes().all(base32), "the id is {uid}");
        self.names.set("<UID>", uid);
        answer::compare(&self.names.fill_json(wanted)?, &heard)
    }
}
