//! `/verify/T`: lets the one peer in that a login link stands for.

use http::StatusCode;

use super::answer::{self, STYLE};
use super::view::{Message, Verify};
use super::{Answer, Pages, Visit, method_not_allowed};
use crate::error::Error;

impl Pages {
    /// GET asks, POST does it: mail scanners follow links, and approve nothing by that.
    pub(super) async fn verify(&self, token: &str, visit: &Visit) -> Answer {
        let stale = || answer::text(StatusCode::UNAUTHORIZED, "Stale token, please try again");
        let Some(grant) = self.tokens.find(token).await? else { return Ok(stale()) };
        let Some(fp) = &grant.fp else { return Ok(stale()) };
        let Some(user) = self.book.user_by_uid(&grant.uid).await? else { return Ok(stale()) };
        let Some((fp, peer)) = self.listed(&user.uid, fp).await? else { return Ok(stale()) };
        if visit.is_get() {
            let page = Verify { style: STYLE, email: &user.email, token, peer };
            return Ok(answer::page(StatusCode::OK, &page));
        }
        if !visit.is_post() {
            return Ok(method_not_allowed());
        }
        if let Some(refused) = self.foreign(visit) {
            return Ok(refused);
        }
        if self.exchange(token).await?.is_none() {
            return Ok(stale());
        }
        let (title, text) = match self.book.approve(&user.uid, &fp).await {
            Ok(_) => ("Peer verified", "The device is in your peerbook. You may close this page."),
            Err(Error::Full) => {
                ("Your peerbook is full", "Remove a device, then let this one log in again.")
            }
            Err(why) => return Err(why.into()),
        };
        Ok(answer::page(StatusCode::OK, &Message::new(title, text, None)))
    }
}
