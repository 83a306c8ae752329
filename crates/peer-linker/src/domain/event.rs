//! What the rules say: to whom, and what follows for the shell around them.

use std::sync::Arc;

use bytes::Bytes;

use super::pads::PadId;

/// A connected client, by a number that is never given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClientId(pub(crate) u64);

/// A pad's name: any bytes, at least one.
pub(crate) type Name = Arc<[u8]>;

/// Something a client is told. Each generation of the protocol has its own words for it, and none
/// for what it does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The answer to a register, unregister or unlink, or the refusal of any request.
    Answer {
        /// The request's.
        id: u32,
        ok: bool,
    },
    /// A link request was put to the owner of the other pad.
    Forwarded {
        /// The link request's.
        id: u32,
    },
    /// Somebody asks to be linked to the client's pad.
    Auth { requester: Name, secret: Bytes },
    /// The answer to an [`Event::Auth`] was taken.
    Taken {
        /// The answer's.
        id: u32,
    },
    /// The link request was granted: both are linked.
    Granted {
        /// The link request's.
        id: u32,
    },
    /// The link request came to nothing after it had been forwarded.
    Denied {
        /// The link request's.
        id: u32,
        /// The id of the answer that denied it; 0 when nobody answered.
        by: u32,
    },
    /// The link request is over because its own pad is given back.
    Withdrawn {
        /// The link request's.
        id: u32,
    },
    /// A request the client was told of is over. For siblings only: a client learns it when it
    /// answers.
    Unasked,
    /// The link is over, by the other side's doing.
    Unlinked,
}

/// What has to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Tell a client.
    Tell(ClientId, Event),
    /// From here on the payload of each goes to the other. Both may be the same.
    Join(ClientId, ClientId),
    /// The two are joined no longer.
    Part(ClientId, ClientId),
    /// A registered pad is gone: others may have its name.
    Release(PadId, [u8; 32]),
    /// A limit was hit; whoever hit it is told by another effect.
    Limited(Limited),
}

/// The limits a client can hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limited {
    /// Longest name.
    Name,
    /// Pads of one address.
    PadsPerAddress,
    /// Pads of this process.
    Pads,
    /// Link requests waiting at one pad.
    RequestsPerPad,
    /// Link requests waiting at this process.
    Requests,
    /// Bytes of link requests waiting at this process.
    RequestBytes,
    /// Time to answer a link request.
    AnswerTime,
    /// Time to wait for a pad that is not registered.
    WaitTime,
}

impl Limited {
    /// All of them.
    pub(crate) const ALL: [Self; 8] = [
        Self::Name,
        Self::PadsPerAddress,
        Self::Pads,
        Self::RequestsPerPad,
        Self::Requests,
        Self::RequestBytes,
        Self::AnswerTime,
        Self::WaitTime,
    ];

    /// As the metric's label has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::PadsPerAddress => "pads_per_address",
            Self::Pads => "pads",
            Self::RequestsPerPad => "requests_per_pad",
            Self::Requests => "requests",
            Self::RequestBytes => "request_bytes",
            Self::AnswerTime => "answer_time",
            Self::WaitTime => "wait_time",
        }
    }
}
