//! What a connection says.

use super::{Dialect, Fingerprint};
use crate::{
    base64::decode_lenient,
    js::{self, Kind, Members, Raw},
};

/// Nesting a message may have.
const MAX_DEPTH: usize = 64;

/// The members that make a message an [`Envelope`].
const SIGNALS: [&str; 3] = ["offer", "answer", "candidate"];

/// One message of a connection.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one, and never kept")]
pub enum Message<'a> {
    /// For another peer.
    Envelope(Envelope<'a>),
    /// For us.
    Command(Command<'a>),
    /// An object without a meaning: answered with nothing, as by the originals.
    Ignored(Ignored),
}

/// Why a message has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// Neither a command that we know nor anything to pass on.
    Unknown,
    /// Something to pass on, but no target.
    NoTarget,
}

/// What to pass on, and to whom.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// Fingerprint or name of the target; `None` when the member is no string.
    pub target: Option<js::Str<'a>>,
    members: Members<'a>,
    /// The plan's answers address by this member, which is then not passed on.
    by_fingerprint: bool,
}

/// What a connection may ask of us.
#[derive(Debug)]
pub enum Command<'a> {
    /// `get_list`
    GetList,
    /// `prove`, with a certificate in DER and a signature made with its key.
    Prove {
        /// `cert`
        cert: Vec<u8>,
        /// `sig`
        signature: Vec<u8>,
    },
    /// `prove`, with the `token` handed out at approval.
    ProveByToken(js::Str<'a>),
    /// `pair`: show me a code.
    Pair,
    /// `list_requests`
    ListRequests,
    /// `approve` the peer of `fp`, or the one that shows `code`.
    Approve(Subject<'a>),
    /// `refuse` the request of `fp`.
    Refuse(Subject<'a>),
    /// `set_properties` of the peer itself, with an object as text.
    SetProperties(&'a [u8]),
    /// One of the above with members that are missing or wrong.
    Malformed,
}

/// Whom an approval is about.
#[derive(Debug)]
pub enum Subject<'a> {
    /// The peer with this fingerprint.
    Fingerprint(Fingerprint),
    /// The peer that shows this pairing code.
    Code(js::Str<'a>),
}

impl<'a> Message<'a> {
    /// Reads one message; `None` when it is not a JSON object.
    pub fn read(text: &'a [u8], dialect: Dialect) -> Option<Self> {
        let members = js::scan_object(text, MAX_DEPTH).ok()??;
        if SIGNALS.iter().any(|name| members.get(name).is_some()) {
            return Some(Envelope::of(members, dialect));
        }
        let Some(command) = members.get("command").and_then(|raw| raw.string()) else {
            return Some(Self::Ignored(Ignored::Unknown));
        };
        let command = match command.as_bytes() {
            b"get_list" => Command::GetList,
            b"prove" => Command::prove(&members).unwrap_or(Command::Malformed),
            b"pair" => Command::Pair,
            b"list_requests" => Command::ListRequests,
            b"approve" => Subject::read(&members).map_or(Command::Malformed, Command::Approve),
            b"refuse" => Subject::read(&members).map_or(Command::Malformed, Command::Refuse),
            b"set_properties" => match members.get("properties") {
                Some(raw) if raw.kind() == Kind::Object => Command::SetProperties(raw.text()),
                _ => Command::Malformed,
            },
            _ => return Some(Self::Ignored(Ignored::Unknown)),
        };
        Some(Self::Command(command))
    }
}

impl<'a> Envelope<'a> {
    fn of(members: Members<'a>, dialect: Dialect) -> Message<'a> {
        let by_fingerprint = match dialect {
            Dialect::Plan => members.get("fingerprint").filter(|raw| raw.kind() == Kind::String),
            Dialect::Readme => None,
        };
        let Some(target) = by_fingerprint.or_else(|| members.get("target")) else {
            return Message::Ignored(Ignored::NoTarget);
        };
        let (target, by_fingerprint) = (target.string(), by_fingerprint.is_some());
        Message::Envelope(Self { target, members, by_fingerprint })
    }

    /// The members to be passed on to a receiver of `dialect`, in the sender's order; of a repeated
    /// one the last.
    pub fn passed_on(&self, dialect: Dialect) -> impl Iterator<Item = (&js::Str<'a>, Raw<'a>)> {
        self.members.iter().enumerate().filter_map(move |(at, (name, raw))| {
            let ours = match (name.as_bytes(), dialect) {
                (b"target", _)
                | (b"source_fp" | b"source_name", Dialect::Readme)
                | (b"source" | b"fingerprint", Dialect::Plan) => true,
                (b"fingerprint", _) => self.by_fingerprint,
                _ => false,
            };
            let is_last = || !self.members.iter().skip(at + 1).any(|(other, _)| other == name);
            (!ours && is_last()).then_some((name, raw))
        })
    }

    /// The members that may hold an SDP.
    pub fn descriptions(&self) -> impl Iterator<Item = Raw<'a>> {
        let named = self.members.iter();
        named
            .filter(|(name, _)| matches!(name.as_bytes(), b"offer" | b"answer"))
            .map(|(_, raw)| raw)
    }
}

impl<'a> Command<'a> {
    fn prove(members: &Members<'a>) -> Option<Self> {
        if let Some(token) = members.get("token") {
            return token.string().map(Self::ProveByToken);
        }
        let bytes = |name: &str| {
            let text = members.get(name)?.string()?;
            Some(decode_lenient(&text))
        };
        Some(Self::Prove { cert: bytes("cert")?, signature: bytes("sig")? })
    }
}

impl<'a> Subject<'a> {
    fn read(members: &Members<'a>) -> Option<Self> {
        let string = |name: &str| members.get(name).and_then(|raw| raw.string());
        if let Some(code) = string("code") {
            return Some(Self::Code(code));
        }
        let fp = string("fp").or_else(|| string("fingerprint"))?;
        fp.as_str().and_then(Fingerprint::new).map(Self::Fingerprint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(text: &str, sender: Dialect, receiver: Dialect) -> Vec<String> {
        let Some(Message::Envelope(envelope)) = Message::read(text.as_bytes(), sender) else {
            panic!("{text} is no envelope");
        };
        let names = envelope.passed_on(receiver);
        names.map(|(name, _)| name.as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn forged_sources_and_the_target_are_left_out_and_everything_else_stays() {
        use Dialect::{Plan, Readme};
        let text = r#"{"target":"B","offer":"o","source_fp":"evil","x":1,"fingerprint":"F","source":2,"x":3}"#;
        assert_eq!(passed(text, Readme, Readme), ["offer", "fingerprint", "source", "x"]);
        assert_eq!(passed(text, Readme, Plan), ["offer", "source_fp", "x"]);
        assert_eq!(passed(text, Plan, Readme), ["offer", "source", "x"]);
    }

    #[test]
    fn what_crashed_the_originals_is_read() {
        let read = |text: &'static str| Message::read(text.as_bytes(), Dialect::Readme);
        for text in ["null", "[]", "", "{", "\"offer\"", "1"] {
            assert!(read(text).is_none(), "{text}");
        }
        for text in [r#"{"offer":"x","target":null}"#, r#"{"offer":1,"target":["y"]}"#] {
            let Some(Message::Envelope(envelope)) = read(text) else { panic!("{text}") };
            assert!(envelope.target.is_none());
        }
        assert!(matches!(read(r#"{"offer":"x"}"#), Some(Message::Ignored(Ignored::NoTarget))));
        assert!(matches!(read(r#"{"command":1}"#), Some(Message::Ignored(Ignored::Unknown))));
        let nested = format!("{{\"offer\":{}1{}}}", "[".repeat(100), "]".repeat(100));
        assert!(Message::read(nested.as_bytes(), Dialect::Plan).is_none());
    }

    #[test]
    fn the_plans_fingerprint_wins_over_its_target() {
        let text = br#"{"target":"name","fingerprint":"F","answer":"a"}"#;
        let Some(Message::Envelope(envelope)) = Message::read(text, Dialect::Plan) else {
            panic!()
        };
        assert_eq!(envelope.target.unwrap(), "F");
    }
}
