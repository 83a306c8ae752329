//! `/pb/T`, `/auth/T` and `/list/T`: who is in the address book, and who may come in.

use edge::Body;
use http::{Response, StatusCode};
use proto::book::encode;
use proto::book::{Dialect, Fingerprint, Name};

use super::answer::{self, STYLE};
use super::form::Form;
use super::front::{ALL_REMOVED, STALE, home_saying};
use super::view::{Message, PeerView, PolicyView, Review};
use super::{Answer, Pages, Refused, Visit, method_not_allowed};
use crate::domain::book::Listed;
use crate::domain::totp::{Place, Verdict};
use crate::domain::{Account, RequireProof};
use crate::error::Error;

const UPDATED: &str = "Your PeerBook was updated";
const WRONG_CODE: &str = "Wrong One Time Password, please try again";
const LOCKED: &str = "Too many wrong codes, please try again later";
const BAD_BUTTON: &str = "Bad button, please try again";
/// Fields of the forms: a peer whose fingerprint is one of these is no tick.
const RESERVED: [&str; 8] =
    ["btn", "deleteOTP", "deleteOption", "form", "otp", "policy", "rmrf", "seen"];

/// What is to become of one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    LetIn,
    Refuse,
    Remove,
    Stay,
}

/// Whose form it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contract {
    /// The page's own: `do:<fp>` says what to do, silence says nothing.
    Ours,
    /// The original's: a ticked fingerprint is in, any other one is out.
    Ticks,
}

impl Contract {
    fn of(form: &Form) -> Self {
        if form.text("form") == "2" { Self::Ours } else { Self::Ticks }
    }

    fn fate(self, form: &Form, listed: &Listed) -> Fate {
        let fp = listed.peer.fp.as_str();
        match self {
            Self::Ours => match form.get(&format!("do:{fp}")) {
                Some("on") => Fate::LetIn,
                Some("off") => Fate::Refuse,
                Some("remove") => Fate::Remove,
                _ => Fate::Stay,
            },
            Self::Ticks if RESERVED.contains(&fp) || fp.starts_with("del-") => Fate::Stay,
            Self::Ticks if form.has(&format!("del-{fp}")) => Fate::Remove,
            Self::Ticks if form.has(fp) => Fate::LetIn,
            Self::Ticks if listed.peer.verified => Fate::Refuse,
            Self::Ticks => Fate::Stay,
        }
    }
}

/// What the page says about the last change.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    text: String,
    bad: bool,
}

impl Said {
    fn good(text: &str) -> Self {
        Self { text: text.to_owned(), bad: false }
    }

    fn bad(text: &str) -> Self {
        Self { text: text.to_owned(), bad: true }
    }
}

impl Pages {
    /// `/auth/T`: as `/pb/T` to look at; bad tokens are told as the original did.
    pub(super) async fn auth(&self, token: &str, visit: &Visit) -> Answer {
        let Some(user) = self.user_of(token).await? else {
            return Ok(answer::text(StatusCode::BAD_REQUEST, "Bad Token"));
        };
        if !visit.is_get() {
            return Ok(method_not_allowed());
        }
        self.show(&user, token, None).await
    }

    /// `/pb/T`
    pub(super) async fn pb(&self, token: &str, visit: Visit) -> Answer {
        let Some(user) = self.user_of(token).await? else { return Ok(home_saying(STALE)) };
        if visit.is_get() {
            let verified = visit.query().text("m") == "One Time Password verified";
            let said = verified.then(|| Said::good("One Time Password verified"));
            return self.show(&user, token, said).await;
        }
        if !visit.is_post() {
            return Ok(method_not_allowed());
        }
        if let Some(refused) = self.foreign(&visit) {
            return Ok(refused);
        }
        let form = visit.form().await?;
        if let Some(why) = unknown_button(&form) {
            return self.show(&user, token, Some(Said::bad(&why))).await;
        }
        let field = if form.text("btn") == "delete" { "deleteOTP" } else { "otp" };
        if let Some(said) = self.demand_code(&user, form.text(field)).await? {
            return self.show(&user, token, Some(said)).await;
        }
        // The token ends before anything is done: of two clicks at once, one counts.
        let Some((_, next)) = self.exchange(token).await? else { return Ok(home_saying(STALE)) };
        match (form.text("btn"), form.text("deleteOption")) {
            ("update", _) => {
                let said = self.update(&user, &form).await?;
                self.show(&user, &next, Some(said)).await
            }
            ("policy", _) => {
                if let Some(policy) = RequireProof::parse(form.text("policy")) {
                    self.book.set_require_proof(&user.uid, policy).await?;
                }
                self.show(&user, &next, Some(Said::good(UPDATED))).await
            }
            ("otp-off", _) => {
                self.codes.remove(&user.uid).await?;
                let said = Said::good("One-time codes are off");
                self.show(&user, &next, Some(said)).await
            }
            (_, "rmUser") => {
                self.book.remove_user(&user.uid).await?;
                Ok(home_saying(ALL_REMOVED))
            }
            _ => {
                self.book.remove_all(&user.uid).await?;
                self.show(&user, &next, Some(Said::good("Your peers were removed"))).await
            }
        }
    }

    /// `/list/T`: the page's data, and its form for scripts.
    pub(super) async fn list(&self, token: &str, visit: Visit) -> Answer {
        let Some(user) = self.user_of(token).await? else {
            return Ok(answer::text(StatusCode::BAD_REQUEST, "{\"m\": \"Bad Token\"}"));
        };
        if visit.is_get() {
            let listed = self.book.list(&user.uid).await?;
            return Ok(answer::json(StatusCode::OK, list_json(&user, &listed)));
        }
        if !visit.is_post() {
            return Ok(answer::text(StatusCode::OK, ""));
        }
        if let Some(refused) = self.foreign(&visit) {
            return Ok(refused);
        }
        let form = visit.form().await?;
        if let Some(said) = self.demand_code(&user, form.text("otp")).await? {
            let link = format!("/auth/{token}");
            let page = Message::new("Code needed", &said.text, Some((&link, "Open the page")));
            return Ok(answer::page(StatusCode::UNAUTHORIZED, &page));
        }
        let Some((_, next)) = self.exchange(token).await? else {
            return Ok(answer::text(StatusCode::BAD_REQUEST, "{\"m\": \"Bad Token\"}"));
        };
        if form.has("rmrf") {
            self.book.remove_user(&user.uid).await?;
            let title = "All your peers and your email were deleted";
            let page = Message::new(title, "Nothing about you is left here.", None);
            return Ok(answer::page(StatusCode::OK, &page));
        }
        let said = self.update(&user, &form).await?;
        let link = format!("/auth/{next}");
        let text = if said.bad { &said.text } else { "Connected devices know already." };
        let page = Message::new("Your changes have been recorded", text, Some((&link, "Back")));
        Ok(answer::page(StatusCode::OK, &page))
    }

    /// Whose address book a token opens.
    async fn user_of(&self, token: &str) -> Result<Option<Account>, Refused> {
        let Some(grant) = self.open(token).await? else { return Ok(None) };
        Ok(self.book.user_by_uid(&grant.uid).await?)
    }

    /// What to say instead of a change when a code is due and this is not it.
    async fn demand_code(&self, user: &Account, code: &str) -> Result<Option<Said>, Refused> {
        Ok(match self.code(&user.uid, Place::Page, code).await? {
            Verdict::Right => None,
            Verdict::NotEnrolled if !self.require_totp => None,
            Verdict::NotEnrolled => Some(Said::bad("Please set up one-time codes first")),
            Verdict::Wrong => Some(Said::bad(WRONG_CODE)),
            Verdict::Locked => Some(Said::bad(LOCKED)),
        })
    }

    /// Does what a form says, peer by peer.
    async fn update(&self, user: &Account, form: &Form) -> Result<Said, Refused> {
        let contract = Contract::of(form);
        let mut said = Said::good(UPDATED);
        // Removals first: they may make the room an approval needs.
        let mut listed = self.book.list(&user.uid).await?;
        listed.sort_by_key(|listed| match contract.fate(form, listed) {
            Fate::Remove | Fate::Refuse => 0,
            Fate::Stay => 1,
            Fate::LetIn => 2,
        });
        for listed in &listed {
            let fate = contract.fate(form, listed);
            match self.settle(user, listed, fate, form).await {
                Ok(()) | Err(Error::UnknownPeer) => {} // gone meanwhile
                Err(Error::Full) => said = Said::bad("User has too many peers"),
                Err(Error::OwnedElsewhere) => {
                    said = Said::bad("Fingerprint is associated to another user");
                }
                Err(why) => return Err(why.into()),
            }
        }
        Ok(said)
    }

    async fn settle(
        &self,
        user: &Account,
        listed: &Listed,
        fate: Fate,
        form: &Form,
    ) -> Result<(), Error> {
        let (uid, peer) = (&user.uid, &listed.peer);
        match fate {
            Fate::Remove => return self.book.remove(uid, &peer.fp).await.map(drop),
            Fate::Refuse if peer.verified || !peer.refused => {
                self.book.revoke(uid, &peer.fp).await?;
            }
            Fate::LetIn if !peer.verified => {
                self.book.approve(uid, &peer.fp).await?;
            }
            Fate::Refuse | Fate::LetIn | Fate::Stay => {}
        }
        if let Some(name) = form.get(&format!("name:{}", peer.fp)) {
            let name = Name::lenient(name);
            if !name.as_str().is_empty() && name.as_str() != peer.name {
                self.book.rename(uid, &peer.fp, name).await?;
            }
        }
        Ok(())
    }

    async fn show(&self, user: &Account, token: &str, said: Option<Said>) -> Answer {
        let enrolled = self.codes.is_enrolled(&user.uid).await?;
        if self.require_totp && !enrolled {
            return Ok(answer::see_other(&format!("/qr/{token}")));
        }
        let user = self.book.user_by_uid(&user.uid).await?.unwrap_or_else(|| user.clone());
        let listed = self.book.list(&user.uid).await?;
        let now_s = self.now_s();
        let some = |which: &dyn Fn(&Listed) -> bool| {
            let chosen = listed.iter().filter(|listed| which(listed));
            chosen.map(|one| PeerView::new(one, &listed, now_s)).collect::<Vec<_>>()
        };
        let review = Review {
            style: STYLE,
            email: &user.email,
            token,
            message: said.as_ref().map(|said| said.text.as_str()),
            bad: said.as_ref().is_some_and(|said| said.bad),
            waiting: some(&|listed| !listed.peer.verified && !listed.peer.refused),
            peers: some(&|listed| listed.peer.verified),
            blocked: some(&|listed| !listed.peer.verified && listed.peer.refused),
            enrolled,
            policies: policies(user.require_proof),
            minutes: self.minutes(),
        };
        Ok(answer::page(StatusCode::OK, &review))
    }

    /// The peer a login link stands for, among its user's.
    pub(super) async fn listed(
        &self,
        uid: &str,
        fp: &str,
    ) -> Result<Option<(Fingerprint, PeerView)>, Refused> {
        let listed = match self.book.list(uid).await {
            Ok(listed) => listed,
            Err(Error::UnknownUser) => return Ok(None),
            Err(why) => return Err(why.into()),
        };
        let found = listed.iter().find(|one| one.peer.fp.as_str() == fp);
        let view = |one: &Listed| PeerView::new(one, &listed, self.now_s());
        Ok(found.map(|one| (one.peer.fp.clone(), view(one))))
    }
}

fn unknown_button(form: &Form) -> Option<String> {
    match form.text("btn") {
        "update" | "otp-off" | "policy" => None,
        "delete" => match form.text("deleteOption") {
            "rmPeers" | "rmUser" => None,
            other => Some(format!("Bad delete option: {}", short(other))),
        },
        _ => Some(BAD_BUTTON.to_owned()),
    }
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

fn policies(chosen: RequireProof) -> Vec<PolicyView> {
    let view = |value, label, policy| PolicyView { value, label, chosen: policy == chosen };
    vec![
        view("none", "Accept devices that cannot prove it", RequireProof::None),
        view("new", "Demand it of devices I let in from now on", RequireProof::New),
        view("all", "Demand it of every device", RequireProof::All),
    ]
}

/// The original's array; `null` when there is nobody.
fn list_json(user: &Account, listed: &[Listed]) -> Vec<u8> {
    if listed.is_empty() {
        return b"null".to_vec();
    }
    let mut out = Vec::with_capacity(listed.len() * 256);
    for (place, one) in listed.iter().enumerate() {
        out.push(if place == 0 { b'[' } else { b',' });
        let peer = encode::Listed {
            fp: one.peer.fp.as_str(),
            name: &one.peer.name,
            kind: &one.peer.kind,
            user: &user.email,
            verified: one.peer.verified,
            online: one.online,
            created_on: one.peer.created_on,
            verified_on: one.peer.verified_on,
            last_seen: one.peer.last_seen,
            properties: &one.peer.properties,
        };
        encode::peer(Dialect::Readme, &user.uid, &peer, &mut out);
    }
    out.push(b']');
    out
}

impl From<Error> for Refused {
    fn from(why: Error) -> Self {
        match why {
            Error::Storage(why) => Self::Storage(why),
            other => Self::Domain(other),
        }
    }
}

/// Answers what the domain refuses where a page has nothing better to say.
pub(super) fn domain_refused(why: &Error) -> Response<Body> {
    match why {
        // Removed in another window.
        Error::UnknownUser | Error::UnknownPeer => home_saying(STALE),
        Error::Full => answer::text(StatusCode::FORBIDDEN, "User has too many peers"),
        Error::OwnedElsewhere => {
            answer::text(StatusCode::CONFLICT, "Fingerprint is associated to another user")
        }
        Error::TooMany { retry_after } => {
            let text = answer::text(StatusCode::TOO_MANY_REQUESTS, "Too Many Requests");
            answer::retry_after(text, *retry_after)
        }
        Error::Storage(_) => answer::text(StatusCode::SERVICE_UNAVAILABLE, "Storage not available"),
    }
}
