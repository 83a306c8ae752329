//! Links: what a mailed token opens, and for how long.
//!
//! ```text
//! mailed ──GET──> shows the page, as often as asked (mail scanners follow links)
//!        ──POST─> ends this token, makes the next one, then carries out the change
//! ```
//!
//! A token is 30 random bytes in base64url, 40 characters, as in the original. Tables hold its
//! SHA-256. It lives for the setting `TOKEN_TTL`; exchanges renew that up to [`SESSION`].

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sqlx::PgPool;

use crate::domain::secret;
use crate::store::token;

pub(crate) use crate::store::token::Grant;

/// Random bytes of a token.
const TOKEN_BYTES: usize = 30;
/// Characters of a token.
const TOKEN_CHARS: usize = 40;

/// Longest a chain of exchanges lasts.
const SESSION: Duration = Duration::from_secs(3_600);

/// Makes, finds and exchanges tokens.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    pool: PgPool,
    ttl: Duration,
}

impl Tokens {
    /// Tokens that live for `ttl`.
    pub(crate) fn new(pool: PgPool, ttl: Duration) -> Self {
        Self { pool, ttl }
    }

    /// How long a fresh token lives.
    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// A new token for `grant`.
    pub(crate) async fn mint(&self, grant: &Grant) -> Result<String, pg::Error> {
        let text = random_text();
        let most = self.ttl.max(SESSION);
        token::insert(&self.pool, &digest(&text), grant, self.ttl, most).await?;
        Ok(text)
    }

    /// What a token of a path opens; `None` when it is malformed, unknown or over.
    pub(crate) async fn find(&self, text: &str) -> Result<Option<Grant>, pg::Error> {
        if !is_token(text) {
            return Ok(None);
        }
        token::find(&self.pool, &digest(text)).await
    }

    /// Ends a token; what it opened, and the next one.
    pub(crate) async fn exchange(&self, text: &str) -> Result<Option<(Grant, String)>, pg::Error> {
        if !is_token(text) {
            return Ok(None);
        }
        let next = random_text();
        let found = token::exchange(&self.pool, &digest(text), &digest(&next), self.ttl).await?;
        Ok(found.map(|grant| (grant, next)))
    }
}

fn is_token(text: &str) -> bool {
    let ours = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    text.len() == TOKEN_CHARS && text.bytes().all(ours)
}

fn random_text() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; TOKEN_BYTES]>())
}

fn digest(text: &str) -> [u8; 32] {
    secret::hash(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_any_path_unescaped() {
        for _ in 0..100 {
            let text = random_text();
            assert!(is_token(&text), "{text}");
        }
        for wrong in ["", "short", &"é".repeat(20), &"/".repeat(40), &"a".repeat(41)] {
            assert!(!is_token(wrong), "{wrong}");
        }
    }
}
