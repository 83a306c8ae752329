//! `GET /relay/stream?to=`: envelopes as they arrive, as Server-Sent Events.
//!
//! Every event is `id: <position>`, `event: envelope`, `data: <the envelope's JSON>`. A client that
//! comes back with that id as `Last-Event-ID` (or `after=`) continues behind it. A slow reader
//! holds at most one page here: the next one is read when this one is written.

use std::time::Duration;

use bytes::Bytes;
use edge::Body;
use futures_util::stream;
use http::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use proto::js::Str;
use proto::query::{self, Param};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::Call;
use super::fetch::{authorize, recipient, too_many};
use crate::app::App;
use crate::domain::{Envelopes, Read, ReadFrom};
use crate::error::Error;
use crate::protocol::Position;
use std::sync::Arc;

/// A quiet stream says this often that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Envelopes read at once.
const PAGE: i64 = 50;

/// Milliseconds a client waits before it comes back, told at the start.
const RETRY_MS: u32 = 2_000;

/// Most milliseconds clients are spread over when this process drains.
const DRAIN_SPREAD_MS: u32 = 5_000;

/// Opens a stream.
pub(super) async fn stream(call: Call) -> Result<Response<Body>, Error> {
    let app = call.app.clone();
    let query = call.query();
    let to = recipient(&app, query)?;
    authorize(&app, &call.parts.headers, &to).await?;
    let resumed = call.parts.headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let position = match (resumed, query::get(query, "after")) {
        (Some(id), _) => Position::read(&Str::from(id)),
        (None, Param::One(text)) => Position::read(&text),
        (None, _) => Position::default(),
    };
    let place = app.streams.clone().try_acquire_owned().map_err(|_| too_many())?;
    app.metrics.streams.inc();
    let reader = Reader { to: to.into_owned(), position, state: State::New, _place: place, app };
    let mut response = Response::new(Body::stream(stream::unfold(reader, next)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that buffer answers would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

struct Reader {
    app: Arc<App>,
    to: Str<'static>,
    position: Position,
    state: State,
    _place: OwnedSemaphorePermit,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Open,
    Ended,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.app.metrics.streams.dec();
    }
}

async fn next(mut reader: Reader) -> Option<(Result<Bytes, Error>, Reader)> {
    match reader.state {
        State::Ended => return None,
        State::New => {
            reader.state = State::Open;
            let hello = Bytes::from(format!("retry: {RETRY_MS}\n\n"));
            return Some((Ok(hello), reader));
        }
        State::Open => {}
    }
    let from = ReadFrom::After(reader.position.0);
    let limit = reader.app.rules.limit(PAGE);
    let read = Read { to: &reader.to, from, limit };
    let waiting = reader.app.mailboxes.wait(read, Instant::now() + HEARTBEAT);
    let found = reader.app.stop.draining().run_until_cancelled(waiting).await;
    let chunk = match found {
        None => {
            reader.state = State::Ended;
            Ok(farewell())
        }
        Some(Ok(found)) if found.ends.is_empty() => Ok(Bytes::from_static(b": alive\n\n")),
        Some(Ok(found)) => {
            reader.position = Position(found.last_seq().unwrap_or(reader.position.0));
            Ok(events(&found))
        }
        // The stream is cut; the client comes back where it was.
        Some(Err(why)) => {
            reader.state = State::Ended;
            Err(why)
        }
    };
    Some((chunk, reader))
}

fn events(found: &Envelopes) -> Bytes {
    let mut out = Vec::with_capacity(found.text.len() + 64 * found.ends.len());
    for (text, seq) in found.each() {
        let head = format!("id: {}\nevent: envelope\ndata: ", Position(seq).render());
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(text); // JSON text holds no line breaks
        out.extend_from_slice(b"\n\n");
    }
    out.into()
}

/// Told when this process drains: come back, but not all at once.
fn farewell() -> Bytes {
    let spread = rand::random_range(0..DRAIN_SPREAD_MS);
    Bytes::from(format!("retry: {}\nevent: draining\ndata: {{}}\n\n", RETRY_MS + spread))
}
