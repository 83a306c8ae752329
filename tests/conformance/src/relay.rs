//! Replaying HTTP cases.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::{StreamExt, stream};
use proto::js::Value;
use sha2::{Digest, Sha256};
use testkit::time::now_ms;
use testkit::vectors::{Answer, RelayCase, RelayStep, Request, Script, Vectors};

use crate::deviations::{self, Deviation, RELAY, Seen};
use crate::http::{self, Response, exchange};
use crate::{Mode, Outcome, Report, json, run_name};

/// Cases under way at the same time; their names keep them apart.
const AT_ONCE: usize = 8;

/// Replays all relay cases of a profile (`None`: those that need no special settings).
pub async fn replay_relay(
    vectors: &Vectors,
    address: SocketAddr,
    profile: Option<&str>,
    mode: Mode,
) -> Report {
    let cases = vectors.relay.iter().enumerate();
    let chosen = cases.filter(|(_, case)| case.profile.as_deref() == profile);
    let rows = stream::iter(chosen)
        .map(|(at, case)| async move {
            let deviation = deviations::find(RELAY, &case.id, mode);
            let played = play(vectors, case, at, address, deviation).await;
            let outcome = match (played, deviation) {
                (Err(error), _) => Outcome::Failed(format!("{error:#}")),
                (Ok(()), Some(deviation)) => Outcome::Deviates(deviation.reason),
                (Ok(()), None) => Outcome::Passed,
            };
            (case.id.clone(), case.tier, outcome)
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    Report::new(format!("relay, {mode:?}, profile {}", profile.unwrap_or("default")), rows)
}

async fn play(
    vectors: &Vectors,
    case: &RelayCase,
    at: usize,
    address: SocketAddr,
    deviation: Option<&Deviation>,
) -> anyhow::Result<()> {
    let mut script = Script::new(vectors, run_name(at), now_ms());
    let mut answers = case.expect.iter();
    for (at, step) in case.steps.iter().enumerate() {
        if deviation.and_then(|deviation| deviation.until) == Some(at) {
            break;
        }
        let request = match step {
            RelayStep::Sleep { sleep } => {
                // The case is about the passing of time; there is no state to wait for.
                tokio::time::sleep(Duration::from_secs_f64(*sleep)).await;
                continue;
            }
            RelayStep::Request(request) => request,
        };
        let original = answers.next().context("the vectors have an answer for each request")?;
        let listed = deviation.and_then(|deviation| deviation.at(at)).map(answer);
        script.sign(&request.sigs);
        let response = send(&script, request, address).await;
        let response = response.with_context(|| format!("step {at}"))?;
        let wanted = listed.as_ref().unwrap_or(original);
        compare(&script, request, wanted, &response).with_context(|| {
            let body = String::from_utf8_lossy(&response.body[..response.body.len().min(600)]);
            format!("step {at}, got {} {body}", response.status)
        })?;
    }
    Ok(())
}

/// A listed answer in the form of the vectors.
fn answer(seen: Seen) -> Answer {
    let (status, content_type, body) = match seen {
        Seen::Answer(status, body) => (status, "application/json; charset=utf-8", Some(body)),
        Seen::Page(status) => (status, "text/html; charset=utf-8", None),
        Seen::Event(_) => unreachable!("the table of the relay has no events, which a test checks"),
    };
    let (content_type, body) = (Some(content_type.to_owned()), body.map(str::to_owned));
    Answer { status, content_type, body, ..Answer::default() }
}

async fn send(
    script: &Script<'_>,
    request: &Request,
    address: SocketAddr,
) -> anyhow::Result<Response> {
    let sent = http::Request {
        method: &request.method,
        path: &script.fill(&request.path),
        headers: &request.headers,
        body: script.body(request),
        chunked: request.chunked,
    };
    exchange(address, &sent).await
}

fn compare(
    script: &Script<'_>,
    request: &Request,
    wanted: &Answer,
    got: &Response,
) -> anyhow::Result<()> {
    ensure!(got.status == wanted.status, "status {} wanted", wanted.status);
    if let Some(wanted) = &wanted.content_type {
        let got = got.header("content-type").unwrap_or_default();
        ensure!(got == wanted, "content type {wanted} wanted, not {got}");
    }
    for (name, wanted) in &wanted.headers {
        let got = got.header(name).unwrap_or_default();
        ensure!(got == wanted, "{name}: {wanted} wanted, not {got}");
    }
    if let Some(body) = &wanted.body {
        compare_body(request, &script.fill(body), &got.body)?;
    }
    // The text of an HTML page is the framework's; that of a plain one is the answer.
    if let (Some("text"), Some(text)) = (wanted.kind.as_deref(), &wanted.text) {
        ensure!(got.body == text.as_bytes(), "{text} wanted");
    }
    if let Some(count) = wanted.count {
        let page = json::read(&got.body)?;
        let page = page.as_object().context("no object")?;
        let messages = page.get("messages").and_then(Value::as_array).context("no messages")?;
        let cursor = wanted.cursor.as_deref().map(|cursor| script.fill(cursor));
        let got_cursor = page.get("cursor").and_then(Value::as_str);
        ensure!(messages.len() == count, "{count} messages wanted, not {}", messages.len());
        ensure!(
            got_cursor.and_then(|text| text.as_str()) == cursor.as_deref(),
            "{cursor:?} wanted"
        );
    }
    if let Some(shape) = &wanted.shape {
        let shape = json::read(script.fill(&shape.to_string()).as_bytes())?;
        let got = json::read(&got.body)?;
        ensure!(has_shape(&got, &shape), "{} wanted", json::show(&shape));
    }
    Ok(())
}

fn compare_body(request: &Request, wanted: &str, got: &[u8]) -> anyhow::Result<()> {
    if request.volatile.is_empty() && request.loose.is_empty() {
        ensure!(got == wanted.as_bytes(), "{wanted} wanted");
        return Ok(());
    }
    let mut wanted = json::read(wanted.as_bytes())?;
    let mut got = json::read(got)?;
    for pointer in &request.volatile {
        let name = pointer.trim_start_matches('/');
        let number = got.as_object().and_then(|got| got.get(name)?.as_number());
        ensure!(number.is_some(), "a number wanted at {pointer}");
    }
    for pointer in request.volatile.iter().chain(&request.loose) {
        let there = json::blank(&mut got, pointer);
        ensure!(json::blank(&mut wanted, pointer) == there, "{pointer} wanted");
    }
    ensure!(got == wanted, "{} wanted", json::show(&wanted));
    Ok(())
}

/// Long strings are compared by length and hash. Numbers made by templates were recorded as 0.
fn has_shape(got: &Value<'_>, shape: &Value<'_>) -> bool {
    match (got, shape) {
        (Value::Number(_), Value::Number(0.0)) => true,
        (Value::String(got), Value::String(shape)) if shape.as_bytes().starts_with(b"<string ") => {
            let hash = Sha256::digest(got.as_bytes());
            let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
            *shape == format!("<string {} sha256 {hash}>", got.as_bytes().len()).as_str()
        }
        (Value::Array(got), Value::Array(shape)) => {
            got.len() == shape.len() && got.iter().zip(shape).all(|(a, b)| has_shape(a, b))
        }
        (Value::Object(got), Value::Object(shape)) => {
            got.len() == shape.len()
                && got.iter().all(|(key, got)| {
                    shape.get(key.as_bytes()).is_some_and(|shape| has_shape(got, shape))
                })
        }
        _ => got == shape,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recorded_answers_are_the_wanted_ones_and_others_are_not() {
        let vectors = Vectors::load();
        let mut compared = 0;
        for case in &vectors.relay {
            let text = serde_json::Value::from(case.recorded.clone()).to_string();
            let run = text.find("rrec").map_or("", |at| &text[at..at + 8]);
            let mut script = Script::new(&vectors, run, 0);
            let requests = case.steps.iter().filter_map(|step| match step {
                RelayStep::Request(request) => Some(request),
                RelayStep::Sleep { .. } => None,
            });
            for ((request, wanted), recorded) in requests.zip(&case.expect).zip(&case.recorded) {
                script.sign(&request.sigs);
                let recorded = &recorded["response"];
                let Some(body) = recorded["body"]["text"].as_str() else { continue };
                let status = u16::try_from(recorded["status"].as_u64().unwrap()).unwrap();
                let headers = serde_json::from_value(recorded["headers"].clone()).unwrap();
                let mut got = Response { status, headers, body: body.into() };
                compare(&script, request, wanted, &got).expect(&case.id);
                compared += 1;
                got.status += 1;
                assert!(compare(&script, request, wanted, &got).is_err());
                got.status -= 1;
                got.body.extend(b"x");
                let other = compare(&script, request, wanted, &got).is_err();
                assert!(other || wanted.body.is_none() && wanted.kind.as_deref() != Some("text"));
            }
        }
        assert!(compared > 400, "only {compared} answers compared");
    }
}
