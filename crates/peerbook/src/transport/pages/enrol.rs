//! `/qr/T`: one-time passwords are set up.

use edge::Body;
use http::{Response, StatusCode};

use super::answer::{self, STYLE};
use super::front::{ENROLLED_BEFORE, STALE, home_saying};
use super::view::{Enrol, qr, secret};
use super::{Answer, Pages, Visit, method_not_allowed};
use crate::domain::Account;
use crate::domain::totp::{Secret, Verdict};

const WRONG: &str = "One Time Password validation failed, please try again";

impl Pages {
    /// Shows the key; the first right code turns codes on.
    pub(super) async fn enrol(&self, token: &str, visit: Visit) -> Answer {
        let Some(grant) = self.open(token).await? else { return Ok(home_saying(STALE)) };
        let Some(user) = self.book.user_by_uid(&grant.uid).await? else {
            return Ok(home_saying(STALE));
        };
        if !visit.is_get() && !visit.is_post() {
            return Ok(method_not_allowed());
        }
        let Some(offered) = self.codes.offer(&user.uid).await? else {
            return Ok(home_saying(ENROLLED_BEFORE));
        };
        if visit.is_get() {
            return Ok(enrol_page(&user, token, &offered, None));
        }
        if let Some(refused) = self.foreign(&visit) {
            return Ok(refused);
        }
        let form = visit.form().await?;
        let verdict = self.codes.confirm(&user.uid, form.text("otp")).await?;
        self.metrics.count_code(verdict);
        if verdict != Verdict::Right {
            return Ok(enrol_page(&user, token, &offered, Some(WRONG)));
        }
        let Some((_, next)) = self.exchange(token).await? else { return Ok(home_saying(STALE)) };
        Ok(answer::see_other(&format!("/pb/{next}?m=One%20Time%20Password%20verified")))
    }
}

fn enrol_page(
    user: &Account,
    token: &str,
    offered: &Secret,
    message: Option<&str>,
) -> Response<Body> {
    let uri = offered.uri(&user.email);
    let page = Enrol {
        style: STYLE,
        email: &user.email,
        token,
        message,
        qr: qr(&uri),
        uri: &uri,
        secret: secret(&offered.base32()),
    };
    answer::page(StatusCode::OK, &page)
}
