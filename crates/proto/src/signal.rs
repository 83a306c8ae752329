//! Frames of the signaling WebSocket: what clients may send, what servers answer.
//!
//! Every frame is one JSON object `{"v":"1","id":…,"type":…,"payload":…}`. [`Request::read`] checks
//! the envelope, [`Register::read`] and [`Signal::read`] the payloads, each in the exact order in
//! which the protocol names its errors; [`encode`] writes every server frame.
//!
//! Reading is shallow: one pass validates the frame and finds the members of its payload. What is
//! forwarded is what `JSON.stringify` would write, which for most payloads is the bytes that came.

pub mod encode;
mod id;
mod peer_id;
mod register;
pub mod replica;
mod request;
mod routed;

pub use peer_id::PeerId;
pub use register::{FORGET_AFTER_MS, Register, Resume, SKEW_MS};
pub use request::{Kind, Request, RequestId};
pub use routed::{Signal, Subscription};

use std::borrow::Cow;

/// Error codes of the protocol; `RateLimited`, `Unavailable` and `InvalidSubscribe` are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The frame is not JSON, or nested deeper than the server reads.
    InvalidJson,
    /// `v` is not the string `"1"`.
    InvalidVersion,
    /// `type` names no frame a client may send.
    UnknownType,
    /// The register payload lacks its peer id.
    InvalidRegister,
    /// The register proof is refused.
    InvalidRegisterAuth,
    /// The frame needs a registered socket.
    NotRegistered,
    /// The signal names no recipient, or a sender which is not this socket.
    InvalidSignal,
    /// The recipient is not connected.
    PeerNotFound,
    /// Another socket registered this peer id.
    SessionReplaced,
    /// The list of a `presence_subscribe` is missing or too long.
    InvalidSubscribe,
    /// Too many frames or bytes.
    RateLimited,
    /// Storage is away; the same frame may be sent again.
    Unavailable,
}

impl Code {
    /// Every code, for metrics and documentation.
    pub const ALL: [Self; 12] = [
        Self::InvalidJson,
        Self::InvalidVersion,
        Self::UnknownType,
        Self::InvalidRegister,
        Self::InvalidRegisterAuth,
        Self::NotRegistered,
        Self::InvalidSignal,
        Self::PeerNotFound,
        Self::SessionReplaced,
        Self::InvalidSubscribe,
        Self::RateLimited,
        Self::Unavailable,
    ];

    /// The code as it is written on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidJson => "INVALID_JSON",
            Self::InvalidVersion => "INVALID_VERSION",
            Self::UnknownType => "UNKNOWN_TYPE",
            Self::InvalidRegister => "INVALID_REGISTER",
            Self::InvalidRegisterAuth => "INVALID_REGISTER_AUTH",
            Self::NotRegistered => "NOT_REGISTERED",
            Self::InvalidSignal => "INVALID_SIGNAL",
            Self::PeerNotFound => "PEER_NOT_FOUND",
            Self::SessionReplaced => "SESSION_REPLACED",
            Self::InvalidSubscribe => "INVALID_SUBSCRIBE",
            Self::RateLimited => "RATE_LIMITED",
            Self::Unavailable => "UNAVAILABLE",
        }
    }
}

/// Why a frame is refused: becomes an `error` frame; the connection stays open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Wire code.
    pub code: Code,
    /// Message as WTF-8 bytes: it may quote what the client sent.
    pub message: Cow<'static, [u8]>,
}

impl Refusal {
    /// A refusal with a fixed message.
    #[must_use]
    pub const fn new(code: Code, message: &'static str) -> Self {
        Self { code, message: Cow::Borrowed(message.as_bytes()) }
    }
}

/// How strictly frames are read: the part of the identity policy that concerns bytes.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Deepest nesting of arrays and objects that is read.
    pub max_depth: usize,
    /// Peer ids may be any truthy JSON scalar; otherwise strings only.
    pub scalar_peer_ids: bool,
    /// Peer ids must be 1 to 64 characters of `[A-Za-z0-9_-]`.
    pub plain_peer_ids: bool,
    /// Longest peer id, in bytes of its JSON text.
    pub max_peer_id_bytes: usize,
    /// A signal's `from`, when present, must be the registered peer id.
    pub check_from: bool,
    /// Keys of small order are accepted.
    pub weak_keys: bool,
}

impl Rules {
    /// What the original accepts.
    pub const OPEN: Self = Self {
        max_depth: crate::js::DEPTH_CEILING,
        scalar_peer_ids: true,
        plain_peer_ids: false,
        max_peer_id_bytes: usize::MAX,
        check_from: false,
        weak_keys: true,
    };
    /// The default: nothing an honest client would notice.
    pub const PIN: Self = Self {
        max_depth: 128,
        scalar_peer_ids: false,
        plain_peer_ids: false,
        max_peer_id_bytes: 512,
        check_from: true,
        weak_keys: false,
    };
    /// As [`Rules::PIN`], with peer ids of the current client's alphabet only.
    pub const STRICT: Self = Self { plain_peer_ids: true, ..Self::PIN };
}

#[cfg(test)]
mod tests;
