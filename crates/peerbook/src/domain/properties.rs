//! Properties an app stores with its peers.

use proto::book::{PROPERTIES_MAX_BYTES, encode::may_be_property};
use serde_json::{Map, Value};

/// Properties one peer may have.
const MOST: usize = 32;

/// The object as it is kept: without names that are ours. `None` when it is too large, or holds
/// what the table cannot.
pub(crate) fn check(text: &[u8]) -> Option<String> {
    let object: Map<String, Value> = serde_json::from_slice(text).ok()?;
    keep(object)
}

/// As [`check`], from names and values of a query or a form.
pub(crate) fn from_pairs(pairs: impl Iterator<Item = (String, String)>) -> Option<String> {
    keep(pairs.map(|(name, value)| (name, Value::String(value))).collect())
}

fn keep(mut object: Map<String, Value>) -> Option<String> {
    object.retain(|name, _| may_be_property(name));
    let text = Value::Object(object).to_string();
    // `jsonb` refuses NUL.
    let fits = text.len() <= PROPERTIES_MAX_BYTES && !text.contains("\\u0000");
    let few = serde_json::from_str::<Map<String, Value>>(&text).is_ok_and(|map| map.len() <= MOST);
    (fits && few).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_names_are_left_out_and_bounds_hold() {
        assert_eq!(check(br#"{"a":{"b":1},"verified":true}"#).unwrap(), r#"{"a":{"b":1}}"#);
        assert!(check(b"[]").is_none() && check(br#"{"a":"\u0000"}"#).is_none());
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(5000));
        assert!(check(large.as_bytes()).is_none());
        let many = (0..40).map(|n| (format!("n{n}"), String::new()));
        assert!(from_pairs(many).is_none());
    }
}
