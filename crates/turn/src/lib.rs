//! Credentials for coturn: made from a secret it shares with us, or the one pair it was given.
//!
//! coturn takes one of the two. The scheme of the secret is that of draft-uberti-behave-turn-rest-00, which coturn calls `use-auth-secret`:
//! ```text
//! username   = <expiry, seconds since the epoch> ":" <user>
//! credential = base64(HMAC-SHA1(secret, username))
//! ```
//! coturn recomputes the credential and refuses it after its expiry; nothing is stored. It counts
//! its quotas per user, so keep the user of one client the same from credential to credential.

#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod args;
mod source;

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha1::Sha1;

pub use args::TurnArgs;
pub use source::Source;

/// What a client needs to use the TURN server for a while.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Credential {
    /// `<expiry>:<user>`, or the operator's own name.
    pub username: String,
    /// Password for that name.
    pub credential: String,
    /// Seconds from its making until the credential expires, or should be asked for again.
    pub ttl: u64,
    /// Where the server is: `turn:host:3478?transport=udp` and the like.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uris: Vec<String>,
}

impl Credential {
    /// The same credential with the addresses of the servers that take it.
    pub fn at(self, uris: Vec<String>) -> Self {
        Self { uris, ..self }
    }
}

impl fmt::Debug for Credential {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Makes a credential for `user` that expires `ttl` after `now_ms` (milliseconds since the epoch).
///
/// The expiry is rounded up to a whole second. `user` may hold anything; coturn takes the part before
/// the first colon as the expiry.
pub fn mint(secret: &[u8], user: &str, ttl: Duration, now_ms: i64) -> Credential {
    let ttl_ms = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
    let expiry_s = now_ms.saturating_add(ttl_ms).saturating_add(999).div_euclid(1_000);
    let username = format!("{expiry_s}:{user}");
    let mut mac = Hmac::<Sha1>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(username.as_bytes());
    let credential = STANDARD.encode(mac.finalize().into_bytes());
    Credential { username, credential, ttl: ttl.as_secs(), uris: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf %s 1700003600:alice | openssl dgst -sha1 -hmac north -binary | base64`
    #[test]
    fn the_credential_is_what_openssl_computes() {
        let made = mint(b"north", "alice", Duration::from_secs(3_600), 1_700_000_000_000);
        assert_eq!(made.username, "1700003600:alice");
        assert_eq!(made.credential, "wjwSXO2ch1B6VaLTLMy2Avn5O9o=");
        assert_eq!(made.ttl, 3_600);
    }

    #[test]
    fn a_credential_lives_at_least_as_long_as_asked() {
        let made = mint(b"s", "u", Duration::from_millis(1), 1_700_000_000_001);
        assert_eq!(made.username, "1700000001:u");
    }

    #[test]
    fn debugging_does_not_show_the_password() {
        let made = mint(b"s", "u", Duration::from_secs(1), 0);
        assert!(!format!("{made:?}").contains(&made.credential));
    }
}
