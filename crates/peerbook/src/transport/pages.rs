//! The pages of users, and the small HTTP interfaces beside them (spec 3, 4.1, 6).
//!
//! Pages work without script and load nothing. What stands behind a token is never cached, never
//! framed, opened to no other site, and leaks no referrer.

mod answer;
mod enrol;
mod form;
mod front;
mod ice;
mod login;
mod review;
mod verify;
mod view;

use std::sync::Arc;

use edge::{Body, LimitKey};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use hyper::body::Incoming;

use crate::domain::book::Book;
use crate::domain::ice::Ice;
use crate::domain::mail::Mail;
use crate::domain::page_metrics::PageMetrics;
use crate::domain::token::{Grant, Tokens};
use crate::domain::totp::{Authenticators, Place, Verdict};
use form::{BodyError, FORM_BYTES, Form};

/// Everything the pages need.
pub(crate) struct Pages {
    pub(crate) book: Arc<Book>,
    pub(crate) mail: Arc<Mail>,
    pub(crate) tokens: Tokens,
    pub(crate) codes: Authenticators,
    pub(crate) ice: Ice,
    pub(crate) metrics: Arc<PageMetrics>,
    /// Whether a first visit begins with the set-up of codes.
    pub(crate) require_totp: bool,
}

/// Which of the pages a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page<'a> {
    /// `/`
    Home,
    /// `/hitme`: mail me my link.
    HitMe,
    /// `/auth/T`: the review page under its first name.
    Auth(&'a str),
    /// `/pb/T`: the review page.
    Book(&'a str),
    /// `/list/T`: the review page for scripts.
    List(&'a str),
    /// `/qr/T`: set up one-time passwords.
    Enrol(&'a str),
    /// `/verify/T`: let one peer in.
    Verify(&'a str),
    /// `/login`
    Login,
    /// `/support`
    Support,
    /// `/iceservers` and its first name `/turn`.
    Ice,
}

/// One request for a page.
struct Visit {
    method: Method,
    parts: Parts,
    body: Incoming,
    client: LimitKey,
}

impl Visit {
    /// Whether it asks to see the page.
    fn is_get(&self) -> bool {
        self.method == Method::GET || self.method == Method::HEAD
    }

    fn is_post(&self) -> bool {
        self.method == Method::POST
    }

    fn query(&self) -> Form {
        Form::parse(self.parts.uri.query().unwrap_or_default().as_bytes())
    }

    /// The posted form.
    async fn form(self) -> Result<Form, Refused> {
        Ok(Form::parse(&form::read(self.body, FORM_BYTES).await?))
    }
}

/// Why a visit ends without a page.
#[derive(Debug)]
enum Refused {
    /// The body cannot be had.
    Body(BodyError),
    /// The database is away.
    Storage(pg::Error),
    /// The rules say no.
    Domain(crate::error::Error),
}

impl From<BodyError> for Refused {
    fn from(why: BodyError) -> Self {
        Self::Body(why)
    }
}

impl From<pg::Error> for Refused {
    fn from(why: pg::Error) -> Self {
        Self::Storage(why)
    }
}

type Answer = Result<Response<Body>, Refused>;

impl<'a> Page<'a> {
    /// The page at `path`, if it is one.
    pub(crate) fn at(path: &'a str) -> Option<Self> {
        let token = |prefix: &str| path.strip_prefix(prefix);
        match path {
            "/" => Some(Self::Home),
            "/hitme" => Some(Self::HitMe),
            "/login" => Some(Self::Login),
            "/support" => Some(Self::Support),
            "/iceservers" | "/turn" => Some(Self::Ice),
            _ => None
                .or_else(|| token("/auth/").map(Self::Auth))
                .or_else(|| token("/pb/").map(Self::Book))
                .or_else(|| token("/list/").map(Self::List))
                .or_else(|| token("/qr/").map(Self::Enrol))
                .or_else(|| token("/verify/").map(Self::Verify)),
        }
    }
}

impl Pages {
    /// Answers a request for `page`.
    pub(crate) async fn answer(
        &self,
        page: Page<'_>,
        parts: Parts,
        body: Incoming,
        client: LimitKey,
    ) -> Response<Body> {
        let visit = Visit { method: parts.method.clone(), parts, body, client };
        let answered = match page {
            Page::Home => Ok(self.home(&visit)),
            Page::HitMe => self.hit_me(visit).await,
            Page::Auth(token) => self.auth(token, &visit).await,
            Page::Book(token) => self.pb(token, visit).await,
            Page::List(token) => self.list(token, visit).await,
            Page::Enrol(token) => self.enrol(token, visit).await,
            Page::Verify(token) => self.verify(token, &visit).await,
            Page::Login => self.login(visit).await,
            Page::Support => self.support(visit).await,
            Page::Ice => self.ice_servers(&visit).await,
        };
        answered.unwrap_or_else(|why| refused(&why))
    }

    /// What a token of the whole address book opens, counted.
    async fn open(&self, token: &str) -> Result<Option<Grant>, pg::Error> {
        let found = self.tokens.find(token).await?.filter(|grant| grant.fp.is_none());
        let outcome = if found.is_some() { "opened" } else { "stale" };
        self.metrics.links.with_label_values(&[outcome]).inc();
        Ok(found)
    }

    /// Ends a token for a change, counted.
    async fn exchange(&self, token: &str) -> Result<Option<(Grant, String)>, pg::Error> {
        let found = self.tokens.exchange(token).await?;
        let outcome = if found.is_some() { "used" } else { "stale" };
        self.metrics.links.with_label_values(&[outcome]).inc();
        Ok(found)
    }

    /// Judges a code, counted.
    async fn code(&self, uid: &str, place: Place, code: &str) -> Result<Verdict, pg::Error> {
        let verdict = self.codes.check(uid, place, code).await?;
        self.metrics.count_code(verdict);
        Ok(verdict)
    }

    /// Minutes a fresh link works.
    fn minutes(&self) -> u64 {
        (self.tokens.ttl().as_secs() / 60).max(1)
    }

    fn now_s(&self) -> i64 {
        self.book.now()
    }

    /// The answer to a change another site asks for.
    fn foreign(&self, visit: &Visit) -> Option<Response<Body>> {
        form::is_foreign(&visit.parts.headers, self.mail.public_url())
            .then(|| answer::text(StatusCode::FORBIDDEN, "Request from another site refused"))
    }
}

fn method_not_allowed() -> Response<Body> {
    answer::text(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
}

fn refused(why: &Refused) -> Response<Body> {
    match why {
        Refused::Body(BodyError::TooLarge) => {
            answer::text(StatusCode::PAYLOAD_TOO_LARGE, "Request body too large")
        }
        Refused::Body(BodyError::Broken) => answer::text(StatusCode::BAD_REQUEST, "Bad request"),
        Refused::Domain(why) => review::domain_refused(why),
        Refused::Storage(why) => {
            tracing::error!(error = why as &dyn std::error::Error, "page failed in storage");
            let away = answer::text(StatusCode::SERVICE_UNAVAILABLE, "Storage not available");
            answer::retry_after(away, std::time::Duration::from_secs(1))
        }
    }
}
