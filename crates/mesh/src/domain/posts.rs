//! Posts and payments, as handlers see what is kept of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use proto::mesh::proof::Proof;
use proto::mesh::{NodeKey, Room, hex};
use serde_json::{Value, json};

pub(crate) use crate::store::post::{From, Outcome, Paid, Post, since};

/// A post as subscribers get it: written once, shared by all.
pub(crate) fn event(room: &Room, proof: Proof, body: &[u8], at_ms: i64, origin: &NodeKey) -> Bytes {
    let id = hex(&proof.0);
    let mut value = json!({
        "id": id,
        "room": room.to_string(),
        "at": at_ms,
        "origin": hex(&origin[..8]),
        "work": proof.height(),
    });
    match str::from_utf8(body) {
        Ok(text) => value["body"] = Value::from(text),
        Err(_) => value["b64"] = Value::from(STANDARD.encode(body)),
    }
    // JSON text holds no line breaks.
    Bytes::from(format!("id: {id}\ndata: {value}\n\n"))
}
