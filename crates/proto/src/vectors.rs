//! The tables recorded from the JavaScript runtime, as test data.

use serde_json::Value;

/// Rows of `units.<name>` in the PeerLink vectors.
pub(crate) fn table(name: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/peerlink.json");
    let text = std::fs::read(path).expect("the vectors are part of the repository");
    let mut vectors: Value = serde_json::from_slice(&text).expect("vectors are JSON");
    match vectors["units"][name].take() {
        Value::Array(rows) if !rows.is_empty() => rows,
        other => panic!("no table {name}: {other}"),
    }
}

/// The scenarios recorded from peer-linker and channel-hub.
pub(crate) fn pads() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors/peer-linker.json");
    let text = std::fs::read(path).expect("the vectors are part of the repository");
    serde_json::from_slice(&text).expect("vectors are JSON")
}

/// A text member of a row.
pub(crate) fn text<'a>(row: &'a Value, name: &str) -> &'a str {
    row[name].as_str().unwrap_or_else(|| panic!("{name} is no text in {row}"))
}

/// A member holding hexadecimal digits.
pub(crate) fn hex(row: &Value, name: &str) -> Vec<u8> {
    let digits = text(row, name).as_bytes().chunks(2);
    digits.map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}
