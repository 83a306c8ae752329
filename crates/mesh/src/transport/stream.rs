//! `GET /room/HASH` as Server-Sent Events.

use std::collections::HashSet;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use edge::Body;
use futures_util::FutureExt as _;
use futures_util::future::OptionFuture;
use http::Response;
use http::header::{CONTENT_TYPE, DATE, HeaderValue};
use proto::mesh::price::{self, Kind};
use proto::mesh::{Room, hex, unhex};
use serde_json::json;

use super::{Call, Failed, pump, respond, room};
use crate::domain::posts::{self, From};
use crate::domain::rooms::{Full, Subscription};
use crate::error::Error;
use crate::federation::interest;
use crate::metrics::Metrics;

/// Rooms on one stream besides the first.
const ALSO_MAX: usize = 15;
/// Posts sent again at most.
const REPLAY_MAX: i64 = 1_000;
/// Seconds a fresh listener may ask for.
const SINCE_MAX_S: i32 = 60;
/// Milliseconds a client waits before it comes back.
const RETRY_MS: u32 = 3_000;
/// Share of load beyond which nobody new may listen.
const OVERLOAD: f64 = 0.95;

/// What is given back when a listener goes.
struct Held {
    _subscription: Subscription,
    app: std::sync::Arc<crate::app::App>,
}

impl Held {
    fn metrics(&self) -> &Metrics {
        &self.app.metrics
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.metrics().streams.dec();
    }
}

/// Opens a stream.
pub(super) async fn open(call: Call, text: &str) -> Result<Response<Body>, Failed> {
    let first = room::parse(&call, text)?;
    let mut rooms = vec![first];
    for also in call.query.get("also").into_iter().flat_map(|list| list.split(',')) {
        let room = room::parse(&call, also.trim())?;
        if !rooms.contains(&room) {
            rooms.push(room);
        }
    }
    if rooms.len() > ALSO_MAX + 1 {
        return Err(Error::BadParam("also").into());
    }
    let from = resumes(&call)?;
    let app = call.app.clone();
    let (cpu, mem) = app.node.load();
    if app.stop.draining().is_cancelled() {
        return Err(Error::Draining.into());
    }
    if cpu.max(mem) > OVERLOAD {
        return Err(Error::Overloaded.into());
    }
    let subscribed = app.rooms.subscribe(rooms.clone(), call.client.limit_key());
    let (outbox, subscription) = subscribed.map_err(|full| match full {
        Full::Address => Error::TooManyStreams,
        Full::Room => Error::RoomBusy,
        Full::Node => Error::Overloaded,
    })?;
    app.metrics.streams.inc();
    let held = Held { _subscription: subscription, app: app.clone() };
    // Listening began already: a post may come twice, none is missed.
    let missed = match from {
        Some(from) => {
            interest::recall(&app, &rooms).await;
            let rooms: Vec<&[u8]> = rooms.iter().map(Room::bytes).collect();
            let missed = posts::since(&app.pool, &rooms, from, REPLAY_MAX).await;
            missed.map_err(|_| Error::Storage)?
        }
        None => Vec::new(),
    };
    let hello = hello(&call, &rooms);
    let before = std::iter::once(hello).chain(unique(missed));
    let (body, connection) = Body::raw();
    // Not an async block, which would hold what it begins with for as long as it runs.
    let listening =
        connection.map(move |raw| raw.ok().map(|raw| pump::Pump::new(raw, before, outbox, held)));
    app.cx.spawn("mesh-stream", listening.then(OptionFuture::from).map(drop));
    Ok(head(body, app.node.clock.now_ms()))
}

fn head(body: Body, now_ms: i64) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    let now = UNIX_EPOCH + Duration::from_millis(now_ms.unsigned_abs());
    if let Ok(date) = HeaderValue::try_from(httpdate::fmt_http_date(now)) {
        headers.insert(DATE, date);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Proxies that buffer answers would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Where the client wants to go on: behind an id, or some seconds ago.
fn resumes(call: &Call) -> Result<Option<From>, Error> {
    let header = call.parts.headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let last = header.filter(|id| !id.is_empty()).or_else(|| call.query.get("last"));
    if let Some(id) = last {
        // An id nobody here knows, of any form, stands for all there is.
        return Ok(Some(unhex(id).map_or(From::SecondsAgo(SINCE_MAX_S), From::Last)));
    }
    let since: Option<i32> = call.query.parse("since")?;
    match since {
        None => Ok(None),
        Some(seconds @ 0..=SINCE_MAX_S) => Ok(Some(From::SecondsAgo(seconds))),
        Some(_) => Err(Error::BadParam("since")),
    }
}

fn hello(call: &Call, rooms: &[Room]) -> Bytes {
    let node = &call.app.node;
    let (recent, _) = call.app.rooms.of(&rooms[0], node.clock.now_ms());
    let quote = node.quote(Kind::Post, recent, call.client.ip);
    let value = json!({
        "node": hex(&node.key()[..8]),
        "rooms": rooms.iter().map(Room::to_string).collect::<Vec<_>>(),
        "token": quote.token,
        "height": price::height(quote.work),
        "target": respond::target(quote.work),
        "recent": recent,
        "ip": call.client.ip.to_canonical().to_string(),
    });
    Bytes::from(format!("retry: {RETRY_MS}\nevent: hello\ndata: {value}\n\n"))
}

fn unique(events: Vec<Vec<u8>>) -> impl Iterator<Item = Bytes> {
    let mut seen = HashSet::new();
    events.into_iter().filter(move |event| seen.insert(event.clone())).map(Bytes::from)
}
