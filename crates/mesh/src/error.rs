//! Everything a request can end in besides its answer. `transport::respond` turns it to bytes.

use std::time::Duration;

use http::StatusCode;
use proto::mesh::token::Refusal;

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("a room is 40 or 64 hexadecimal digits")]
    BadRoom,
    #[error("the parameter {0} is missing or malformed")]
    BadParam(&'static str),
    #[error("the signature does not fit the item")]
    BadSignature,
    #[error("proof of work is required: send t and n")]
    PowRequired,
    #[error("the proof has {got} zero bits, {need} are asked for")]
    PowTooLow { got: u32, need: u32 },
    #[error("{0}")]
    Token(Refusal),
    #[error("there is nothing here")]
    NotFound,
    #[error("the DHT holds no such item")]
    DhtNotFound { seq: Option<i64> },
    #[error("this path does not take this method")]
    Method,
    #[error("a body may have {0} bytes")]
    BodyTooLarge(usize),
    #[error("the body did not arrive in time, or broke off")]
    BodyIncomplete,
    #[error("this proof was used already")]
    PowReplayed,
    #[error("the DHT holds a newer item, of sequence number {0}")]
    SeqTooOld(i64),
    #[error("the DHT holds another value of this sequence number")]
    SeqConflict,
    #[error("the item is being written by somebody else")]
    ConflictRisk,
    #[error("the item in the DHT has not the sequence number cas names")]
    CasMismatch,
    #[error("too many requests from this address")]
    RateLimited(Duration),
    #[error("this room had too many posts in the last minute, or has too many listeners")]
    RoomBusy,
    #[error("this address listens to as much as it may")]
    TooManyStreams,
    #[error("the operator of this node does not serve this room")]
    RoomBlocked,
    #[error("this node is overloaded: try another")]
    Overloaded,
    #[error("this node is stopping: go to another")]
    Draining,
    #[error("the DHT cannot be reached")]
    DhtUnavailable,
    #[error("the DHT did not answer in time")]
    DhtTimeout,
    #[error("this node hands out no TURN credentials")]
    NoTurn,
    #[error("this node's database is away: try again")]
    Storage,
}

impl Error {
    /// Its name on the wire and its status.
    pub(crate) fn code(&self) -> (&'static str, StatusCode) {
        use StatusCode as S;
        match self {
            Self::BadRoom => ("bad_room", S::BAD_REQUEST),
            Self::BadParam(_) => ("bad_param", S::BAD_REQUEST),
            Self::Token(Refusal::Format) => ("bad_token_format", S::BAD_REQUEST),
            Self::BadSignature => ("bad_signature", S::BAD_REQUEST),
            Self::BodyIncomplete => ("bad_body", S::BAD_REQUEST),
            Self::PowRequired => ("pow_required", S::PAYMENT_REQUIRED),
            Self::PowTooLow { .. } => ("pow_too_low", S::PAYMENT_REQUIRED),
            Self::Token(Refusal::Invalid) => ("token_invalid", S::FORBIDDEN),
            Self::Token(Refusal::WrongNode) => ("token_wrong_node", S::FORBIDDEN),
            Self::Token(Refusal::WrongAddress) => ("token_ip_mismatch", S::FORBIDDEN),
            Self::Token(Refusal::Expired) => ("token_expired", S::GONE),
            Self::NotFound => ("not_found", S::NOT_FOUND),
            Self::DhtNotFound { .. } => ("dht_not_found", S::NOT_FOUND),
            Self::Method => ("method", S::METHOD_NOT_ALLOWED),
            Self::BodyTooLarge(_) => ("body_too_large", S::PAYLOAD_TOO_LARGE),
            Self::PowReplayed => ("pow_replayed", S::CONFLICT),
            Self::SeqTooOld(_) => ("seq_too_old", S::CONFLICT),
            Self::SeqConflict => ("seq_conflict", S::CONFLICT),
            Self::ConflictRisk => ("conflict_risk", S::CONFLICT),
            Self::CasMismatch => ("cas_mismatch", S::PRECONDITION_FAILED),
            Self::RateLimited(_) => ("rate_limited", S::TOO_MANY_REQUESTS),
            Self::RoomBusy => ("room_busy", S::TOO_MANY_REQUESTS),
            Self::TooManyStreams => ("too_many_streams", S::TOO_MANY_REQUESTS),
            Self::RoomBlocked => ("room_blocked", S::UNAVAILABLE_FOR_LEGAL_REASONS),
            Self::Overloaded | Self::Storage => ("overloaded", S::SERVICE_UNAVAILABLE),
            Self::Draining => ("draining", S::SERVICE_UNAVAILABLE),
            Self::DhtUnavailable => ("dht_unavailable", S::SERVICE_UNAVAILABLE),
            Self::NoTurn => ("turn_unavailable", S::SERVICE_UNAVAILABLE),
            Self::DhtTimeout => ("dht_timeout", S::GATEWAY_TIMEOUT),
        }
    }

    /// Whether the answer names the present price, so that a retry needs no further question.
    pub(crate) fn wants_quote(&self) -> bool {
        matches!(
            self,
            Self::PowRequired
                | Self::PowTooLow { .. }
                | Self::PowReplayed
                | Self::Token(
                    Refusal::Invalid
                        | Refusal::WrongNode
                        | Refusal::WrongAddress
                        | Refusal::Expired
                )
        )
    }

    /// Whether the answer names other nodes, where the same may be had now.
    pub(crate) fn sends_elsewhere(&self) -> bool {
        matches!(self, Self::Overloaded | Self::Draining | Self::Storage)
    }

    /// Whole seconds for `Retry-After`.
    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::RateLimited(wait) => Some(wait.as_secs() + 1),
            Self::RoomBusy | Self::TooManyStreams | Self::Overloaded | Self::Draining => Some(10),
            Self::Storage | Self::DhtUnavailable | Self::DhtTimeout => Some(2),
            _ => None,
        }
    }
}
