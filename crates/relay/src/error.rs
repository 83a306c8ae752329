//! Everything a request can end in besides its answer. `transport::respond` turns it to bytes.

use std::time::Duration;

use proto::relay::Refusal;

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The body was absent or not declared as JSON.
    #[error("invalid body")]
    NoBody,
    /// The body could not be read at all; answered with a page, as frameworks do.
    #[error("{0:?}")]
    Http(Http),
    /// A field is missing, wrong, or not allowed.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The signature does not match, or cannot.
    #[error("invalid signature")]
    BadSignature,
    /// The signature is right but the key does not own the peer it speaks for.
    #[error("signing key does not own this peer")]
    NotOwnKey,
    /// The request has to be signed and is not.
    #[error("authentication required")]
    Unauthenticated,
    /// `from` is not in the group.
    #[error("sender is not a group member")]
    SenderNotMember,
    /// These recipients are not in the group; ids as WTF-8.
    #[error("recipient is not a group member")]
    RecipientsNotMembers(Vec<Vec<u8>>),
    /// The group has another owner.
    #[error("owner mismatch")]
    OwnerMismatch,
    /// An older update than the one in force.
    #[error("stale members update")]
    StaleUpdate,
    /// Only a member of a provisional group may claim it.
    #[error("only a member may claim this group")]
    ClaimByStranger,
    /// No such blob, or not any more.
    #[error("blob not found")]
    BlobNotFound,
    /// No chunk of this upload is known.
    #[error("upload session not found")]
    SessionNotFound,
    /// A chunk or a completion names another number of chunks than the session.
    #[error("totalChunks mismatch")]
    TotalMismatch,
    /// The upload is not complete.
    #[error("missing chunks")]
    MissingChunks {
        /// Chunks the request names.
        expected: u64,
        /// Distinct chunks that arrived.
        received: u64,
    },
    /// The upload lacks this one.
    #[error("missing chunk {0}")]
    MissingChunk(u64),
    /// More bytes than a quota allows at all: a retry cannot help.
    #[error("{0}")]
    TooLarge(&'static str),
    /// A quota or rate is used up for now.
    #[error("{what}")]
    TooMany {
        /// The `error` member of the answer.
        what: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// Other large bodies take up the memory there is for them.
    #[error("too many large requests")]
    Busy,
    /// The database is known to be away.
    #[error("storage unavailable")]
    StorageAway,
    /// The database did not answer, or not as it must.
    #[error("storage unavailable")]
    Storage(#[source] pg::Error),
}

/// What is wrong with a request as HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http {
    /// 400: malformed JSON, encoding or escape.
    BadRequest,
    /// 404: no such path, or not with this method.
    NotFound,
    /// 408: the body did not arrive in time.
    Timeout,
    /// 413: the body is larger than the limit.
    TooLarge,
    /// 415: an encoding or character set we do not read.
    UnsupportedMediaType,
}

impl From<pg::Error> for Error {
    fn from(error: pg::Error) -> Self {
        Self::Storage(error)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Storage(error.into())
    }
}
