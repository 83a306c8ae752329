//! What a connection is told, in its dialect.

use super::{Dialect, Envelope, Fingerprint};
use crate::js;

/// Room for everything in a forwarded message that is not the sender's.
const ENVELOPE: usize = 256;

/// A peer as lists show it. Times in seconds since the epoch.
#[derive(Clone, Copy, Debug)]
pub struct Listed<'a> {
    /// Its fingerprint.
    pub fp: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its kind.
    pub kind: &'a str,
    /// Its user's mail address.
    pub user: &'a str,
    /// Whether the user has approved it.
    pub verified: bool,
    /// Whether a connection of it is open.
    pub online: bool,
    /// When it was first seen.
    pub created_on: i64,
    /// When it was approved.
    pub verified_on: Option<i64>,
    /// When it was last connected.
    pub last_seen: Option<i64>,
    /// A JSON object of the app's own properties; their names are not looked at, except that ours win.
    pub properties: &'a str,
}

/// Who an envelope comes from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Fingerprint of the sender.
    pub fp: &'a str,
    /// Name of the sender.
    pub name: &'a str,
}

/// Members of a status message besides `code` and `text`; the originals' clients ignore them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Extras<'a> {
    /// The user's id.
    pub uid: Option<&'a str>,
    /// What a proof has to be made over.
    pub nonce: Option<&'a str>,
    /// The secret that proves the peer from now on.
    pub token: Option<&'a str>,
}

/// `{"code":…,"text":…}`
pub fn status(code: u16, text: &str, extras: Extras<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + text.len());
    out.extend_from_slice(b"{\"code\":");
    out.extend_from_slice(code.to_string().as_bytes());
    member(&mut out, "text", text);
    let extras = [("uid", extras.uid), ("nonce", extras.nonce), ("token", extras.token)];
    for (name, value) in extras {
        if let Some(value) = value {
            member(&mut out, name, value);
        }
    }
    out.push(b'}');
    out
}

/// The list of a user's peers: `{"peers":[…],"uid":…}`, or `{"list":[…]}` for the plan.
pub fn list<'a>(dialect: Dialect, uid: &str, peers: impl Iterator<Item = Listed<'a>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(4096);
    out.extend_from_slice(match dialect {
        Dialect::Readme => b"{\"peers\":[",
        Dialect::Plan => b"{\"list\":[",
    });
    for (at, listed) in peers.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        peer(dialect, uid, &listed, &mut out);
    }
    out.push(b']');
    if dialect == Dialect::Readme {
        member(&mut out, "uid", uid);
    }
    out.push(b'}');
    out
}

/// One entry of a list.
pub fn peer(dialect: Dialect, uid: &str, peer: &Listed<'_>, out: &mut Vec<u8>) {
    match dialect {
        Dialect::Readme => {
            first(out, "fp", peer.fp);
            member(out, "name", peer.name);
            member(out, "kind", peer.kind);
            member(out, "user", peer.user);
            member(out, "uid", uid);
            flag(out, "verified", peer.verified);
            flag(out, "online", peer.online);
            number(out, "created_on", peer.created_on);
            for (name, time) in [
                ("verified_on", peer.verified_on),
                ("last_seen", peer.last_seen),
                ("last_connect", peer.last_seen),
            ] {
                if let Some(time) = time {
                    number(out, name, time);
                }
            }
        }
        Dialect::Plan => {
            first(out, "name", peer.name);
            member(out, "fingerprint", peer.fp);
            member(out, "kind", peer.kind);
            // As the text has it, and as it was meant.
            number(out, "resgitration_date", peer.created_on);
            number(out, "registration_date", peer.created_on);
            number(out, "last_connection", peer.last_seen.unwrap_or_default());
            flag(out, "verified", peer.verified);
            flag(out, "online", peer.online);
        }
    }
    properties(peer.properties, out);
    out.push(b'}');
}

/// Names that an app's properties may not take.
const OURS: [&str; 18] = [
    "fp",
    "name",
    "kind",
    "user",
    "uid",
    "verified",
    "online",
    "created_on",
    "verified_on",
    "last_seen",
    "last_connect",
    "fingerprint",
    "resgitration_date",
    "registration_date",
    "last_connection",
    "email",
    "token",
    "auth_token",
];

/// Whether an app may have a property of this name.
pub fn may_be_property(name: &str) -> bool {
    !OURS.contains(&name) && !name.is_empty() && name.len() <= 64
}

fn properties(object: &str, out: &mut Vec<u8>) {
    let Ok(Some(members)) = js::scan_object(object.as_bytes(), js::DEPTH_CEILING) else { return };
    for (name, raw) in members.iter() {
        if name.as_str().is_some_and(may_be_property) {
            out.push(b',');
            js::string(name, out);
            out.push(b':');
            out.extend_from_slice(raw.text());
        }
    }
}

/// `{"peer_update":{"verified":…,"online":…,"name":…},"source_fp":…}`
pub fn peer_update(fp: &Fingerprint, name: &str, verified: bool, online: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(ENVELOPE);
    out.extend_from_slice(b"{\"peer_update\":{\"verified\":");
    out.extend_from_slice(truth(verified));
    flag(&mut out, "online", online);
    member(&mut out, "name", name);
    out.push(b'}');
    member(&mut out, "source_fp", fp.as_str());
    out.push(b'}');
    out
}

/// Bytes an envelope may take once rewritten.
pub fn envelope_capacity(message_bytes: usize) -> usize {
    message_bytes + ENVELOPE
}

/// An envelope as its receiver gets it: who it is from, then everything else as it came.
pub fn envelope(receiver: Dialect, source: Source<'_>, from: &Envelope<'_>, out: &mut Vec<u8>) {
    match receiver {
        Dialect::Readme => {
            first(out, "source_fp", source.fp);
            member(out, "source_name", source.name);
        }
        Dialect::Plan => {
            first(out, "source", source.name);
            member(out, "fingerprint", source.fp);
        }
    }
    for (name, raw) in from.passed_on(receiver) {
        out.push(b',');
        js::string(name, out);
        out.push(b':');
        out.extend_from_slice(raw.text());
    }
    out.push(b'}');
}

fn first(out: &mut Vec<u8>, name: &str, value: &str) {
    let at = out.len();
    member(out, name, value);
    out[at] = b'{';
}

fn member(out: &mut Vec<u8>, name: &str, value: &str) {
    key(out, name);
    js::string(&js::Str::from(value), out);
}

fn flag(out: &mut Vec<u8>, name: &str, value: bool) {
    key(out, name);
    out.extend_from_slice(truth(value));
}

fn number(out: &mut Vec<u8>, name: &str, value: i64) {
    key(out, name);
    out.extend_from_slice(value.to_string().as_bytes());
}

fn key(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn truth(value: bool) -> &'static [u8] {
    if value { b"true" } else { b"false" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::Message;

    fn json(bytes: &[u8]) -> serde_json::Value {
        serde_json::from_slice(bytes).unwrap()
    }

    const PEER: Listed<'_> = Listed {
        fp: "A",
        name: "a \"b\"",
        kind: "webexec",
        user: "j@nowhere.org",
        verified: true,
        online: false,
        created_on: 5,
        verified_on: Some(6),
        last_seen: None,
        properties: r#"{"colour":{"r":1},"fp":"forged","verified":false}"#,
    };

    #[test]
    fn both_lists_carry_the_same_peers_and_no_property_takes_a_name_of_ours() {
        let readme = json(&list(Dialect::Readme, "u", [PEER].into_iter()));
        assert_eq!(
            readme,
            serde_json::json!({"uid": "u", "peers": [{"fp": "A", "name": "a \"b\"", "kind": "webexec",
                "user": "j@nowhere.org", "uid": "u", "verified": true, "online": false,
                "created_on": 5, "verified_on": 6, "colour": {"r": 1}}]})
        );
        let plan = json(&list(Dialect::Plan, "u", [PEER, PEER].into_iter()));
        assert_eq!(plan["list"][1]["resgitration_date"], 5);
        assert_eq!(plan["list"][1]["fingerprint"], "A");
        assert_eq!(plan["list"][0]["colour"]["r"], 1);
        assert_eq!(
            json(&list(Dialect::Plan, "u", std::iter::empty())),
            serde_json::json!({"list": []})
        );
    }

    #[test]
    fn an_envelope_is_rendered_for_its_receiver_and_keeps_the_senders_bytes() {
        let text = br#"{"target":"B","offer":{"sdp":"v=0", "n":1.50},"source_fp":"x"}"#;
        let Some(Message::Envelope(envelope_)) = Message::read(text, Dialect::Readme) else {
            panic!()
        };
        let source = Source { fp: "A", name: "alpha" };
        let mut out = Vec::new();
        envelope(Dialect::Readme, source, &envelope_, &mut out);
        let expected: &[u8] =
            br#"{"source_fp":"A","source_name":"alpha","offer":{"sdp":"v=0", "n":1.50}}"#;
        assert_eq!(out, expected);
        out.clear();
        envelope(Dialect::Plan, source, &envelope_, &mut out);
        let plan = json(&out);
        assert_eq!((&plan["source"], &plan["fingerprint"]), (&"alpha".into(), &"A".into()));
        assert_eq!(plan["source_fp"], "x", "of no meaning in this dialect");
    }

    #[test]
    fn statuses_carry_what_is_there() {
        let plain = status(401, "no", Extras::default());
        assert_eq!(plain, br#"{"code":401,"text":"no"}"#);
        let extras = Extras { uid: Some("u"), nonce: Some("n"), token: None };
        assert_eq!(json(&status(200, "ok", extras))["nonce"], "n");
    }
}
