//! The envelope of a frame: version, id, type.

use std::borrow::Cow;

use super::{Code, Refusal, Rules, encode, peer_id::is_truthy};
use crate::js::{self, Members, Raw};

/// What a client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Prove a peer id and become reachable under it.
    Register,
    /// Pass a payload to another peer.
    Signal,
    /// Ask for a `pong`.
    Ping,
    /// Ask who is online.
    PeersRequest,
    /// Ask to be told about some peers only (ours; the original does not know it).
    PresenceSubscribe,
}

impl Kind {
    /// Every kind, for metrics.
    pub const ALL: [Self; 5] =
        [Self::Register, Self::Signal, Self::Ping, Self::PeersRequest, Self::PresenceSubscribe];

    /// The `type` member that asks for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Signal => "signal",
            Self::Ping => "ping",
            Self::PeersRequest => "peers_request",
            Self::PresenceSubscribe => "presence_subscribe",
        }
    }

    /// The refusal for a socket that has not registered; `None` for the frame that registers.
    #[must_use]
    pub const fn unregistered(self) -> Option<Refusal> {
        let message = match self {
            Self::Register => return None,
            Self::Signal => "Register before sending signals",
            Self::Ping => "Register before sending ping",
            Self::PeersRequest => "Register before peers_request",
            Self::PresenceSubscribe => "Register before presence_subscribe",
        };
        Some(Refusal::new(Code::NotRegistered, message))
    }
}

/// The id an error answers to: the client's own, of any JSON type, if it is truthy.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestId<'a>(Option<Raw<'a>>);

impl RequestId<'_> {
    /// Appends the id as JSON text, or a fresh one for a client that gave none.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self.0 {
            Some(raw) if is_truthy(raw) => raw.write(out),
            _ => encode::fresh_id("error", out),
        }
    }
}

/// One frame whose envelope is in order.
#[derive(Debug)]
pub struct Request<'a> {
    /// What is asked for.
    pub kind: Kind,
    /// Id to quote in an error.
    pub id: RequestId<'a>,
    pub(crate) payload: Option<Raw<'a>>,
    pub(crate) members: Option<Members<'a>>,
}

impl<'a> Request<'a> {
    /// Reads one whole message: JSON, then `v`, then `type`.
    ///
    /// # Errors
    /// The first check that fails, with the id to quote: `INVALID_JSON`, `INVALID_VERSION`,
    /// `UNKNOWN_TYPE` (spec 3.2).
    pub fn read(text: &'a [u8], rules: &Rules) -> Result<Self, (RequestId<'a>, Refusal)> {
        const VERSION: Refusal = Refusal::new(Code::InvalidVersion, "Unsupported protocol version");
        let Ok(scanned) = js::scan(text, rules.max_depth, b"payload") else {
            let refusal = Refusal::new(Code::InvalidJson, "Invalid JSON format");
            return Err((RequestId::default(), refusal));
        };
        let Some(scanned) = scanned else { return Err((RequestId::default(), VERSION)) };
        let id = RequestId(scanned.members.get("id"));
        let is_one = |v: Raw<'_>| v.string().is_some_and(|v| v.as_bytes() == b"1");
        if !scanned.members.get("v").is_some_and(is_one) {
            return Err((id, VERSION));
        }
        let kind = scanned.members.get("type");
        let Some(kind) = kind.and_then(kind_of) else { return Err((id, unknown_type(kind))) };
        Ok(Self { kind, id, payload: scanned.members.get("payload"), members: scanned.inner })
    }

    /// A member of the payload.
    pub(crate) fn member(&self, key: &str) -> Option<Raw<'a>> {
        self.members.as_ref()?.get(key)
    }
}

fn kind_of(raw: Raw<'_>) -> Option<Kind> {
    let name = raw.string()?;
    Kind::ALL.into_iter().find(|kind| kind.as_str().as_bytes() == name.as_bytes())
}

fn unknown_type(kind: Option<Raw<'_>>) -> Refusal {
    let mut message = b"Unknown frame type: ".to_vec();
    js::display(kind.map(|raw| raw.value()).as_ref(), &mut message);
    Refusal { code: Code::UnknownType, message: Cow::Owned(message) }
}
