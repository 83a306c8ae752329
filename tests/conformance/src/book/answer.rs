//! Whether the answer to a command over a data channel is the recorded one, byte for byte.

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::Value;
use testkit::time::now_ms;

use super::TURN_SECRET;

/// How far the clock of an answer may be from ours: a machine may be busy.
const SKEW_MS: i64 = 60_000;
/// How long TURN credentials last, seconds.
const TURN_LIFE_S: i64 = 86_400;

/// Whether `seen` is `wanted` in every byte but its time, which is now, and the parts of TURN
/// credentials that differ from run to run.
pub(super) fn compare(wanted: &Value, seen: &str) -> anyhow::Result<()> {
    let frame: Value = serde_json::from_str(seen)?;
    let time = frame["time"].as_i64().with_context(|| format!("no time in {seen}"))?;
    ensure!((now_ms() - time).abs() < SKEW_MS, "the time is {time}");
    let args = &wanted["args"];
    let body = args["body"].as_str().map(|text| body(text, &frame["args"]["body"])).transpose()?;
    let args = match (&wanted["type"], body) {
        (kind, None) if kind == "ack" => format!(r#"{{"ref":{}}}"#, args["ref"]),
        (kind, Some(body)) if kind == "ack" => {
            format!(r#"{{"ref":{},"body":{}}}"#, args["ref"], Value::from(body))
        }
        _ => format!(r#"{{"desc":{},"ref":{}}}"#, args["desc"], args["ref"]),
    };
    let expected = format!(
        r#"{{"time":{time},"message_id":{},"type":{},"args":{args}}}"#,
        wanted["message_id"], wanted["type"]
    );
    ensure!(seen == expected, "heard {seen} instead of {expected}");
    Ok(())
}

/// What the body has to be: as recorded, but for credentials.
fn body(wanted: &str, seen: &Value) -> anyhow::Result<String> {
    let Ok(recorded @ Value::Array(_)) = serde_json::from_str(wanted) else {
        return Ok(wanted.to_owned());
    };
    let seen: Value = serde_json::from_str(seen.as_str().context("a body")?)?;
    servers(&recorded, &seen)?;
    // Its members are in alphabetical order, as here.
    Ok(seen.to_string())
}

/// Whether these are the recorded ICE servers with credentials of now.
pub(super) fn servers(wanted: &Value, seen: &Value) -> anyhow::Result<()> {
    let (Some(wanted), Some(seen)) = (wanted.as_array(), seen.as_array()) else {
        ensure!(wanted == seen, "{seen} instead of {wanted}");
        return Ok(());
    };
    ensure!(wanted.len() == seen.len(), "{seen:?} instead of {wanted:?}");
    for (wanted, seen) in wanted.iter().zip(seen) {
        let members = seen.as_object().map_or(0, serde_json::Map::len);
        ensure!(members == 4, "{seen} has other members");
        for member in ["urls", "credentialType"] {
            ensure!(wanted[member] == seen[member], "{member} in {seen}");
        }
        let name = seen["username"].as_str().context("a name")?;
        let (expiry, _) = name.split_once(':').context("a name begins with its end")?;
        let left_s = expiry.parse::<i64>()? - now_ms() / 1000;
        ensure!((left_s - TURN_LIFE_S).abs() < SKEW_MS / 1000, "it lasts {left_s} s");
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, TURN_SECRET.as_bytes());
        let credential = STANDARD.encode(hmac::sign(&key, name.as_bytes()));
        ensure!(seen["credential"] == credential, "the credential in {seen}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_byte_but_the_time_counts() {
        let wanted =
            json!({"time": 1, "message_id": 2, "type": "ack", "args": {"ref": 3, "body": "x"}});
        let now = now_ms();
        let good = format!(
            r#"{{"time":{now},"message_id":2,"type":"ack","args":{{"ref":3,"body":"x"}}}}"#
        );
        compare(&wanted, &good).unwrap();
        for (part, other) in [
            (r#","body":"x""#, ""),
            ("\"x\"", "\"y\""),
            (r#""ref":3,"body":"x""#, r#""body":"x","ref":3"#),
            (":2,", ":3,"),
            ("ack", "nack"),
            ("}}", "}} "),
            (now.to_string().as_str(), "7"),
        ] {
            assert!(compare(&wanted, &good.replace(part, other)).is_err(), "{part}");
        }
    }

    #[test]
    fn credentials_have_to_be_ours_and_of_now() {
        let recorded = r#"[{"credential":"x","credentialType":"password","urls":["turn:a"],"username":"1:pb"}]"#;
        let wanted = json!({"message_id": 1, "type": "ack", "args": {"ref": 1, "body": recorded}});
        let heard = |secret: &str, life_s: i64| {
            let name = format!("{}:uid", now_ms() / 1000 + life_s);
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
            let credential = STANDARD.encode(hmac::sign(&key, name.as_bytes()));
            let body = format!(
                r#"[{{"credential":"{credential}","credentialType":"password","urls":["turn:a"],"username":"{name}"}}]"#
            );
            format!(
                r#"{{"time":{},"message_id":1,"type":"ack","args":{{"ref":1,"body":{}}}}}"#,
                now_ms(),
                Value::from(body)
            )
        };
        compare(&wanted, &heard(TURN_SECRET, TURN_LIFE_S)).unwrap();
        assert!(compare(&wanted, &heard("another", TURN_LIFE_S)).is_err());
        assert!(compare(&wanted, &heard(TURN_SECRET, 60)).is_err());
        let disordered = heard(TURN_SECRET, TURN_LIFE_S).replace("urls", "zrls");
        assert!(compare(&wanted, &disordered).is_err());
    }
}
