//! What can go wrong between a request and its answer.

/// Why a request is not done. Nothing here is told to strangers as it is; the transport chooses.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No user has this address or id.
    #[error("no such user")]
    UnknownUser,
    /// The user has no such peer or request.
    #[error("no such peer")]
    UnknownPeer,
    /// The user has as many peers, or requests, as there may be.
    #[error("user has too many peers")]
    Full,
    /// The fingerprint is another user's verified peer.
    #[error("fingerprint is associated to another user")]
    OwnedElsewhere,
    /// The same address asks too often.
    #[error("too many requests")]
    TooMany {
        /// When the next one may come.
        retry_after: std::time::Duration,
    },
    /// The database did not do it.
    #[error("storage")]
    Storage(#[from] pg::Error),
}

impl From<sqlx::Error> for Error {
    fn from(cause: sqlx::Error) -> Self {
        Self::Storage(cause.into())
    }
}
