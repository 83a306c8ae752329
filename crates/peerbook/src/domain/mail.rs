//! Mail to users: that somebody waits for their approval.

use edge::LimitKey;

use super::Account;
use crate::error::Error;

/// Writes to users.
#[derive(Debug, Default)]
pub(crate) struct Mail;

impl Mail {
    /// Has the user of `account` mailed a link to their review page, unless they were a moment ago.
    /// `from` is who caused it.
    pub(crate) async fn review(
        &self,
        account: &Account,
        from: Option<LimitKey>,
    ) -> Result<(), Error> {
        tracing::debug!(uid = account.uid, by_client = from.is_some(), "mail due");
        Ok(())
    }
}
