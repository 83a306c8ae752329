//! One scenario under way.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use testkit::http_client::HttpClient;
use testkit::json_socket::{JsonSocket, Opened};
use testkit::totp;
use tokio::time::Instant;

use super::line::Line;
use super::names::Names;
use super::{Bench, compare, fixture};

/// How long a frame may take that has to come.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a frame is waited for that must not come.
const SILENCE: Duration = Duration::from_millis(150);
/// What every unverified peer is told.
const UNVERIFIED: &str = "Unverified peer, please check your inbox to verify";

pub(super) struct Stage<'b> {
    pub(super) bench: &'b Bench<'b>,
    pub(super) http: HttpClient,
    pub(super) names: Names,
    /// Who is connected, by the recording's names.
    pub(super) peers: HashMap<String, Peer<'b>>,
    /// Which of them is connected by WebRTC.
    pub(super) channel: Option<String>,
    /// Frames that have to come. Recordings show some before the step that causes them.
    pub(super) expected: Vec<(String, Value)>,
    /// When the scenario began.
    begun: Instant,
    /// The time step of the last one-time password used.
    last_step: i64,
}

pub(super) struct Peer<'b> {
    pub(super) line: Line<'b>,
    pub(super) fp: String,
    /// What the server last called it.
    pub(super) verified: Option<bool>,
}

impl<'b> Stage<'b> {
    pub(super) fn new(bench: &'b Bench<'b>) -> Self {
        Self {
            bench,
            http: HttpClient::plain(bench.address).new_connections(),
            names: Names::new(),
            peers: HashMap::new(),
            channel: None,
            expected: Vec::new(),
            begun: Instant::now(),
            last_step: 0,
        }
    }

    pub(super) async fn act(&mut self, step: &Value) -> anyhow::Result<()> {
        self.pause(step["t"].as_f64()).await;
        if step["http"].is_object() {
            self.settle().await?;
            return self.http(&step["http"]).await;
        }
        if let Some([method, path, body @ ..]) = step["call"].as_array().map(Vec::as_slice) {
            self.settle().await?;
            // A correction in short: what is asked, and the status and body of the answer.
            let request = json!({"method": method, "path": path, "body": body.first()});
            let [status, body @ ..] = step["gives"].as_array().context("an answer")?.as_slice()
            else {
                bail!("an answer has a status")
            };
            let response = json!({"status": status, "body": body.first(),
                "headers": {"Location": step["to"]}});
            return self.http(&json!({"request": request, "response": response})).await;
        }
        if let Some(command) = step["fixture"].as_str() {
            return fixture::apply(self.bench.pool, &mut self.names, command).await;
        }
        if step["mail"].is_object() {
            return self.mail(&step["mail"]).await;
        }
        if !step["later"].is_null() {
            self.forget_codes().await?;
        }
        if let Some(address) = step["no_mail"].as_str() {
            let address = self.names.fill(address)?;
            let mail = self.bench.mail.next_to_within(SILENCE * 4, &address).await?;
            ensure!(mail.is_none(), "there is a mail to {address}");
        }
        if step["dc"].is_string() {
            return self.channel(step).await;
        }
        let Some(name) = step["ws"].as_str() else { return Ok(()) };
        let name = name.to_owned();
        if let Some(path) = step["open"].as_str() {
            return self.open(name, path, &step["refused"]).await;
        }
        let wanted = &step["recv"];
        if !wanted.is_null() {
            let wanted = self.names.fill_json(wanted)?;
            self.expected.push((name, wanted));
            return Ok(());
        }
        self.settle().await?;
        if !step["send"].is_null() {
            return self.send(&name, step).await;
        }
        if step["quiet"] == true {
            return self.quiet(&name).await;
        }
        if let Some(code) = step["closed"].as_u64() {
            let (seen, reason) = self.peer(&name)?.line.closed().await?;
            ensure!(u64::from(seen) == code, "closed with {seen} {reason} instead of {code}");
            self.peers.remove(&name);
        } else if step.get("client_close").is_some() {
            self.quiet(&name).await?;
            let peer = self.peers.remove(&name).with_context(|| format!("no socket {name}"))?;
            peer.line.close().await?;
        } else if step.get("client_abort").is_some() {
            self.quiet(&name).await?;
            drop(self.peers.remove(&name));
        }
        Ok(())
    }

    /// Nothing may be left that nobody expected.
    pub(super) async fn end(mut self) -> anyhow::Result<()> {
        self.settle().await?;
        for name in self.peers.keys().cloned().collect::<Vec<_>>() {
            self.quiet(&name).await?;
        }
        let answer = self.http.get("/").await.context("the server lives")?;
        ensure!(answer.status == 200, "the home page answers {}", answer.status);
        Ok(())
    }

    /// Lets the recording's time pass where this is played at its pace.
    async fn pause(&mut self, at: Option<f64>) {
        let Some(at) = at else { return };
        let due = self.begun + self.bench.second.mul_f64(at);
        tokio::time::sleep_until(due).await;
    }

    /// Waits for every frame that has to come.
    pub(super) async fn settle(&mut self) -> anyhow::Result<()> {
        for (name, wanted) in std::mem::take(&mut self.expected) {
            self.receive(&name, wanted).await.with_context(|| format!("{name} waits"))?;
        }
        Ok(())
    }

    async fn receive(&mut self, name: &str, mut wanted: Value) -> anyhow::Result<()> {
        if !wanted["args"]["ref"].is_null() {
            return self.answered(name, &wanted).await;
        }
        if wanted["source_fp"].is_string() && wanted["peer_update"].is_null() {
            let named = self.names.of_peer(wanted["source_fp"].as_str().unwrap_or_default())?;
            wanted["source_name"] = named.into();
        }
        let peer = self.peer(name)?;
        if !wanted["peers"].is_null() || wanted.get("peers") == Some(&Value::Null) {
            if peer.verified == Some(false) {
                return Ok(()); // the rule: nothing but the 401
            }
            if peer.verified.is_none() {
                let welcome = |frame: &Value| frame["code"] == 200;
                let status = peer.line.wait_for_within(PATIENCE, welcome).await?;
                let uid = status["uid"].as_str().unwrap_or_default();
                let says = match peer.line {
                    Line::Socket(_) => "peer is verified",
                    Line::Channel(_) => uid,
                };
                ensure!(status["text"] == says && !uid.is_empty(), "{status}");
                peer.verified = Some(true);
            }
            for record in wanted["peers"].as_array_mut().into_iter().flatten() {
                if record["fp"] == peer.fp.as_str() {
                    record["online"] = true.into();
                }
            }
        }
        if wanted["text"].as_str().is_some_and(|text| text.starts_with("Unverified peer")) {
            wanted["text"] = UNVERIFIED.into();
        }
        match wanted["code"].as_u64() {
            Some(200) => peer.verified = Some(true),
            Some(401) if peer.verified.is_none() => peer.verified = Some(false),
            _ => {}
        }
        let fits = |frame: &Value| compare::frame(&wanted, frame).is_ok();
        let came = peer.line.wait_for_within(PATIENCE, fits).await;
        came.map(drop).with_context(|| format!("wanted {wanted}"))
    }

    pub(super) async fn quiet(&mut self, name: &str) -> anyhow::Result<()> {
        let more = self.peer(name)?.line.frames_within(SILENCE).await;
        ensure!(more.is_empty(), "{name} received {more:?}, which nothing has announced");
        Ok(())
    }

    pub(super) fn peer(&mut self, name: &str) -> anyhow::Result<&mut Peer<'b>> {
        self.peers.get_mut(name).with_context(|| format!("no socket {name}"))
    }

    async fn open(&mut self, name: String, path: &str, refused: &Value) -> anyhow::Result<()> {
        let path = self.names.fill(path)?;
        let parameter = |wanted: &str| {
            let query = path.split_once('?').map(|(_, query)| query).unwrap_or_default();
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.into_iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.to_owned())
        };
        let fp = parameter("fp").or_else(|| parameter("fingerprint")).unwrap_or_default();
        if let Some(own) = parameter("name") {
            self.names.call(&fp, &own);
        }
        match JsonSocket::attempt(self.bench.address, &path).await? {
            Opened::Socket(socket) if refused.is_null() => {
                self.peers.insert(name, Peer { line: Line::Socket(socket), fp, verified: None });
                Ok(())
            }
            Opened::Socket(_) => bail!("{path} is not refused"),
            Opened::Refused { status, body } => {
                ensure!(refused["status"] == status, "{path} is refused: {status} {body}");
                let wanted = self.names.fill(refused["body"].as_str().unwrap_or_default())?;
                ensure!(body.trim() == wanted.trim(), "{path} is refused: {body}");
                Ok(())
            }
        }
    }

    async fn send(&mut self, name: &str, step: &Value) -> anyhow::Result<()> {
        let text = match &step["send"] {
            Value::String(text) => self.names.fill(text)?,
            Value::Object(_) => self.names.fill_json(&step["send"])?.to_string(),
            other => other.to_string(),
        };
        let text = match step["pad_to"].as_u64() {
            Some(length) => format!("{text:<width$}", width = usize::try_from(length)?),
            None => text,
        };
        self.peer(name)?.line.send(text, step["binary"] == true).await
    }

    async fn mail(&mut self, wanted: &Value) -> anyhow::Result<()> {
        let to = wanted["envelope_to"][0].as_str().context("a mail has a recipient")?;
        // The recording keeps the envelope's brackets.
        let bare = to.strip_prefix('<').and_then(|to| to.strip_suffix('>'));
        let to = bare.filter(|bare| bare.contains(['<', '@'])).unwrap_or(to);
        let to = self.names.fill(to)?;
        let mail = self.bench.mail.next_to(&to).await?;
        let text = wanted.to_string();
        let Some(start) = text.find("<TOKEN") else { return Ok(()) };
        let end = text[start..].find('>').context("a placeholder ends")?;
        let placeholder = &text[start..=start + end];
        let path = mail.link_path();
        ensure!(mail.link().starts_with("http://book.test/"), "the link is {}", mail.link());
        let token = path.rsplit('/').next().unwrap_or_default();
        ensure!(token.len() >= 20, "the link is {}", mail.link());
        self.names.set(placeholder, token);
        self.names.set(&format!("<TOKEN_AT_{}>", to_word(&to)), token);
        Ok(())
    }

    async fn http(&mut self, exchange: &Value) -> anyhow::Result<()> {
        let (request, response) = (&exchange["request"], &exchange["response"]);
        let path = self.names.fill(request["path"].as_str().context("a path")?)?;
        let method: Method = request["method"].as_str().context("a method")?.parse()?;
        let body = match &request["body"] {
            Value::Null => String::new(),
            Value::String(text) => self.names.fill(text)?,
            body => self.names.fill_json(body)?.to_string(),
        };
        let body = self.with_codes(body).await?;
        if let Ok(body) = serde_json::from_str::<Value>(&body)
            && let (Some(fp), Some(name)) = (body["fp"].as_str(), body["name"].as_str())
        {
            self.names.call(fp, name);
        }
        let headers = request["headers"].as_object();
        let headers = headers
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_default()));
        let mut headers: Vec<_> = headers.collect();
        let form = body.contains('=') && !body.starts_with('{');
        if form && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            headers.push(("content-type", "application/x-www-form-urlencoded"));
        }
        let answer = self.http.send(method, &path, &headers, Bytes::from(body)).await?;
        let shown = format!("{path}: {} {:?} {}", answer.status, answer.headers, answer.text());
        if let Some((_, behind)) = answer.text().split_once("class=\"secret\">") {
            let secret = behind.split('<').next().unwrap_or_default();
            self.names.set("<SECRET>", &secret.replace(char::is_whitespace, ""));
        }
        let exchanged = self.exchange(&path, &answer);
        self.compare(response, &answer).with_context(|| shown)?;
        exchanged
    }

    fn compare(
        &mut self,
        wanted: &Value,
        answer: &testkit::http_client::Answer,
    ) -> anyhow::Result<()> {
        ensure!(wanted["status"] == answer.status, "status, wanted {}", wanted["status"]);
        for name in ["Access-Control-Allow-Origin", "Retry-After"] {
            if let Some(value) = wanted["headers"][name].as_str() {
                ensure!(answer.header(name) == value, "{name} is {:?}", answer.header(name));
            }
        }
        if let Some(location) = wanted["headers"]["Location"].as_str() {
            self.location(location, answer.header("location"))?;
        }
        if (300..400).contains(&answer.status) {
            return Ok(());
        }
        let media = answer.header("content-type").split(';').next().unwrap_or_default();
        match &wanted["body"] {
            Value::Object(page) => {
                ensure!(media == "text/html", "the type is {media}");
                let message = page["html_page"]["message"].as_str().unwrap_or_default();
                ensure!(shown(answer).contains(message), "the page does not say {message:?}");
            }
            Value::String(text) if text.starts_with("<html") => {
                ensure!(media == "text/html", "the type is {media}");
            }
            Value::String(text) => {
                let text = self.names.fill(text)?;
                let json = serde_json::from_str::<Value>(&text);
                let Some(json) = json.ok().filter(|_| answer.status < 300) else {
                    ensure!(answer.text().trim() == text.trim(), "wanted {text:?}");
                    return Ok(());
                };
                ensure!(media == "application/json", "the type is {media}");
                match answer.json()? {
                    seen @ Value::Array(_) => compare::records(&json, &seen)?,
                    seen => compare::frame(&json, &seen)?,
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A redirection may name a link nobody has heard of yet.
    fn location(&mut self, wanted: &str, seen: &str) -> anyhow::Result<()> {
        if let Ok(wanted) = self.names.fill(wanted) {
            ensure!(wanted == seen, "redirected to {seen:?} instead of {wanted:?}");
            return Ok(());
        }
        let (before, rest) = wanted.split_once('<').context("a placeholder")?;
        let (placeholder, behind) = rest.split_once('>').context("a placeholder ends")?;
        let token = seen.strip_prefix(before).and_then(|seen| seen.strip_suffix(behind));
        let token =
            token.with_context(|| format!("redirected to {seen:?} instead of {wanted:?}"))?;
        self.names.set(&format!("<{placeholder}>"), token);
        Ok(())
    }

    /// A changed page holds the link that replaces the one it was changed by.
    fn exchange(
        &mut self,
        path: &str,
        answer: &testkit::http_client::Answer,
    ) -> anyhow::Result<()> {
        let mut segments = path.split(['/', '?']).skip(1);
        let (place, old) = (segments.next().unwrap_or_default(), segments.next());
        let Some(old) = old.filter(|old| old.len() >= 20) else { return Ok(()) };
        if !["auth", "pb", "list", "qr"].contains(&place) {
            return Ok(());
        }
        let text = answer.text();
        let next = ["/auth/", "/pb/", "/list/", "/qr/"].iter().find_map(|place| {
            let (_, behind) = text.split_once(place)?;
            let end = behind.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_')?;
            (end >= 20).then(|| behind[..end].to_owned())
        });
        if let Some(next) = next {
            self.names.exchange(old, &next);
        }
        Ok(())
    }

    /// As if a minute had passed: codes used before it are of no concern any more.
    pub(super) async fn forget_codes(&mut self) -> anyhow::Result<()> {
        self.last_step = 0;
        sqlx::query("UPDATE peerbook.totp SET last_step = 0").execute(self.bench.pool).await?;
        Ok(())
    }

    /// Puts codes of now for those of the day of the recording; `000000` stays wrong.
    pub(super) async fn with_codes(&mut self, mut body: String) -> anyhow::Result<String> {
        const SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
        for key in ["otp=", "deleteOTP=", "\"otp\":\""] {
            let Some(at) = body.find(key) else { continue };
            let digits = at + key.len()..at + key.len() + 6;
            let Some(code) = body.get(digits.clone()) else { continue };
            if !code.bytes().all(|byte| byte.is_ascii_digit()) || code == "000000" {
                continue;
            }
            // Codes are used once; clocks may differ by one step.
            self.last_step = (self.last_step + 1).max(totp::step());
            while self.last_step > totp::step() + 1 {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            let secret = self.names.get("<SECRET>").unwrap_or(SECRET);
            let secret = totp::secret(secret).context("base32")?;
            body.replace_range(digits, &totp::code(&secret, self.last_step));
        }
        Ok(body)
    }
}

/// What a page says, without markup's escapes.
fn shown(answer: &testkit::http_client::Answer) -> String {
    let escapes =
        [("&#39;", "'"), ("&#x27;", "'"), ("&quot;", "\""), ("&#34;", "\""), ("&amp;", "&")];
    escapes.iter().fold(answer.text(), |text, (escape, plain)| text.replace(escape, plain))
}

/// An address as part of a placeholder.
fn to_word(address: &str) -> String {
    address.split('.').next().unwrap_or_default().to_ascii_uppercase()
}
