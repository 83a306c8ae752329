//! The name a socket is registered and reached under.

use std::{borrow::Borrow, borrow::Cow, fmt, sync::Arc};

use crate::js::{self, Kind, Raw, Str, Value};

/// A peer id: a truthy JSON scalar, almost always a string.
///
/// Invariant: holds the text `JSON.stringify` writes for it, so equal bytes are equal values
/// (`5` and `"5"` differ) and frames quote it without encoding it again.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(Arc<[u8]>);

impl PeerId {
    /// The id a checked JSON value stands for; `None` for objects, arrays and falsy values.
    #[must_use]
    pub fn from_raw(raw: Raw<'_>) -> Option<Self> {
        is_truthy_scalar(raw).then(|| Self(Arc::from(&*lookup_key(raw))))
    }

    /// The string id made of these WTF-8 bytes, as they are kept in tables.
    #[must_use]
    pub fn from_wtf8(bytes: &[u8]) -> Self {
        let mut json = Vec::with_capacity(bytes.len() + 2);
        js::string(&Str::from_wtf8(bytes), &mut json);
        Self(json.into())
    }

    /// The id whose JSON text another process of ours wrote; `None` for what is no id.
    #[must_use]
    pub fn from_json(json: &[u8]) -> Option<Self> {
        let held = [b"{\"p\":", json, b"}"].concat();
        Self::from_raw(js::scan_object(&held, 2).ok()??.get("p")?)
    }

    /// The id as JSON text.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.0
    }

    /// The WTF-8 bytes of a string id; `None` for the other scalars, which no table keeps.
    #[must_use]
    pub fn wtf8(&self) -> Option<Cow<'_, [u8]>> {
        match &*self.0 {
            [b'"', inside @ .., b'"'] if !inside.contains(&b'\\') => Some(Cow::Borrowed(inside)),
            [b'"', ..] => match js::parse(&self.0, 1) {
                Ok(Value::String(text)) => Some(Cow::Owned(text.into_bytes().into_owned())),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Borrow<[u8]> for PeerId {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

/// Text under which a value is found among [`PeerId`]s: borrowed unless it needs respelling.
pub(crate) fn lookup_key(raw: Raw<'_>) -> Cow<'_, [u8]> {
    if raw.is_canonical() {
        return Cow::Borrowed(raw.text());
    }
    let mut key = Vec::with_capacity(raw.text().len());
    raw.write(&mut key);
    Cow::Owned(key)
}

/// Whether JavaScript takes the value for true in a condition.
pub(crate) fn is_truthy(raw: Raw<'_>) -> bool {
    match raw.kind() {
        Kind::Null => false,
        Kind::Bool => raw.text() == b"true",
        Kind::String => raw.text() != b"\"\"",
        Kind::Number => raw.value().is_truthy(),
        Kind::Array | Kind::Object => true,
    }
}

fn is_truthy_scalar(raw: Raw<'_>) -> bool {
    !matches!(raw.kind(), Kind::Array | Kind::Object) && is_truthy(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(json: &str) -> Option<PeerId> {
        let text = format!("{{\"a\":{json}}}");
        let members = js::scan_object(text.as_bytes(), 4).unwrap().unwrap();
        PeerId::from_raw(members.get("a").unwrap())
    }

    #[test]
    fn spelling_does_not_matter_and_type_does() {
        assert_eq!(id(r#""b""#), id(r#""\u0062""#));
        assert_ne!(id("5"), id("\"5\""));
        assert_eq!(id("5"), id("5.0"));
    }

    #[test]
    fn falsy_values_and_containers_are_no_ids() {
        for json in ["0", "-0.0", "\"\"", "null", "false", "{}", "[1]"] {
            assert_eq!(id(json), None, "{json}");
        }
    }

    #[test]
    fn wtf8_survives_the_way_through_a_table() {
        for json in [r#""plain""#, r#""q\"\\\u0000\ud83d\ude00""#, r#""\ud800x""#] {
            let id = id(json).unwrap();
            assert_eq!(PeerId::from_wtf8(&id.wtf8().unwrap()), id);
            assert_eq!(PeerId::from_json(id.json()), Some(id));
        }
        assert_eq!(id("true").unwrap().wtf8(), None);
    }
}
