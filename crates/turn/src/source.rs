//! Where credentials come from.

use std::fmt;
use std::time::Duration;

use crate::{Credential, mint};

/// What coturn was told, of which it takes one: a secret, or a name with its password.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// coturn's `static-auth-secret`. Every client gets a credential of its own, which expires.
    Secret(String),
    /// coturn's `user=NAME:PASSWORD`. Every client gets this one, which never expires.
    Pair {
        /// The name.
        user: String,
        /// Its password.
        password: String,
    },
}

impl Source {
    /// A credential for `user`, good for `ttl` from `now_ms` (milliseconds since the epoch).
    ///
    /// The pair is the same for every user and at all times; clients are told `ttl` all the same,
    /// as the time after which to ask again: an operator may have changed it by then.
    pub fn credential(&self, user: &str, ttl: Duration, now_ms: i64) -> Credential {
        match self {
            Self::Secret(secret) => mint(secret.as_bytes(), user, ttl, now_ms),
            Self::Pair { user, password } => Credential {
                username: user.clone(),
                credential: password.clone(),
                ttl: ttl.as_secs(),
                uris: Vec::new(),
            },
        }
    }
}

impl fmt::Debug for Source {
    /// Without secret and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(_) => f.debug_tuple("Secret").finish_non_exhaustive(),
            Self::Pair { user, .. } => {
                f.debug_struct("Pair").field("user", user).finish_non_exhaustive()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn pair() -> Source {
        Source::Pair { user: "operator".to_owned(), password: "open sesame".to_owned() }
    }

    #[test]
    fn a_secret_makes_every_user_a_credential() {
        let source = Source::Secret("north".to_owned());
        let made = source.credential("alice", HOUR, 1_700_000_000_000);
        assert_eq!(made, mint(b"north", "alice", HOUR, 1_700_000_000_000));
    }

    #[test]
    fn a_pair_is_everybodys_and_always_the_same() {
        let made = pair().credential("alice", HOUR, 1_700_000_000_000);
        assert_eq!((made.username.as_str(), made.credential.as_str()), ("operator", "open sesame"));
        assert_eq!(made.ttl, 3_600);
        assert_eq!(made, pair().credential("bob", HOUR, 1_800_000_000_000));
    }

    #[test]
    fn debugging_shows_neither_secret_nor_password() {
        let shown = format!("{:?} {:?}", pair(), Source::Secret("north".to_owned()));
        assert!(!shown.contains("sesame") && !shown.contains("north"), "{shown}");
    }
}
