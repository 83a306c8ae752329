//! `GET /ws`: the handshake, and a pump for each socket.

use std::{ops::ControlFlow, sync::Arc};

use edge::{
    Body, Client,
    ws::{self as edge_ws, Close, Ended, Message},
};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use proto::{
    book::{Dialect, Email, Fingerprint, Label, Name},
    query::{self, Param},
};

use super::{App, bearer, respond};
use crate::{
    domain::{
        Introduction,
        book::{Ask, Hello},
        line::Line,
        properties,
    },
    protocol::Conversation,
};

/// Names of the query with a meaning of their own; the others are the app's.
const OURS: [&str; 8] = ["fp", "fingerprint", "email", "user", "uid", "name", "kind", "token"];
/// Pairs of a query that are looked at.
const MOST_PAIRS: usize = 64;

/// `GET /ws`
pub(super) async fn open(
    app: &Arc<App>,
    request: Request<Incoming>,
    client: Client,
) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let bad = |text: &str| respond::text(StatusCode::BAD_REQUEST, text);
    let (fp, dialect) = match (one(&query, "fp"), one(&query, "fingerprint")) {
        (Some(fp), Some(other)) if fp != other => return bad("Two fingerprints"),
        (_, Some(fp)) => (fp, Dialect::Plan),
        (Some(fp), None) => (fp, Dialect::Readme),
        (None, None) => return bad("Peer not found: "),
    };
    let Some(fp) = Fingerprint::new(&fp) else { return bad("Peer not found: ") };
    let bearer = bearer(request.headers()).map(str::to_owned);
    let (answer, upgrading) = match edge_ws::upgrade(request) {
        Ok(accepted) => accepted,
        Err(refusal) => return refusal,
    };
    let hello = Hello {
        ask: Ask {
            who: introduction(&query, fp),
            uid: one(&query, "uid"),
            email: one(&query, "email").or(one(&query, "user")).and_then(|text| Email::new(&text)),
            address: client.limit_key(),
        },
        dialect,
        token: one(&query, "token").or(bearer),
        certificate: client.certificate,
        by_dtls: false,
    };
    let (fp, address) = (hello.ask.who.fp.clone(), hello.ask.address);
    let mut admission = match app.book.admit(hello).await {
        Ok(admission) => admission,
        Err(why) => return respond::error(&why),
    };
    if let Some(account) = admission.mail.take() {
        let wrote = match app.mail.review(&account, Some(address)).await {
            Ok(()) => app.book.note_mailed(&account.uid, &fp).await,
            failed => failed,
        };
        if let Err(why) = wrote {
            tracing::warn!(%why, "user not written to");
        }
    }
    let (book, limiter) = (app.book.clone(), app.limiter.clone());
    let session =
        move |line| Session(Conversation::open(book, limiter, admission, Line::Socket(line)));
    app.cx.spawn("socket", upgrading.pump(app.limits.clone(), session, &app.cx));
    answer
}

fn introduction(text: &str, fp: Fingerprint) -> Introduction {
    let pairs = text.split('&').take(MOST_PAIRS).filter_map(|pair| {
        let raw = pair.split('=').next()?;
        (!raw.is_empty() && !OURS.contains(&raw) && raw.bytes().all(is_plain)).then_some(raw)
    });
    let mut pairs = pairs.filter_map(|name| Some((name.to_owned(), one(text, name)?))).peekable();
    let extra = pairs.peek().is_some().then(|| properties::from_pairs(pairs)).flatten();
    Introduction {
        fp,
        name: one(text, "name").as_deref().map(Name::lenient),
        kind: one(text, "kind").as_deref().map(Label::lenient),
        properties: extra,
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// The first value of a name, if it has one.
fn one(text: &str, name: &str) -> Option<String> {
    let value = match query::get(text, name) {
        Param::One(value) => value,
        Param::Repeated(values) => values.into_iter().next()?,
        Param::Missing => return None,
    };
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

struct Session(Conversation);

impl edge_ws::Session for Session {
    async fn message(&mut self, message: Message) -> ControlFlow<Close> {
        self.0.hear(&message.into_bytes()).await
    }

    async fn ended(&mut self, _: Ended) {
        self.0.end();
    }
}
