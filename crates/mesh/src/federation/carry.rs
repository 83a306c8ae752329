//! Posts between nodes: out to homes, in from links, and what is asked for again.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use proto::mesh::link::{Carried, Frame, Post, SINCE_MAX_S, State};
use proto::mesh::{Room, hex, unhex};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::domain::feed::ACKS;
use crate::domain::mesh::{Ack, Arrived, Kept, Link, Sent, Verdict, judge};
use crate::domain::posts::{self, Outcome, Paid};
use crate::store::replica;

/// Posts from other nodes looked at, or waiting for their commit, at once.
const AT_ONCE: usize = 64;
/// How far a post's own time may be off.
const LATE_MS: i64 = 150_000;
const EARLY_MS: i64 = 5_000;
/// Seconds a post that is sent again has to be good for.
const MARGIN_S: u32 = 10;

/// Sends a post of this node's clients to the homes of its room, and keeps it for who asks late.
pub(crate) fn send_out(app: &App, room: &Room, kept: Kept, now_ms: i64) {
    let post = kept.post.clone();
    app.mesh.backlog.lock().add(room, kept);
    count(app, app.mesh.send_out(room, post, now_ms));
}

/// A node is linked: what waited for it.
pub(crate) fn deliver(app: &App, link: &Link) {
    count(app, app.mesh.deliver(link));
}

fn count(app: &App, sent: Sent) {
    app.metrics.frames_out.inc_by(sent.frames);
    app.metrics.overflow.with_label_values(&["link"]).inc_by(sent.dropped);
}

/// Handles one frame from a link; `Break` when its sender is to be banned.
pub(crate) fn receive(app: &Arc<App>, link: &Arc<Link>, frame: Frame) -> ControlFlow<()> {
    match frame {
        Frame::Post(post) => return arrive(app, link, post),
        Frame::Sub { r, since } => return subscribe(app, link, &r, since),
        Frame::Unsub { r } => {
            r.iter().filter_map(|text| Room::parse(text).ok()).for_each(|r| link.unsubscribe(&r));
        }
        Frame::Ack { id, ok, code, n } => {
            let too_cheap = code.as_deref() == Some("pow_too_low");
            let Some(id) = unhex(&id) else { return offend(app, link, "malformed") };
            answered(app, id, Ack { taken: ok, too_cheap, recent: n });
        }
        Frame::Peers { items } => {
            for item in items {
                // What does not fit comes with the next exchange.
                if app.candidates.try_send(item).is_err() {
                    app.metrics.overflow.with_label_values(&["candidates"]).inc();
                }
            }
        }
        Frame::Ping(state) => {
            link.height.store(state.h.into(), Ordering::Relaxed);
            link.send(Bytes::from(Frame::Pong(own_state(app)).encode()));
        }
        Frame::Pong(state) => link.height.store(state.h.into(), Ordering::Relaxed),
        Frame::Hi { .. } | Frame::Auth { .. } | Frame::Ok { .. } => {
            return offend(app, link, "malformed");
        }
    }
    ControlFlow::Continue(())
}

/// What this node tells of itself with every sign of life.
pub(crate) fn own_state(app: &App) -> State {
    let subs = u32::try_from(app.rooms.streams()).unwrap_or(u32::MAX);
    State { h: app.node.height(), subs }
}

/// Counts something no honest node sends.
pub(crate) fn offend(app: &App, link: &Link, reason: &'static str) -> ControlFlow<()> {
    app.metrics.carried_refused.with_label_values(&[reason]).inc();
    let over = link.violated(app.node.clock.now_ms());
    if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

fn subscribe(app: &Arc<App>, link: &Link, rooms: &[String], since: u32) -> ControlFlow<()> {
    let now_ms = app.node.clock.now_ms();
    let since_ms = now_ms - i64::from(since.min(SINCE_MAX_S)) * 1000;
    for text in rooms {
        let Ok(room) = Room::parse(text) else { return offend(app, link, "malformed") };
        if !link.subscribe(room.clone()) {
            return offend(app, link, "rooms");
        }
        if since == 0 || app.denied.contains(&room) {
            continue;
        }
        for post in app.mesh.backlog.lock().since(&room, since_ms) {
            let current =
                post.open().is_ok_and(|post| post.is_current(app.node.now_s() + MARGIN_S));
            if current && post.o != hex(&link.key) {
                let frame = Frame::Post(Post { hop: 2, hs: Vec::new(), ..post });
                let sent = u64::from(link.send_post(Bytes::from(frame.encode())));
                count(app, Sent { frames: sent, dropped: 1 - sent });
            }
        }
    }
    ControlFlow::Continue(())
}

fn arrive(app: &Arc<App>, link: &Arc<Link>, post: Post) -> ControlFlow<()> {
    app.metrics.frames_in.inc();
    link.used(app.node.clock.now_ms());
    if !link.may_post() {
        return offend(app, link, "rate");
    }
    let Ok(carried) = post.open() else { return offend(app, link, "malformed") };
    let recent = app.rooms.of(&carried.room, app.node.clock.now_ms()).0;
    if app.seen.contains(&carried.proof.0) {
        acknowledge(link, &post, &carried, Ok(()), recent);
        return ControlFlow::Continue(());
    }
    let least = app.node.pricing.least;
    let federation = &app.mesh.rules.federation;
    match judge(&carried, &post, federation, (least, recent), app.node.now_s()) {
        Verdict::Bad(reason) => return offend(app, link, reason),
        Verdict::Dear => refuse(app, link, (&post, &carried), "pow_too_low", recent),
        Verdict::Fine if app.denied.contains(&carried.room) => {
            refuse(app, link, (&post, &carried), "room_blocked", recent);
        }
        Verdict::Fine => {
            let arrived = Arrived { carried, post, link: link.clone() };
            if let Some(Arrived { carried, post, link }) = app.mesh.ingress.push(arrived) {
                refuse(app, &link, (&post, &carried), "overloaded", recent);
            }
        }
    }
    ControlFlow::Continue(())
}

fn refuse(
    app: &App,
    link: &Link,
    (post, carried): (&Post, &Carried),
    code: &'static str,
    recent: u32,
) {
    app.metrics.carried_refused.with_label_values(&[code]).inc();
    acknowledge(link, post, carried, Err(code), recent);
}

fn acknowledge(
    link: &Link,
    post: &Post,
    carried: &Carried,
    outcome: Result<(), &'static str>,
    recent: u32,
) {
    if post.hop != 1 {
        return;
    }
    let id = hex(&carried.proof.0);
    let code = outcome.err().map(str::to_owned);
    let ack = Frame::Ack { id, ok: outcome.is_ok(), code, n: recent };
    link.send(Bytes::from(ack.encode()));
}

fn answered(app: &Arc<App>, id: [u8; 32], ack: Ack) {
    if app.mesh.acks.answer(&id, ack) || !app.mesh.acks.take_relayed(&id) {
        return;
    }
    let (pool, told) = (app.pool.clone(), ack.told(&id));
    app.cx.spawn("mesh-ack", async move {
        // Who waits does so for half a second: later tries would be of no use.
        let _ = replica::tell(&pool, ACKS, &told).await;
    });
}

/// Takes posts from other nodes, those with the most work first, for as long as this replica
/// leads.
pub(crate) async fn intake(app: Arc<App>, lead: CancellationToken) {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let work = async {
        loop {
            let Ok(turn) = turns.clone().acquire_owned().await else { return };
            let arrived = app.mesh.ingress.next().await;
            app.metrics.ingress.set(i64::try_from(app.mesh.ingress.len()).unwrap_or(0));
            let app_of_post = app.clone();
            app.cx.spawn("mesh-intake", async move {
                take(&app_of_post, arrived).await;
                drop(turn);
            });
        }
    };
    lead.run_until_cancelled(work).await;
}

async fn take(app: &Arc<App>, Arrived { carried, post, link }: Arrived) {
    if !carried.is_signed(&app.mesh.rules.network) {
        if offend(app, &link, "signature").is_break() {
            super::linker::ban(app, &link).await;
        }
        return;
    }
    let now_ms = app.node.clock.now_ms();
    let (room, id) = (&carried.room, carried.proof.0);
    let recent = |now_ms| app.rooms.of(room, now_ms).0;
    if app.rooms.admits(room, now_ms).is_err() {
        return refuse(app, &link, (&post, &carried), "room_busy", recent(now_ms));
    }
    let at_ms = carried.at_ms.clamp(now_ms - LATE_MS, now_ms + EARLY_MS);
    let event = posts::event(room, carried.proof, &carried.body, at_ms, &carried.origin);
    let serves = app.mesh.interest.lock().serves(room);
    let fresh = if serves {
        let row = posts::Post {
            room: room.bytes().into(),
            at_ms: now_ms,
            event: event.clone(),
            carried: None,
        };
        match app.spend(Paid { hash: id, request: rand::random(), post: Some(row) }).await {
            Ok(outcome) => {
                app.tell_of(outcome);
                true
            }
            Err(crate::error::Error::PowReplayed) => false,
            Err(_) => return refuse(app, &link, (&post, &carried), "overloaded", recent(now_ms)),
        }
    } else {
        app.seen.insert(id, now_ms)
    };
    if fresh {
        app.metrics.carried.inc();
        if app.heard.insert(id, now_ms) {
            let delivered = app.rooms.publish(room, &event, now_ms);
            app.metrics.deliveries.inc_by(u64::try_from(delivered).unwrap_or(0));
        }
        let kept = Kept { id, at_ms: now_ms, post: post.clone(), event, written: serves };
        app.mesh.backlog.lock().add(room, kept);
        if post.hop == 1 {
            count(app, app.mesh.pass_on(room, post.clone(), &link.key));
        }
    }
    acknowledge(&link, &post, &carried, Ok(()), recent(now_ms));
}

/// Puts what came to a room while nobody here listened where those who begin to will find it.
pub(crate) async fn recall(app: &App, room: &Room) {
    let unwritten = app.mesh.backlog.lock().unwritten(room);
    for kept in unwritten {
        let Kept { id, at_ms, event, .. } = kept;
        let post = posts::Post { room: room.bytes().into(), at_ms, event, carried: None };
        let paid = Paid { hash: id, request: rand::random(), post: Some(post) };
        if let Ok(outcome @ Outcome::Posted(_)) = app.write(paid).await {
            app.tell_of(outcome);
        }
    }
}
