//! What can go wrong with Postgres, and which of it passes by itself.

use std::sync::Arc;

/// A failed use of the database. Clones share the cause, so one failed commit can answer
/// every caller that took part in it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The database is away or asked us to come back; the same call may work in a moment.
    #[error("the database is not available")]
    Unavailable(#[source] Arc<sqlx::Error>),
    /// The database answered, and the answer is no.
    #[error("the database refused")]
    Refused(#[source] Arc<sqlx::Error>),
    /// More writes wait than the queue holds; the caller should slow down.
    #[error("too many writes are waiting")]
    Busy,
    /// The process stops and takes no more writes.
    #[error("the process is stopping")]
    Closed,
    /// A commit function answered for another number of items than it was given.
    #[error("a commit of {items} items gave {answers} answers")]
    Answers {
        /// Items in the batch.
        items: usize,
        /// Answers that came back.
        answers: usize,
    },
    /// `--database-url` is not a Postgres URL. The text says where, never what it holds.
    #[error("the database URL cannot be used: {0}")]
    Url(String),
    /// The database lacks migrations this program needs.
    #[error("the database lacks {missing} migrations; run `switchyard migrate`")]
    SchemaBehind {
        /// How many are not applied.
        missing: usize,
    },
    /// The database has a migration this program does not know.
    #[error("the database is newer than this program (migration {version}); upgrade it")]
    SchemaAhead {
        /// The first unknown version.
        version: i64,
    },
}

impl Error {
    /// Whether the caller should be told to try again: away, busy or stopping.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Busy | Self::Closed)
    }

    /// The cause in sqlx's words, when the database was asked.
    pub fn cause(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Unavailable(cause) | Self::Refused(cause) => Some(cause),
            _ => None,
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(cause: sqlx::Error) -> Self {
        if is_transient(&cause) {
            Self::Unavailable(Arc::new(cause))
        } else {
            Self::Refused(Arc::new(cause))
        }
    }
}

/// Whether the same statement may well succeed in a moment: a lost or refused connection,
/// a failover, a serialization failure, a deadlock, a timeout.
///
/// A lost connection leaves open whether the statement was committed: only repeat what is
/// harmless when done twice.
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(refusal) => {
            let code = refusal.code().unwrap_or_default();
            code.starts_with("08") // connection exceptions
                || code.starts_with("57P") // shutdown, crash, starting up
                || code.starts_with("53") // out of connections, memory or disk
                || matches!(
                    code.as_ref(),
                    "40001" // serialization failure
                    | "40P01" // deadlock
                    | "55P03" // lock not available in time
                    | "57014" // statement timeout
                    | "25006" // read only: the primary moved
                )
        }
        _ => false,
    }
}

/// Whether a row's day has no partition yet: [`crate::partitions::ensure`], then try again.
pub fn is_missing_partition(error: &sqlx::Error) -> bool {
    // The same code as a failed CHECK, which names its constraint.
    error.as_database_error().is_some_and(|refusal| {
        refusal.code().as_deref() == Some("23514") && refusal.constraint().is_none()
    })
}

/// Whether some of the rows are at fault, so that the others may succeed without them.
pub(crate) fn blames_data(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|refusal| refusal.code()).is_some_and(|code| {
        // bad values, broken constraints, limits of the program, raised by our own functions
        ["22", "23", "54", "P0"].iter().any(|class| code.starts_with(class))
    })
}
