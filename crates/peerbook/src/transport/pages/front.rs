//! `/`, `/hitme` and `/support`: what needs no token.

use std::time::Duration;

use edge::Body;
use http::{Response, StatusCode};
use serde::Deserialize;

use super::answer::{self, STYLE};
use super::view::{Home, Message};
use super::{Answer, Pages, Visit, form, method_not_allowed};
use crate::domain::mail::Asked;

/// Longest support request: a log is attached.
const SUPPORT_BYTES: usize = 256 << 10;

/// Told to whoever follows a link that is over.
pub(super) const STALE: &str = "Stale token, please try again";
/// Told to who set codes up before.
pub(super) const ENROLLED_BEFORE: &str = "Your QR was already scanned and verified";
/// Told to who removed everything.
pub(super) const ALL_REMOVED: &str = "All your data was removed";

/// What `/?m=` may say: anybody can make such a link, so it repeats no foreign words.
const MESSAGES: [(&str, bool); 3] = [(STALE, true), (ENROLLED_BEFORE, false), (ALL_REMOVED, false)];

/// Back to the home page with a message.
pub(super) fn home_saying(message: &str) -> Response<Body> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let query = query.append_pair("m", message).finish().replace('+', "%20");
    answer::see_other(&format!("/?{query}"))
}

impl Pages {
    /// `/`
    pub(super) fn home(&self, visit: &Visit) -> Response<Body> {
        if !visit.is_get() {
            return method_not_allowed();
        }
        let query = visit.query();
        let said = MESSAGES.iter().find(|(text, _)| query.get("m") == Some(text));
        let (message, bad) = said.map_or((None, false), |(text, bad)| (Some(*text), *bad));
        self.home_page(message, bad)
    }

    fn home_page(&self, message: Option<&str>, bad: bool) -> Response<Body> {
        let home = Home { style: STYLE, message, bad, minutes: self.minutes() };
        answer::page(StatusCode::OK, &home)
    }

    /// `/hitme`: mails the review link; the answer is the same whether the address is known.
    pub(super) async fn hit_me(&self, visit: Visit) -> Answer {
        if !visit.is_post() {
            return Ok(self.home_page(None, false));
        }
        let client = Some(visit.client);
        let form = visit.form().await?;
        let email = form.text("email");
        if email.is_empty() {
            let text = "{\"msg\": \"Got a hitme request with no email\"}";
            return Ok(answer::text(StatusCode::BAD_REQUEST, text));
        }
        if self.mail.review_of(email, client).await? == Asked::Off {
            let text = "This server sends no mail. Approve devices from one that is in already.";
            let page = Message::new("No mail here", text, Some(("/", "Back")));
            return Ok(answer::page(StatusCode::OK, &page));
        }
        let text = "If this address has a peerbook, the link is on its way. It may take a minute; \
                    asking again at once sends no second mail.";
        let title = "Please check your inbox for your peerbook link";
        Ok(answer::page(StatusCode::OK, &Message::new(title, text, Some(("/", "Back")))))
    }

    /// `/support`: a mail to the operator, never to the address in the request.
    pub(super) async fn support(&self, visit: Visit) -> Answer {
        #[derive(Deserialize)]
        struct Report {
            #[serde(default)]
            email: String,
            #[serde(default)]
            log: String,
            #[serde(default)]
            description: String,
        }
        if !visit.is_post() {
            return Ok(method_not_allowed());
        }
        let client = Some(visit.client);
        let body = form::read(visit.body, SUPPORT_BYTES).await?;
        let Ok(report) = serde_json::from_slice::<Report>(&body) else {
            return Ok(answer::text(StatusCode::BAD_REQUEST, "Bad JSON"));
        };
        if report.email.is_empty() || report.log.is_empty() {
            return Ok(answer::text(StatusCode::BAD_REQUEST, "Missing email or log"));
        }
        let Report { email, log, description } = report;
        let text = format!("From: {email}\n\n{description}\n\n--- log ---\n{log}\n");
        Ok(match self.mail.support(&email, text, client).await? {
            Asked::Queued => answer::text(StatusCode::CREATED, "Email sent to support"),
            Asked::Throttled(wait) => too_many(wait),
            Asked::NoAddress => answer::text(StatusCode::BAD_REQUEST, "Missing email or log"),
            Asked::Full | Asked::Off => {
                let text = "Support requests are not taken here";
                answer::text(StatusCode::SERVICE_UNAVAILABLE, text)
            }
        })
    }
}

/// As the original's limiter answers.
fn too_many(wait: Duration) -> Response<Body> {
    let text = answer::text(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests");
    let mut response = answer::retry_after(text, wait);
    let headers = response.headers_mut();
    headers.insert("x-ratelimit-limit", 1_u64.into());
    headers.insert("x-ratelimit-remaining", 0_u64.into());
    headers.insert("x-ratelimit-reset", (wait.as_secs() + 1).into());
    response
}
