//! Whether an answer is the expected one.

use anyhow::{bail, ensure};
use serde_json::Value;

use super::answer;

/// Members that a record may have although the recording's has not.
const RECORD: &[&str] = &[
    "kind",
    "last_connect",
    "last_seen",
    "name",
    "online",
    "proven",
    "uid",
    "user",
    "verified",
    "verified_on",
];
/// Members whose value is a time, and so another one in every run.
const TIMES: &[&str] = &["created_on", "last_connect", "last_seen", "verified_on"];
/// Members that a frame of each kind may have although the recording's has not.
const FRAMES: &[(&str, &[&str])] = &[
    ("peer_update", &["uid"]),
    ("peers", &["uid"]),
    ("list", &["uid"]),
    ("code", &["uid", "nonce", "proven", "policy", "token"]),
    ("verified", &["uid"]),
];
/// Members of the originals that must be gone.
const GONE: &[&str] = &["auth_token"];

/// Whether `seen` is `wanted`, apart from times, order of records and additional members.
pub(super) fn frame(wanted: &Value, seen: &Value) -> anyhow::Result<()> {
    let (Some(wanted), Some(seen)) = (wanted.as_object(), seen.as_object()) else {
        return value("", wanted, seen);
    };
    let kind = FRAMES.iter().find(|(name, _)| wanted.contains_key(*name));
    let more = kind.map(|(_, more)| *more).unwrap_or_default();
    for name in seen.keys() {
        let known = wanted.contains_key(name) || more.contains(&name.as_str());
        ensure!(known, "there is a member {name} in {seen:?}");
    }
    for (name, wanted) in wanted {
        let Some(seen) = seen.get(name) else { bail!("there is no {name} in {seen:?}") };
        match name.as_str() {
            "peers" | "list" => records(wanted, seen)?,
            "peer_update" => record(wanted, seen)?,
            "ice_servers" => answer::servers(wanted, seen)?,
            _ => value(name, wanted, seen)?,
        }
    }
    Ok(())
}

/// Lists of records in any order; none is an empty list.
pub(super) fn records(wanted: &Value, seen: &Value) -> anyhow::Result<()> {
    let none = Vec::new();
    let Some(seen) = seen.as_array() else { bail!("no list: {seen}") };
    let wanted = wanted.as_array().unwrap_or(&none);
    ensure!(
        wanted.len() == seen.len(),
        "{} records instead of {}: {seen:?}",
        seen.len(),
        wanted.len()
    );
    for wanted in wanted {
        let fits = |seen: &&Value| record(wanted, seen).is_ok();
        if !seen.iter().any(|seen| fits(&seen)) {
            bail!("no record {wanted} among {seen:?}");
        }
    }
    Ok(())
}

fn record(wanted: &Value, seen: &Value) -> anyhow::Result<()> {
    let (Some(wanted), Some(seen)) = (wanted.as_object(), seen.as_object()) else {
        bail!("no record: {seen}")
    };
    for name in seen.keys() {
        ensure!(!GONE.contains(&name.as_str()), "there still is {name}");
        let known = wanted.contains_key(name) || RECORD.contains(&name.as_str());
        ensure!(known, "there is a member {name}");
    }
    for (name, wanted) in wanted.iter().filter(|(name, _)| !GONE.contains(&name.as_str())) {
        if name == "user" && seen.get("uid") == Some(wanted) {
            continue;
        }
        let Some(seen) = seen.get(name) else { bail!("there is no {name}") };
        value(name, wanted, seen)?;
    }
    Ok(())
}

fn value(name: &str, wanted: &Value, seen: &Value) -> anyhow::Result<()> {
    if TIMES.contains(&name) && (wanted == "<UNIX_TIME>" || wanted.is_u64()) {
        ensure!(
            seen.as_u64().is_some_and(|time| time > 1_600_000_000),
            "{name} is no time: {seen}"
        );
        return Ok(());
    }
    if wanted == "<any>" || wanted == "<>" {
        return Ok(());
    }
    ensure!(wanted == seen, "{name} is {seen} instead of {wanted}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_listed_members_may_be_more() {
        let wanted =
            json!({"peers": [{"fp": "A", "created_on": "<UNIX_TIME>", "auth_token": "x"}]});
        let good =
            json!({"uid": "U", "peers": [{"fp": "A", "created_on": 1_700_000_000, "user": "x"}]});
        assert!(frame(&wanted, &good).is_ok());
        for bad in [
            json!({"peers": []}),
            json!({"peers": [{"fp": "B", "created_on": 1_700_000_000}]}),
            json!({"peers": [{"fp": "A", "created_on": 3}]}),
            json!({"peers": [{"fp": "A", "created_on": 1_700_000_000, "auth_token": "x"}]}),
            json!({"peers": [{"fp": "A", "created_on": 1_700_000_000, "secret": "x"}]}),
            json!({"peers": [{"fp": "A", "created_on": 1_700_000_000}], "more": 1}),
        ] {
            assert!(frame(&wanted, &bad).is_err(), "{bad}");
        }
        assert!(frame(&json!({"offer": 1}), &json!({"offer": 1, "uid": 2})).is_err());
    }
}
