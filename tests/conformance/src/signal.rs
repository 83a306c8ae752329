//! Replaying WebSocket scenarios.

mod frames;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt, stream};
use serde_json::Value;
use testkit::time::now_ms;
use testkit::vectors::{Action, Script, SignalCase, Tier, Vectors};
use tokio::time::Instant;

use crate::deviations::{self, Deviation, SIGNAL, Seen};
use crate::websocket::{Client, Event, open};
use crate::{Mode, Outcome, Report, run_name};
use frames::{is_foreign, matches};

/// Scenarios under way at the same time. Presence of the others is recognised by its names.
const AT_ONCE: usize = 8;
/// How long a frame may take that has to come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a frame is waited for that must not come.
const SILENCE: Duration = Duration::from_millis(300);

/// Replays all scenarios.
pub async fn replay_signal(vectors: &Vectors, address: SocketAddr, mode: Mode) -> Report {
    let cases = || vectors.signal.iter().enumerate();
    let one = |(at, case): (usize, &'_ SignalCase)| {
        let id = case.id.clone();
        let tier = case.tier;
        async move {
            let case = &vectors.signal[at];
            let deviation = deviations::find(SIGNAL, &case.id, mode);
            let outcome = match (play(vectors, case, at, address, deviation).await, deviation) {
                (Err(error), _) => Outcome::Failed(format!("{error:#}")),
                (Ok(()), Some(deviation)) => Outcome::Deviates(deviation.reason),
                (Ok(()), None) => Outcome::Passed,
            };
            (id, tier, outcome)
        }
    };
    let together = stream::iter(cases().filter(|(_, case)| names_are_its_own(case)).map(one));
    let mut rows: Vec<_> = together.buffer_unordered(AT_ONCE).collect().await;
    // The rest uses names like `true` that two scenarios would fight over.
    let alone = stream::iter(cases().filter(|(_, case)| !names_are_its_own(case)).map(one));
    rows.extend(alone.buffered(1).collect::<Vec<_>>().await);
    Report::new(format!("signal, {mode:?}"), rows)
}

/// Every peer the scenario registers bears the name of the run.
fn names_are_its_own(case: &SignalCase) -> bool {
    let count = |text: &str, part: &str| text.matches(part).count();
    case.actions.iter().all(|action| match action {
        Action::Send { text, .. } => {
            count(text, "\"peerId\":") == count(text, "\"peerId\":\"${run}")
        }
        _ => true,
    })
}

async fn play(
    vectors: &Vectors,
    case: &SignalCase,
    at: usize,
    address: SocketAddr,
    deviation: Option<&Deviation>,
) -> anyhow::Result<()> {
    let script = Script::new(vectors, run_name(at), now_ms());
    let mut stage = Stage { script, address, clients: HashMap::new(), tier: case.tier };
    for (at, (action, original)) in case.actions.iter().zip(&case.expect).enumerate() {
        if deviation.and_then(|deviation| deviation.until) == Some(at) {
            break;
        }
        let listed: Option<Value> = match deviation.and_then(|deviation| deviation.at(at)) {
            Some(Seen::Event(json)) => Some(serde_json::from_str(json)?),
            Some(other) => bail!("{other:?} is no event"),
            None => None,
        };
        let wanted = listed.as_ref().unwrap_or(original);
        let done = tokio::time::timeout(PATIENCE * 2, stage.act(action, wanted)).await;
        done.context("no end").flatten().with_context(|| format!("action {at}"))?;
    }
    Ok(())
}

/// The clients of one scenario.
struct Stage<'v> {
    script: Script<'v>,
    address: SocketAddr,
    clients: HashMap<String, Client>,
    tier: Tier,
}

impl Stage<'_> {
    async fn act(&mut self, action: &Action, wanted: &Value) -> anyhow::Result<()> {
        match action {
            Action::Open { c, path, headers, noclose } => {
                self.open(c, path, headers, !noclose, wanted).await
            }
            Action::Send { c, text, sigs } => {
                self.script.set_now(now_ms());
                self.script.sign(sigs);
                let text = self.script.fill(text);
                self.client(c)?.text(&text).await
            }
            Action::Frame { c, opcode, b64, fin, mask, rsv } => {
                let first = u8::from(*fin) << 7 | rsv << 4 | opcode;
                self.client(c)?.frame(first, &STANDARD.decode(b64)?, *mask).await
            }
            Action::Header { c, len } => self.client(c)?.header_only(*len).await,
            Action::Recv { c } => self.receive(c, wanted).await,
            Action::Quiet { c, ms } => self.quiet(c, Duration::from_millis(*ms)).await,
            Action::Sleep { ms } => {
                // Lets what must not happen happen: there is no state to wait for.
                tokio::time::sleep(Duration::from_millis(*ms)).await;
                Ok(())
            }
            Action::Close { c, code, reason } => self.client(c)?.close(*code, reason).await,
            Action::Abort { c } => self.clients.remove(c).context("no such client")?.abort(),
            Action::Survive { c } => self.survive(c).await,
            Action::Alive {} => self.alive().await,
        }
    }

    fn client(&mut self, name: &str) -> anyhow::Result<&mut Client> {
        self.clients.get_mut(name).with_context(|| format!("no client {name}"))
    }

    async fn open(
        &mut self,
        name: &str,
        path: &str,
        headers: &[(String, String)],
        closes: bool,
        wanted: &Value,
    ) -> anyhow::Result<()> {
        let opened = open(self.address, &self.script.fill(path), headers, closes).await?;
        ensure!(wanted["http"] == opened.status, "{wanted} wanted, not {}", opened.status);
        for (header, wanted) in wanted.as_object().into_iter().flatten() {
            let line = opened.head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case(header).then(|| value.trim())
            });
            ensure!(
                header == "http" || line == wanted.as_str(),
                "{header}: {wanted}, not {line:?}"
            );
        }
        if let Some(client) = opened.client {
            self.clients.insert(name.to_owned(), client);
        }
        Ok(())
    }

    /// The next event that is this scenario's business.
    async fn next(
        &mut self,
        name: &str,
        wanted: Option<&Value>,
        deadline: Instant,
    ) -> anyhow::Result<Option<Event>> {
        let run = self.script.run().to_owned();
        let client = self.client(name)?;
        loop {
            match client.next(deadline).await? {
                Some(Event::Text(text)) if is_foreign(&text, &run, wanted) => {}
                event => return Ok(event),
            }
        }
    }

    async fn receive(&mut self, name: &str, wanted: &Value) -> anyhow::Result<()> {
        let wanted: Value = serde_json::from_str(&self.script.fill(&wanted.to_string()))?;
        // A deviation may look at another client, or see that nothing comes.
        let name = wanted["c"].as_str().unwrap_or(name);
        if wanted["kind"] == "timeout" {
            return self.quiet(name, SILENCE).await;
        }
        let event = self.next(name, Some(&wanted), Instant::now() + PATIENCE).await?;
        let event = event.with_context(|| format!("{wanted} wanted, nothing came"))?;
        let fits = match &event {
            Event::Text(text) => matches(text, &wanted, self.script.run())?,
            Event::Pong(data) => {
                wanted["kind"] == "pong" && wanted["data_b64"] == STANDARD.encode(data)
            }
            Event::Close { code, reason } => {
                wanted["kind"] == "close" && wanted["code"] == *code && wanted["reason"] == **reason
            }
            Event::End => wanted["kind"] == "eof",
            Event::Binary(_) | Event::Ping(_) | Event::Strange(_) => false,
        };
        ensure!(fits, "{wanted} wanted, not {}", shown(&event));
        Ok(())
    }

    async fn quiet(&mut self, name: &str, time: Duration) -> anyhow::Result<()> {
        match self.next(name, None, Instant::now() + time).await? {
            None => Ok(()),
            Some(event) => bail!("quiet wanted, not {}", shown(&event)),
        }
    }

    /// A sound server answers with an error or closes.
    async fn survive(&mut self, name: &str) -> anyhow::Result<()> {
        match self.next(name, None, Instant::now() + PATIENCE).await? {
            Some(Event::Text(text)) if String::from_utf8_lossy(&text).contains("\"error\"") => {
                Ok(())
            }
            Some(Event::Close { .. }) => Ok(()),
            other => bail!("an error or a close wanted, not {:?}", other.as_ref().map(shown)),
        }
    }

    /// The recording has the original dead here; nobody may follow it there.
    async fn alive(&mut self) -> anyhow::Result<()> {
        debug_assert_eq!(self.tier, Tier::Crash, "only these ask");
        let opened = open(self.address, "/", &[], true).await?;
        let mut client = opened.client.context("no new client is let in")?;
        client.text(r#"{"v":"1","id":"alive","type":"ping"}"#).await?;
        let event = client.next(Instant::now() + PATIENCE).await?;
        ensure!(matches!(event, Some(Event::Text(_))), "an answer wanted, not {event:?}");
        Ok(())
    }
}

fn shown(event: &Event) -> String {
    match event {
        Event::Text(text) => String::from_utf8_lossy(&text[..text.len().min(600)]).into_owned(),
        other => format!("{other:?}"),
    }
}
