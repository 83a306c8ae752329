//! `/room/HASH`: its price, and posts to it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use edge::Body;
use http::{Response, StatusCode};
use proto::mesh::price::{self, Kind};
use proto::mesh::proof::Proof;
use proto::mesh::{BODY_MAX, Room, hex};
use serde_json::{Value, json};

use super::{Call, Failed, Priced, body, respond};
use crate::domain::node::Purchase;
use crate::domain::posts::{Paid, Post};
use crate::domain::rooms::Full;
use crate::error::Error;

/// The room a path names, when it is one this node serves.
pub(super) fn parse(call: &Call, text: &str) -> Result<Room, Error> {
    let room = Room::parse(text).map_err(|_| Error::BadRoom)?;
    if call.app.denied.contains(&room) { Err(Error::RoomBlocked) } else { Ok(room) }
}

/// `GET /room/HASH` as JSON or a page: what a post costs now.
pub(super) fn describe(call: &Call, text: &str) -> Result<Response<Body>, Failed> {
    let room = parse(call, text)?;
    let node = &call.app.node;
    let (recent, subscribers) = call.app.rooms.of(&room, node.clock.now_ms());
    let quote = node.quote(Kind::Post, recent, call.client.ip);
    let value = json!({
        "room": room.to_string(),
        "token": quote.token,
        "height": price::height(quote.work),
        "target": respond::target(quote.work),
        "work": quote.work,
        "recent": recent,
        "subscribers": subscribers,
    });
    Ok(respond::show(StatusCode::OK, &value, call.format))
}

/// `POST /room/HASH`: everybody who listens hears it.
pub(super) async fn post(mut call: Call, text: &str) -> Result<Response<Body>, Failed> {
    let sent = body::read(&call.parts.headers, &mut call.body, BODY_MAX).await?;
    let app = &call.app;
    let spent = app.posts.check(&call.client.limit_key(), 1);
    spent.map_err(Error::RateLimited)?;
    let room = parse(&call, text)?;
    let now_ms = app.node.clock.now_ms();
    let priced = Priced { kind: Kind::Post, recent: app.rooms.of(&room, now_ms).0 };
    let failed = |error| priced.mark(error);
    let path = format!("/room/{room}");
    let purchase = Purchase {
        path: &path,
        body: &[&sent],
        method: "POST",
        kind: Kind::Post,
        recent: priced.recent,
    };
    let hash = app.node.check(call.query.payment(), purchase, call.client.ip).map_err(failed)?;
    app.rooms.admits(&room, now_ms).map_err(|full| match full {
        Full::Node => failed(Error::Overloaded),
        Full::Room | Full::Address => failed(Error::RoomBusy),
    })?;
    let event = event(&call, &room, Proof(hash), &sent, now_ms);
    let post = Post { room: room.bytes().into(), at_ms: now_ms, event: event.clone() };
    let paid = Paid { hash, request: rand::random(), post: Some(post) };
    app.spend(paid).await.map_err(failed)?;
    let delivered = app.rooms.publish(&room, &event, now_ms);
    app.metrics.posts.inc();
    app.metrics.deliveries.inc_by(u64::try_from(delivered).unwrap_or(0));
    let next = app.node.quote(Kind::Post, app.rooms.of(&room, now_ms).0, call.client.ip);
    let value = json!({
        "id": hex(&hash),
        "room": room.to_string(),
        "at": now_ms,
        "delivered": delivered,
        // This node alone: it is every room's home.
        "homes": 1,
        "acked": 1,
        "pow": respond::quote(&next),
    });
    Ok(respond::show(StatusCode::ACCEPTED, &value, call.format))
}

/// A post as subscribers get it: written once, shared by all.
fn event(call: &Call, room: &Room, proof: Proof, sent: &[u8], now_ms: i64) -> Bytes {
    let id = hex(&proof.0);
    let mut value = json!({
        "id": id,
        "room": room.to_string(),
        "at": now_ms,
        "origin": hex(&call.app.node.key()[..8]),
        "work": proof.height(),
    });
    match str::from_utf8(sent) {
        Ok(text) => value["body"] = Value::from(text),
        Err(_) => value["b64"] = Value::from(STANDARD.encode(sent)),
    }
    // JSON text holds no line breaks.
    Bytes::from(format!("id: {id}\ndata: {value}\n\n"))
}
