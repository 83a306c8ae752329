//! Envelopes as text: what is stored is what will be sent, so that a fetch only joins bytes.

use super::{Fields, GroupStore};
use crate::js::{self, Object, Str, Value};

/// The members a plain envelope is made of.
const KNOWN: [&str; 8] = ["id", "from", "to", "ts", "ttl", "payload", "sig", "signingPub"];

/// The text of a plain envelope: the request's members in their order, written as JavaScript
/// would.
///
/// Members no client knows are kept only when `unknown_too`: a `groupId` among them would make
/// the receiving client skip its signature check.
pub fn stored_text(fields: Fields<'_, '_>, unknown_too: bool) -> Vec<u8> {
    let kept =
        fields.iter().filter(|(key, _)| unknown_too || KNOWN.iter().any(|known| *key == *known));
    let mut out = Vec::with_capacity(1536);
    let members = kept.map(|(key, value)| (key.reborrow(), value.clone()));
    js::write(&Value::Object(members.collect::<Object<'_>>()), &mut out);
    out
}

/// The text of a group envelope in two parts; a recipient's id as a JSON string goes between.
pub fn fanout_text(message: &GroupStore<'_, '_>) -> (Vec<u8>, Vec<u8>) {
    let mut head = Vec::with_capacity(256);
    member(&mut head, b"{\"id\":", message.id);
    member(&mut head, b",\"from\":", message.from);
    head.extend_from_slice(b",\"to\":");

    let mut tail = Vec::with_capacity(1536);
    member(&mut tail, b",\"groupId\":", message.group_id);
    tail.extend_from_slice(b",\"recipients\":[");
    for (place, recipient) in message.recipients.iter().enumerate() {
        if place > 0 {
            tail.push(b',');
        }
        js::string(recipient, &mut tail);
    }
    tail.extend_from_slice(b"],\"ts\":");
    js::number(message.ts, &mut tail);
    tail.extend_from_slice(b",\"ttl\":");
    js::number(message.ttl, &mut tail);
    member(&mut tail, b",\"payload\":", message.payload);
    if let Some(proof) = &message.proof {
        member(&mut tail, b",\"sig\":", proof.signature);
        member(&mut tail, b",\"signingPub\":", proof.key);
    }
    tail.push(b'}');
    (head, tail)
}

/// What follows the last envelope of a fetched page: the cursor and, for readers by position, the
/// opaque `next`.
pub fn page_close(cursor: Option<&Str<'_>>, next: Option<&str>) -> Vec<u8> {
    let mut out = b"],\"cursor\":".to_vec();
    match cursor {
        Some(id) => js::string(id, &mut out),
        None => out.extend_from_slice(b"null"),
    }
    if let Some(next) = next {
        out.extend_from_slice(b",\"next\":");
        js::string(&Str::from(next), &mut out);
    }
    out.push(b'}');
    out
}

fn member(out: &mut Vec<u8>, lead: &[u8], text: &Str<'_>) {
    out.extend_from_slice(lead);
    js::string(text, out);
}
