//! Comparing JSON the way the protocol's JavaScript readers would see it.

use proto::js::{self, Value};

/// Nothing recorded is nested deeper than this.
const DEPTH: usize = js::DEPTH_CEILING;

/// Reads what must be JSON.
pub(crate) fn read(text: &[u8]) -> anyhow::Result<Value<'static>> {
    let value = js::parse(text, DEPTH);
    let shown = || String::from_utf8_lossy(&text[..text.len().min(300)]).into_owned();
    value.map(Value::into_owned).map_err(|error| anyhow::anyhow!("{error}: {}", shown()))
}

/// The text of a value.
pub(crate) fn show(value: &Value<'_>) -> String {
    let mut text = Vec::new();
    js::write(value, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Replaces the top-level member that a pointer like `/ts` names. Whether it was there.
pub(crate) fn blank(value: &mut Value<'static>, pointer: &str) -> bool {
    let Value::Object(object) = value else { return false };
    let key = pointer.trim_start_matches('/').to_owned();
    let there = object.get(&key).is_some();
    if there {
        object.insert(key.into(), "<any>".into());
    }
    there
}

/// Equality that does not see the order of members.
pub(crate) fn same(a: &Value<'_>, b: &Value<'_>) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, a)| b.get(key.as_bytes()).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}
