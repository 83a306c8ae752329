//! Commands over a WebRTC data channel labelled [`LABEL`], as terminal7 sends them.
//!
//! ```text
//! → {"message_id":7,"time":1,"type":"rename","args":{"target":"AB12…","name":"desk"}}
//! ← {"time":2,"message_id":3,"type":"ack","args":{"ref":7}}
//! ← {"time":2,"message_id":4,"type":"nack","args":{"desc":"…","ref":8}}
//! ```

use crate::js::{self, Kind, Members, Raw, Str};

/// The channel's name.
pub const LABEL: &str = "%";

/// Nesting a message may have.
const MAX_DEPTH: usize = 64;

/// One command with the number it is answered under.
#[derive(Debug)]
pub struct Request<'a> {
    /// A JSON number, as it came; `0` when there was none.
    pub number: &'a [u8],
    /// What is asked for.
    pub ask: Ask<'a>,
}

/// What a peer asks for over its channel. Members that are missing or no strings are `None`.
#[derive(Debug)]
pub enum Ask<'a> {
    /// `ping`: whose peer am I; with `otp`, let me in.
    Ping {
        /// The user's one-time password.
        otp: Option<Str<'a>>,
    },
    /// `register`: let me be a peer of this user.
    Register {
        /// The user's mail address.
        email: Option<Str<'a>>,
        /// What to call the peer.
        name: Option<Str<'a>>,
    },
    /// `verify`: let this peer in.
    Verify {
        /// Its fingerprint.
        target: Option<Str<'a>>,
        /// The user's one-time password.
        otp: Option<Str<'a>>,
    },
    /// `rename`: call this peer something else.
    Rename {
        /// Its fingerprint.
        target: Option<Str<'a>>,
        /// Its new name.
        name: Option<Str<'a>>,
    },
    /// `delete`: forget this peer.
    Delete {
        /// Its fingerprint.
        target: Option<Str<'a>>,
        /// The user's one-time password.
        otp: Option<Str<'a>>,
    },
    /// `offer` or `candidate`: what to pass on, as the message that the WebSocket takes.
    Signal(Vec<u8>),
    /// `ice_servers`
    IceServers,
    /// Anything else, which is acknowledged like a command that was obeyed.
    Unknown,
}

impl<'a> Request<'a> {
    /// Reads one command; `None` when it is no JSON object.
    pub fn read(text: &'a [u8]) -> Option<Self> {
        let members = js::scan_object(text, MAX_DEPTH).ok()??;
        let number = members.get("message_id").filter(|raw| raw.kind() == Kind::Number);
        let number = number.map_or(b"0".as_slice(), |raw| raw.text());
        let args = members.get("args").filter(|raw| raw.kind() == Kind::Object);
        let args = match args {
            Some(raw) => js::scan_object(raw.text(), MAX_DEPTH).ok()??,
            None => js::scan_object(b"{}", MAX_DEPTH).ok()??,
        };
        let kind = members.get("type").and_then(|raw| raw.string());
        let ask = kind.map_or(Ask::Unknown, |kind| Ask::read(kind.as_bytes(), &args));
        Some(Self { number, ask })
    }
}

impl<'a> Ask<'a> {
    fn read(kind: &[u8], args: &Members<'a>) -> Self {
        let text = |name: &str| args.get(name).and_then(|raw| raw.string());
        match kind {
            b"ping" => Self::Ping { otp: text("otp") },
            b"register" => Self::Register { email: text("email"), name: text("peer_name") },
            b"verify" => Self::Verify { target: text("target"), otp: text("otp") },
            b"rename" => Self::Rename { target: text("target"), name: text("name") },
            b"delete" => Self::Delete { target: text("target"), otp: text("otp") },
            b"offer" => Self::signal("offer", args),
            b"candidate" => Self::signal("candidate", args),
            b"ice_servers" => Self::IceServers,
            _ => Self::Unknown,
        }
    }

    fn signal(kind: &str, args: &Members<'a>) -> Self {
        let raw = |name: &str| args.get(name).map_or(b"null".as_slice(), |raw: Raw<'a>| raw.text());
        let (target, sdp) = (raw("target"), raw("sdp"));
        let parts = [b"{\"target\":", target, b",\"", kind.as_bytes(), b"\":", sdp, b"}"];
        Self::Signal(parts.concat())
    }
}

/// Writes answers; counts them.
#[derive(Debug, Default)]
pub struct Answers {
    sent: u64,
}

impl Answers {
    /// `ack` of the command with this number; an empty body is left out.
    pub fn ack(&mut self, number: &[u8], body: &str, now_ms: i64) -> Vec<u8> {
        let mut out = self.begin("ack", now_ms);
        out.extend_from_slice(b"\"ref\":");
        out.extend_from_slice(number);
        if !body.is_empty() {
            out.extend_from_slice(b",\"body\":");
            js::string(&Str::from(body), &mut out);
        }
        out.extend_from_slice(b"}}");
        out
    }

    /// `nack` of the command with this number.
    pub fn nack(&mut self, number: &[u8], why: &str, now_ms: i64) -> Vec<u8> {
        let mut out = self.begin("nack", now_ms);
        out.extend_from_slice(b"\"desc\":");
        js::string(&Str::from(why), &mut out);
        out.extend_from_slice(b",\"ref\":");
        out.extend_from_slice(number);
        out.extend_from_slice(b"}}");
        out
    }

    fn begin(&mut self, kind: &str, now_ms: i64) -> Vec<u8> {
        self.sent += 1;
        let sent = self.sent;
        format!("{{\"time\":{now_ms},\"message_id\":{sent},\"type\":\"{kind}\",\"args\":{{")
            .into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::book::{Dialect, Message};

    #[test]
    fn commands_are_read_with_their_numbers_and_strange_ones_are_unknown() {
        let request =
            Request::read(br#"{"message_id":7,"type":"verify","args":{"target":"A","otp":"1"}}"#);
        let request = request.unwrap();
        assert_eq!(request.number, b"7");
        assert!(matches!(request.ask, Ask::Verify { target: Some(t), otp: Some(_) } if t == "A"));
        for strange in [r#"{}"#, r#"{"type":1,"args":[]}"#, r#"{"message_id":"x","type":"?"}"#] {
            let request = Request::read(strange.as_bytes()).unwrap();
            assert!(matches!(request.ask, Ask::Unknown), "{strange}");
            assert_eq!(request.number, b"0");
        }
        for broken in ["", "null", "[]", "{"] {
            assert!(Request::read(broken.as_bytes()).is_none(), "{broken}");
        }
        let missing = Request::read(br#"{"type":"delete","args":{"target":5}}"#).unwrap();
        assert!(matches!(missing.ask, Ask::Delete { target: None, otp: None }));
    }

    #[test]
    fn an_offer_is_passed_on_like_one_of_a_websocket() {
        let text = br#"{"message_id":1,"type":"offer","args":{"target":"B","sdp":{"type":"offer","sdp":"v=0"}}}"#;
        let Ask::Signal(message) = Request::read(text).unwrap().ask else { panic!() };
        assert_eq!(message, br#"{"target":"B","offer":{"type":"offer","sdp":"v=0"}}"#);
        let Some(Message::Envelope(envelope)) = Message::read(&message, Dialect::Readme) else {
            panic!()
        };
        assert_eq!(envelope.target.as_ref().unwrap().as_str(), Some("B"));
        let Ask::Signal(empty) = Request::read(br#"{"type":"candidate"}"#).unwrap().ask else {
            panic!()
        };
        assert_eq!(empty, br#"{"target":null,"candidate":null}"#);
    }

    #[test]
    fn answers_are_the_shape_of_the_original() {
        let mut answers = Answers::default();
        assert_eq!(
            answers.ack(b"7", "TBD", 12),
            br#"{"time":12,"message_id":1,"type":"ack","args":{"ref":7,"body":"TBD"}}"#
        );
        assert_eq!(
            answers.ack(b"8", "", 12),
            br#"{"time":12,"message_id":2,"type":"ack","args":{"ref":8}}"#
        );
        assert_eq!(
            answers.nack(b"9", "invalid \"OTP\"", 12),
            br#"{"time":12,"message_id":3,"type":"nack","args":{"desc":"invalid \"OTP\"","ref":9}}"#
        );
    }
}
