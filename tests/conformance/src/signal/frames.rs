//! Comparing a server's frames with what was recorded of the original's.

use anyhow::Context as _;
use proto::js::{Object, Str, Value};
use serde_json::Value as Wanted;
use sha2::{Digest, Sha256};

use crate::json;

/// Whether a frame tells of a peer of another scenario, and is not what is waited for either.
pub(super) fn is_foreign(text: &[u8], run: &str, wanted: Option<&Wanted>) -> bool {
    let Ok(frame) = json::read(text) else { return false };
    let peer = frame.as_object().and_then(|frame| {
        let kind = frame.get("type")?.as_str()?;
        (*kind == "presence_update").then_some(())?;
        frame.get("payload")?.as_object()?.get("peerId").cloned()
    });
    let Some(peer) = peer else { return false };
    let own = peer.as_str().is_some_and(|peer| peer.as_bytes().starts_with(run.as_bytes()));
    !own && !wanted.is_some_and(|wanted| matches(text, wanted, run).unwrap_or(false))
}

/// Whether a text frame is the wanted one, apart from what differs from run to run.
pub(super) fn matches(text: &[u8], wanted: &Wanted, run: &str) -> anyhow::Result<bool> {
    if wanted["kind"] != "text" {
        return Ok(false);
    }
    let mut got = json::read(text)?;
    if let Some(hash) = wanted["frame_sha256"].as_str() {
        return Ok(sorted_hash(normal(&mut got, &Value::Null, run), run)? == hash);
    }
    let wanted = json::read(wanted["frame"].to_string().as_bytes())?;
    Ok(json::same(normal(&mut got, &wanted, run), &wanted))
}

/// Reduces what the server chose itself to the placeholders of the vectors.
fn normal<'g>(
    frame: &'g mut Value<'static>,
    wanted: &Value<'_>,
    run: &str,
) -> &'g mut Value<'static> {
    let Value::Object(members) = frame else { return frame };
    if let Some(id) = members.get("id").and_then(Value::as_str).and_then(placeholder) {
        members.insert("id".into(), Value::String(id.into()));
    }
    if let Some(Value::Object(mut payload)) = members.get("payload").cloned() {
        let wanted = wanted.as_object().and_then(|wanted| wanted.get("payload")?.as_object());
        normal_payload(&mut payload, wanted, run);
        members.insert("payload".into(), Value::Object(payload));
    }
    frame
}

fn normal_payload(payload: &mut Object<'static>, wanted: Option<&Object<'_>>, run: &str) {
    if let Some(Value::Object(_)) = payload.get("source") {
        payload.insert("source".into(), "<source>".into());
    }
    if let Some(Value::Number(_)) = payload.get("lastSeenMs") {
        payload.insert("lastSeenMs".into(), "<ms>".into());
    }
    let own = |name: &[u8]| name.starts_with(run.as_bytes());
    if let Some(Value::Array(peers)) = payload.get("peers").cloned() {
        let named = wanted.and_then(|wanted| wanted.get("peers")?.as_array()).unwrap_or_default();
        let keep = |peer: &Value<'_>| {
            peer.as_str().is_some_and(|peer| own(peer.as_bytes())) || named.contains(peer)
        };
        let peers = peers.into_iter().filter(keep).collect();
        payload.insert("peers".into(), Value::Array(peers));
    }
    if let Some(Value::Object(seen)) = payload.get("lastSeenMsByPeer").cloned() {
        let named = wanted.and_then(|wanted| wanted.get("lastSeenMsByPeer")?.as_object());
        let seen = seen
            .iter()
            .filter(|(peer, _)| {
                own(peer.as_bytes()) || named.is_some_and(|n| n.get(peer.as_bytes()).is_some())
            })
            .map(|(peer, _)| (peer.clone(), Value::from("<ms>")))
            .collect();
        payload.insert("lastSeenMsByPeer".into(), Value::Object(seen));
    }
}

/// `srv-ack-` and a UUID as the vectors write it.
fn placeholder(id: &Str<'_>) -> Option<String> {
    let id = id.as_str()?;
    let (kind, uuid) = id.split_at_checked(id.len().checked_sub(36)?)?;
    let is_uuid = uuid.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        14 => byte == b'4',
        _ => byte.is_ascii_hexdigit(),
    });
    (kind.starts_with("srv-") && is_uuid).then(|| format!("{kind}<uuid>"))
}

/// Hash of the frame with its keys sorted, as it was taken of large ones.
fn sorted_hash(frame: &Value<'_>, run: &str) -> anyhow::Result<String> {
    let text = json::show(frame).replace(run, "${run}");
    // This map sorts its keys.
    let sorted: Wanted =
        serde_json::from_str(&text).context("lone surrogates were not recorded")?;
    let hash = Sha256::digest(sorted.to_string());
    Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use testkit::vectors::{Script, Vectors};

    use super::*;

    #[test]
    fn the_recorded_frames_are_the_wanted_ones() {
        let vectors = Vectors::load();
        let mut compared = 0;
        for case in &vectors.signal {
            let text = Wanted::from(case.recorded.clone()).to_string();
            let run = text.find("rrec").map_or("none", |at| &text[at..at + 8]);
            let script = Script::new(&vectors, run, 0);
            let wanted = case.expect.iter().filter(|wanted| wanted["kind"] == "text");
            let recorded: Vec<&[u8]> = (case.recorded.iter())
                .filter(|event| event["dir"] == "recv")
                .filter_map(|event| Some(event["text"].as_str()?.as_bytes()))
                .collect();
            for wanted in wanted.filter(|wanted| wanted["frame"].is_object()) {
                let wanted = serde_json::from_str(&script.fill(&wanted.to_string())).unwrap();
                let found = recorded.iter().any(|text| matches(text, &wanted, run).unwrap());
                // Of long frames only the hash was kept.
                let shortened = case.recorded.iter().any(|event| event["text"].is_object());
                assert!(found || shortened, "{}: {wanted}", case.id);
                compared += usize::from(found);
            }
        }
        assert!(compared > 200, "only {compared} frames compared");
    }
}
