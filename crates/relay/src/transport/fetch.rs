//! `GET /relay/fetch`: what waits for a recipient (spec 2.8), by id as the original has it, or by
//! position (`after=`), which may wait for something to come (`wait=`).

use std::time::Duration;

use edge::Body;
use http::header::{AUTHORIZATION, CACHE_CONTROL, HeaderValue};
use http::{HeaderMap, Response};
use proto::js::{self, Str};
use proto::query::{self, Param};
use proto::relay::{Proof, Refusal, SignatureText, page_close};
use tokio::time::Instant;

use super::{Call, respond};
use crate::app::App;
use crate::domain::{Envelopes, Read, ReadFrom};
use crate::error::Error;
use crate::protocol::Position;

/// Longest a fetch waits, in seconds.
const WAIT_MAX_S: i64 = 30;

/// Scheme of the `Authorization` header of a signed fetch.
const SCHEME: &str = "PeerLink-Ed25519 ";

/// Answers with a page of the mailbox and removes nothing.
pub(super) async fn fetch(call: Call) -> Result<Response<Body>, Error> {
    let app = &call.app;
    let query = call.query();
    let to = recipient(app, query)?;
    authorize(app, &call.parts.headers, &to).await?;
    let limit = match query::get(query, "limit") {
        Param::One(text) => js::parse_int_limit(&text),
        _ => js::parse_int_limit(&Str::from("")),
    };
    let limit = app.rules.limit(limit);
    let wait = wait_for(query);
    let position = match query::get(query, "after") {
        Param::One(text) => Some(Position::read(&text)),
        _ => wait.map(|_| Position::default()),
    };
    let cursor = match query::get(query, "cursor") {
        Param::One(text) => Some(text),
        _ => None,
    };
    if let Some(position) = position {
        let read = Read { to: &to, from: ReadFrom::After(position.0), limit };
        let found = by_position(app, read, wait).await?;
        let next = Position(found.last_seq().unwrap_or(position.0)).render();
        return Ok(page(&found, cursor.as_ref(), Some(&next)));
    }
    let from = match &cursor {
        Some(id) if !id.is_empty() => ReadFrom::Id(id),
        _ => ReadFrom::Oldest,
    };
    let found = app.mailboxes.read(Read { to: &to, from, limit }).await?;
    Ok(page(&found, cursor.as_ref(), None))
}

/// The mailbox a query names.
pub(super) fn recipient<'q>(app: &App, query: &'q str) -> Result<Str<'q>, Error> {
    let Param::One(to) = query::get(query, "to") else {
        return Err(Refusal::Missing("to").into());
    };
    app.rules.peer(&to, "invalid to")?;
    Ok(to)
}

/// Where fetches have to be signed: `Authorization: PeerLink-Ed25519 key=…,ts=…,sig=…`, the
/// signature over `fetch|to|ts` by the key that owns the mailbox.
pub(super) async fn authorize(app: &App, headers: &HeaderMap, to: &Str<'_>) -> Result<(), Error> {
    if !app.rules.signed_fetch {
        return Ok(());
    }
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let pairs = header.and_then(|text| text.strip_prefix(SCHEME)).ok_or(Error::Unauthenticated)?;
    let value = |name: &str| {
        let mut pairs = pairs.split(',').filter_map(|pair| pair.trim().split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value).ok_or(Error::Unauthenticated)
    };
    let (key, ts, sig) = (Str::from(value("key")?), value("ts")?, Str::from(value("sig")?));
    let ts: f64 = ts.parse().map_err(|_| Error::Unauthenticated)?;
    app.rules.read_skew(ts, app.clock.now_ms())?;
    let signed = SignatureText::new().text(&Str::from("fetch")).text(to).number(ts).finish();
    let key = app.proofs.verify(Some(Proof { signature: &sig, key: &key }), &[&signed])?;
    app.proofs.claim(to, &key).await
}

async fn by_position(
    app: &App,
    read: Read<'_>,
    wait: Option<Duration>,
) -> Result<Envelopes, Error> {
    let Some(wait) = wait else { return app.mailboxes.read(read).await };
    let _place = app.streams.try_acquire().map_err(|_| too_many())?;
    app.metrics.waiting.inc();
    let waiting = app.mailboxes.wait(read, Instant::now() + wait);
    let found = app.stop.draining().run_until_cancelled(waiting).await;
    app.metrics.waiting.dec();
    found.unwrap_or_else(|| Ok(Envelopes::default()))
}

/// The refusal of a stream or long poll when this process serves as many as it may.
pub(super) fn too_many() -> Error {
    Error::TooMany { what: "too many readers", retry_after: Duration::from_secs(5) }
}

/// `wait=` seconds, 0 to [`WAIT_MAX_S`].
fn wait_for(query: &str) -> Option<Duration> {
    let Param::One(text) = query::get(query, "wait") else { return None };
    let seconds: i64 = text.as_str()?.parse().ok()?;
    Some(Duration::from_secs(seconds.clamp(0, WAIT_MAX_S).unsigned_abs()))
}

fn page(found: &Envelopes, cursor: Option<&Str<'_>>, next: Option<&str>) -> Response<Body> {
    const OPEN: &[u8] = b"{\"messages\":[";
    let last = found.last_id.as_deref().map(Str::from_wtf8);
    let close = page_close(last.as_ref().or(cursor), next);
    let mut text = Vec::with_capacity(OPEN.len() + found.text.len() + close.len());
    text.extend_from_slice(OPEN);
    text.extend_from_slice(&found.text);
    text.extend_from_slice(&close);
    let mut response = respond::json(text);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
