//! `/room/HASH`: its price, and posts to it.

use std::time::Duration;

use bytes::Bytes;
use edge::Body;
use http::{Response, StatusCode};
use proto::mesh::price::{self, Kind};
use proto::mesh::proof::Proof;
use proto::mesh::{BODY_MAX, Room, hex, identity, link, unhex};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::{Call, Failed, Priced, body, respond};
use crate::domain::mesh::{Ack, Kept, Waiting};
use crate::domain::node::Purchase;
use crate::domain::posts::{self, Paid, Post};
use crate::domain::rooms::Full;
use crate::error::Error;
use crate::federation::carry;

/// How long a client waits for a home to take what nobody heard here.
const HOME_WITHIN: Duration = Duration::from_millis(500);

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
    let event = posts::event(&room, Proof(hash), &sent, now_ms, &app.node.key());
    let carried = app.mesh.is_on().then(|| carried(&call, &room, &sent, hash, now_ms)).flatten();
    let text = carried.as_ref().and_then(|post| serde_json::to_vec(post).ok()).map(Bytes::from);
    let row =
        Post { room: room.bytes().into(), at_ms: now_ms, event: event.clone(), carried: text };
    let waiting = app.mesh.acks.wait(hash);
    let paid = Paid { hash, request: rand::random(), post: Some(row) };
    let outcome = app.spend(paid).await.map_err(failed)?;
    app.heard.insert(hash, now_ms);
    let delivered = app.rooms.publish(&room, &event, now_ms);
    app.tell_of(outcome);
    app.metrics.posts.inc();
    app.metrics.deliveries.inc_by(u64::try_from(delivered).unwrap_or(0));
    let homes = app.mesh.homes(&room, now_ms);
    if let Some(post) = carried
        && app.mesh.leads()
    {
        carry::send_out(
            app,
            &room,
            Kept { id: hash, at_ms: now_ms, post, event, written: true },
            now_ms,
        );
    }
    // What nobody heard here counts when a home of the room has it.
    let served = homes.own || homes.all.is_empty() || app.mesh.interest.lock().serves(&room);
    let acked = match taken(waiting, served).await {
        Ok(acked) => acked + usize::from(homes.own),
        Err(recent) => {
            let priced = Priced { kind: Kind::Post, recent: recent.max(priced.recent) };
            let work = price::work(app.node.height(), Kind::Post, priced.recent);
            let got = Proof(hash).height();
            return Err(priced.mark(Error::PowTooLow { got, need: price::height(work) }));
        }
    };
    let next = app.node.quote(Kind::Post, app.rooms.of(&room, now_ms).0, call.client.ip);
    let value = json!({
        "id": hex(&hash),
        "room": room.to_string(),
        "at": now_ms,
        "delivered": delivered,
        "homes": homes.all.len().max(1),
        "acked": if homes.all.is_empty() { 1 } else { acked },
        "pow": respond::quote(&next),
    });
    Ok(respond::show(StatusCode::ACCEPTED, &value, call.format))
}

/// The post as other nodes get it.
fn carried(
    call: &Call,
    room: &Room,
    body: &[u8],
    hash: [u8; 32],
    now_ms: i64,
) -> Option<link::Post> {
    let payment = call.query.payment();
    let (token, nonce) = (payment.token?, unhex(payment.nonce?)?);
    let node = &call.app.node;
    let signature = node.sign(&identity::post(&call.app.mesh.rules.network, &Proof(hash)));
    let paid = link::Paid { room, token, nonce, body };
    Some(link::Post::new(paid, now_ms, &node.key(), &signature))
}

/// How many homes took a post: those that said so, or, where nobody heard it yet, at least one of
/// them in half a second. When all that answered find it too cheap, the posts they count.
async fn taken(mut waiting: Waiting<'_>, served: bool) -> Result<usize, u32> {
    let (mut acked, mut refused) = (0, None);
    let until = Instant::now() + if served { Duration::ZERO } else { HOME_WITHIN };
    while acked == 0 {
        let Ok(Some(ack)) = timeout_at(until, waiting.answers.recv()).await else { break };
        match ack {
            Ack { taken: true, .. } => acked += 1,
            Ack { too_cheap: true, recent, .. } => refused = refused.max(Some(recent)),
            Ack { .. } => {}
        }
    }
    while let Ok(ack) = waiting.answers.try_recv() {
        acked += usize::from(ack.taken);
    }
    match refused {
        Some(recent) if acked == 0 && !served => Err(recent),
        _ => Ok(acked),
    }
}
