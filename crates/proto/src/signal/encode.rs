//! Frames a server sends, written straight to bytes.

use super::{Code, PeerId, Refusal, RequestId, id};
use crate::js::{self, Raw, Str};

/// Appends a fresh server id as a JSON string: `"srv-<kind>-<uuid>"`.
pub(crate) fn fresh_id(kind: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"srv-");
    out.extend_from_slice(kind.as_bytes());
    out.push(b'-');
    id::push_uuid(out);
    out.push(b'"');
}

/// Bytes of a frame around its payload, longest type name and id included.
pub const ENVELOPE: usize = 128;

fn open(id_kind: &str, frame_type: &str, payload_bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(ENVELOPE + payload_bytes);
    open_into(id_kind, frame_type, &mut out);
    out
}

fn open_into(id_kind: &str, frame_type: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"v\":\"1\",\"id\":");
    fresh_id(id_kind, out);
    continue_open(frame_type, out);
}

fn continue_open(frame_type: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"type\":\"");
    out.extend_from_slice(frame_type.as_bytes());
    out.extend_from_slice(b"\",\"payload\":");
}

/// An `error` frame that answers the request `id`.
#[must_use]
pub fn error(id: &RequestId<'_>, refusal: &Refusal) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * ENVELOPE + refusal.message.len());
    out.extend_from_slice(b"{\"v\":\"1\",\"id\":");
    id.write(&mut out);
    continue_open("error", &mut out);
    out.extend_from_slice(b"{\"code\":\"");
    out.extend_from_slice(refusal.code.as_str().as_bytes());
    out.extend_from_slice(b"\",\"message\":");
    js::string(&Str::from_wtf8(&refusal.message), &mut out);
    out.extend_from_slice(b"}}");
    out
}

/// The `error` frame a replaced socket gets before it is closed with 4001.
#[must_use]
pub fn session_replaced() -> Vec<u8> {
    const REPLACED: Refusal =
        Refusal::new(Code::SessionReplaced, "Session replaced by a new authenticated register");
    error(&RequestId::default(), &REPLACED)
}

/// What a `register_ack` tells.
#[derive(Clone, Copy, Debug)]
pub struct Ack<'a> {
    /// The peer id that is now registered.
    pub peer: &'a PeerId,
    /// Resume token, of URL-safe characters; `null` for a client that did not ask.
    pub session_id: Option<&'a str>,
    /// Whether the token continued an earlier session; told only to clients that asked.
    pub resumed: Option<bool>,
    /// JSON object that says where the program comes from.
    pub source: &'a [u8],
    /// JSON array of ICE servers; told only to clients that asked.
    pub ice_servers: Option<&'a [u8]>,
}

/// A `register_ack` frame.
#[must_use]
pub fn register_ack(ack: &Ack<'_>) -> Vec<u8> {
    let ice_bytes = ack.ice_servers.map_or(0, |servers| servers.len() + 16);
    let payload_bytes = ack.peer.json().len() + ack.source.len() + ice_bytes + ENVELOPE;
    let mut out = open("ack", "register_ack", payload_bytes);
    out.extend_from_slice(b"{\"peerId\":");
    out.extend_from_slice(ack.peer.json());
    out.extend_from_slice(b",\"sessionId\":");
    match ack.session_id {
        Some(token) => js::string(&Str::from_wtf8(token.as_bytes()), &mut out),
        None => out.extend_from_slice(b"null"),
    }
    if let Some(resumed) = ack.resumed {
        out.extend_from_slice(if resumed { b",\"resumed\":true" } else { b",\"resumed\":false" });
    }
    out.extend_from_slice(b",\"source\":");
    out.extend_from_slice(ack.source);
    if let Some(servers) = ack.ice_servers {
        out.extend_from_slice(b",\"iceServers\":");
        out.extend_from_slice(servers);
    }
    out.extend_from_slice(b"}}");
    out
}

/// A `presence_update` frame: online, or offline since `last_seen_ms`.
#[must_use]
pub fn presence_update(peer: &PeerId, last_seen_ms: Option<i64>) -> Vec<u8> {
    let mut out = open("presence-update", "presence_update", peer.json().len() + 64);
    out.extend_from_slice(b"{\"peerId\":");
    out.extend_from_slice(peer.json());
    match last_seen_ms {
        None => out.extend_from_slice(b",\"status\":\"online\"}}"),
        Some(ms) => {
            out.extend_from_slice(b",\"status\":\"offline\",\"lastSeenMs\":");
            out.extend_from_slice(ms.to_string().as_bytes());
            out.extend_from_slice(b"}}");
        }
    }
    out
}

/// A `pong` frame.
#[must_use]
pub fn pong(peer: &PeerId) -> Vec<u8> {
    let mut out = open("pong", "pong", peer.json().len() + 16);
    out.extend_from_slice(b"{\"peerId\":");
    out.extend_from_slice(peer.json());
    out.extend_from_slice(b"}}");
    out
}

/// Appends a forwarded `signal` frame; the payload as `JSON.stringify` writes it.
pub fn signal(payload: Raw<'_>, out: &mut Vec<u8>) {
    open_into("signal", "signal", out);
    payload.write(out);
    out.push(b'}');
}

/// The id of a frame [`signal`] wrote, without quotes.
#[must_use]
pub fn signal_id(frame: &[u8]) -> &[u8] {
    const START: usize = b"{\"v\":\"1\",\"id\":\"".len();
    const END: usize = START + b"srv-signal-".len() + id::UUID_LEN;
    frame.get(START..END).unwrap_or_default()
}

/// A `peers` frame: everybody online in order of registration, and who left when.
pub fn peers<'a>(
    online: impl Iterator<Item = &'a PeerId>,
    last_seen: impl Iterator<Item = (&'a PeerId, i64)>,
    capacity: usize,
) -> Vec<u8> {
    snapshot(open("peers", "peers", capacity), online, last_seen)
}

/// A `presence_snapshot` frame: the answer to `presence_subscribe`.
pub fn presence_snapshot<'a>(
    online: impl Iterator<Item = &'a PeerId>,
    last_seen: impl Iterator<Item = (&'a PeerId, i64)>,
) -> Vec<u8> {
    snapshot(open("presence-snapshot", "presence_snapshot", 0), online, last_seen)
}

fn snapshot<'a>(
    mut out: Vec<u8>,
    online: impl Iterator<Item = &'a PeerId>,
    last_seen: impl Iterator<Item = (&'a PeerId, i64)>,
) -> Vec<u8> {
    out.extend_from_slice(b"{\"peers\":[");
    for (index, peer) in online.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(peer.json());
    }
    out.extend_from_slice(b"],\"lastSeenMsByPeer\":{");
    for (index, (peer, ms)) in last_seen.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_key(peer, &mut out);
        out.push(b':');
        out.extend_from_slice(ms.to_string().as_bytes());
    }
    out.extend_from_slice(b"}}}");
    out
}

/// A peer id as a member name: what is not a string becomes one, as in JavaScript.
fn push_key(peer: &PeerId, out: &mut Vec<u8>) {
    let is_string = peer.json().first() == Some(&b'"');
    if !is_string {
        out.push(b'"');
    }
    out.extend_from_slice(peer.json());
    if !is_string {
        out.push(b'"');
    }
}
