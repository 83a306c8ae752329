//! `/login`: a device with its user's one-time password asks to be let in.

use http::StatusCode;
use proto::book::{Email, Fingerprint, Label, Name};
use serde::Deserialize;

use super::form::{self, FORM_BYTES};
use super::{Answer, Pages, Refused, Visit, answer, method_not_allowed};
use crate::domain::book::Ask;
use crate::domain::mail::Asked;
use crate::domain::totp::{Place, Verdict};
use crate::domain::{Account, Introduction};
use crate::error::Error;

/// The one answer to whoever is not let in: it tells nothing about accounts.
const INVALID: &str = "Invalid Credentials";

#[derive(Deserialize)]
struct Login {
    #[serde(default)]
    user: String,
    #[serde(default)]
    otp: String,
    #[serde(default)]
    fp: String,
    #[serde(default)]
    name: String,
}

impl Pages {
    /// A right code records the request and mails the link that approves it.
    pub(super) async fn login(&self, visit: Visit) -> Answer {
        if !visit.is_post() {
            return Ok(method_not_allowed());
        }
        let client = visit.client;
        let body = form::read(visit.body, FORM_BYTES).await?;
        let Ok(login) = serde_json::from_slice::<Login>(&body) else {
            return Ok(answer::text(StatusCode::BAD_REQUEST, "Bad JSON"));
        };
        let fp = Fingerprint::new(&login.fp);
        let (Some(fp), false, false) = (fp, login.user.is_empty(), login.otp.is_empty()) else {
            return Ok(answer::text(StatusCode::BAD_REQUEST, "Missing user, otp or fp"));
        };
        let refused = || answer::text(StatusCode::UNAUTHORIZED, INVALID);
        let Some(user) = self.named(&login.user).await? else { return Ok(refused()) };
        if self.code(&user.uid, Place::Login, &login.otp).await? != Verdict::Right {
            return Ok(refused());
        }
        let who = Introduction {
            fp: fp.clone(),
            name: Some(Name::lenient(&login.name)),
            kind: Some(Label::lenient("terminal7")),
            properties: None,
        };
        let ask = Ask { who, uid: Some(user.uid.clone()), email: None, address: client };
        if let Err(why) = self.book.request(&ask).await {
            return match why {
                Error::Storage(why) => Err(why.into()),
                other => Err(Refused::Domain(other)),
            };
        }
        Ok(match self.mail.login(&user.email, fp.as_str(), Some(client)).await? {
            Asked::Queued => {
                answer::text(StatusCode::CREATED, &format!("Email sent to {}", user.email))
            }
            Asked::Throttled(wait) => {
                let text = format!(
                    "Failed to send email: Throttling prevented sending email to \"{}\"",
                    user.email
                );
                answer::retry_after(answer::text(StatusCode::TOO_MANY_REQUESTS, &text), wait)
            }
            Asked::Full | Asked::Off | Asked::NoAddress => {
                answer::text(StatusCode::SERVICE_UNAVAILABLE, "Failed to send email")
            }
        })
    }

    /// The user of an address or an id.
    async fn named(&self, user: &str) -> Result<Option<Account>, Refused> {
        if user.contains('\0') {
            return Ok(None);
        }
        Ok(match Email::new(user) {
            Some(email) => self.book.user_by_email(&email).await?,
            None => self.book.user_by_uid(user).await?,
        })
    }
}
