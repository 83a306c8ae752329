//! `/iceservers`, first called `/turn`.

use http::StatusCode;

use proto::book::Fingerprint;

use super::{Answer, Pages, Refused, Visit, answer};
use crate::transport::bearer;

impl Pages {
    /// Servers with a credential, for who may have one: everybody when opened; the holder of a
    /// link; a verified peer by its bearer.
    pub(super) async fn ice_servers(&self, visit: &Visit) -> Answer {
        if !visit.is_post() {
            let text = "Only the POST method is supported";
            return Ok(answer::text(StatusCode::BAD_REQUEST, text));
        }
        let Some(user) = self.ice_user(visit).await? else {
            return Ok(answer::text(StatusCode::UNAUTHORIZED, "Unauthorized"));
        };
        Ok(answer::json(StatusCode::OK, self.ice.text(&user)))
    }

    /// Under whose name coturn counts, if anybody's.
    async fn ice_user(&self, visit: &Visit) -> Result<Option<String>, Refused> {
        if let Some(token) = bearer(&visit.parts.headers) {
            if let Some(grant) = self.tokens.find(token).await? {
                return Ok(Some(grant.uid));
            }
            if let Some(fp) = Fingerprint::new(visit.query().text("fp"))
                && let Some(uid) = self.ice.holder(&self.book, &fp, token).await?
            {
                return Ok(Some(uid));
            }
        }
        Ok(self.ice.is_open().then(|| "pb".to_owned()))
    }
}
