//! Pairing codes: approval without mail, for two devices side by side.

use std::{sync::Arc, time::Duration};

use proto::book::Fingerprint;

use super::{book::Book, change::Change, connection::Connection, secret};
use crate::{error::Error, store};

impl Book {
    /// A code for a connection that waits, in place of the one it had: whoever types it on a
    /// verified device lets this peer in.
    ///
    /// # Errors
    /// [`Error::TooMany`]; the database's.
    pub(crate) async fn pairing_code(
        &self,
        connection: &Connection,
    ) -> Result<(String, Duration), Error> {
        self.guess(&format!("?{:?}", connection.address))?;
        let code = secret::pairing_code();
        let age = self.settings.pairing_age;
        let hash = secret::hash(code.as_bytes());
        let who = &connection.introduction;
        store::pairing::offer(&self.pool, &hash, who, age.as_secs_f64()).await?;
        Ok((code, age))
    }

    /// Lets the peer in that shows `code`. Case, blanks and hyphens do not matter.
    ///
    /// # Errors
    /// [`Error::UnknownPeer`] for a code that is wrong, used or too old, [`Error::TooMany`], those
    /// of [`Book::approve`]; the database's.
    pub(crate) async fn approve_by_code(
        self: &Arc<Self>,
        uid: &str,
        code: &str,
    ) -> Result<Option<Fingerprint>, Error> {
        self.guess(&uid.to_owned())?;
        let typed: String = code
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_uppercase())
            .collect();
        let hash = secret::hash(typed.as_bytes());
        Ok(self.change(uid, Change::Pair(hash)).await?.fp)
    }

    fn guess(&self, who: &String) -> Result<(), Error> {
        self.guesses.check(who, 1).map_err(|retry_after| {
            self.metrics.request_limits.inc();
            Error::TooMany { retry_after }
        })
    }
}
