//! Pads at other processes, over one connection for each request and the link that comes of it.
//!
//! A connection per pair, and not one for all: the far receiver's window is then the near sender's,
//! nothing waits behind another pair's payload, and a process that dies takes along exactly what it
//! had.

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use bytes::Bytes;
use edge::ws::Ended;
use packets::{Client, Close, Line, Packet, Sibling, Wire};
use tokio::{sync::oneshot, time::timeout};

use super::Shared;
use crate::{
    domain::{
        desk::{Desk, Elsewhere},
        event::Name,
        pads::{Namespace, PadKey},
        seat::Seat,
    },
    protocol::{
        Way, namespace,
        sibling::{self, Heard},
    },
};

/// How long another process may take to put a request to its client.
const ASK: Duration = Duration::from_secs(2);

/// Has the process that has the pad put a client's request to its owner, then stands for that pad
/// here. Returns when the client has been told what became of it so far.
pub(super) async fn ask(
    shared: &Arc<Shared>,
    seat: &Arc<Seat<Way>>,
    id: u32,
    Elsewhere { sibling, key, requester }: Elsewhere,
    secret: Bytes,
) {
    let desk = &shared.desk;
    let wire = match key.namespace {
        Namespace::WebSocket => Wire::WebSocket,
        Namespace::Encrypted => Wire::Encrypted,
    };
    let called = shared.siblings.dial(&sibling.address, wire, &desk.node()).await;
    let called = called.inspect_err(|why| tracing::debug!(%why, "a sibling does not answer"));
    let Ok(connection) = called else { return desk.refuse(seat, id) };
    let line = connection.line().clone();
    if !sibling::ask(&line, &requester, &key.name, &secret) {
        return desk.refuse(seat, id);
    }
    let (asked, outcome) = oneshot::channel();
    let theirs = desk.open_sibling(key, Way::Sibling(line.clone()), sibling.node);
    let request = Some(Pending { seat: seat.clone(), id, secret, asked });
    connection.run(Asked { desk: desk.clone(), seat: theirs, requester, request });
    let mut outcome = Box::pin(outcome);
    if !matches!(timeout(ASK, &mut outcome).await, Ok(Ok(()))) {
        outcome.close();
        // What was said at the last moment counts.
        if outcome.try_recv().is_err() {
            line.kill();
            desk.refuse(seat, id);
        }
    }
}

/// What to do on a connection that another process has called us on.
pub(crate) fn greet(desk: &Arc<Desk<Way>>) -> impl Fn(&Sibling) -> Asking + Clone + use<> {
    let desk = desk.clone();
    move |sibling| Asking {
        desk: desk.clone(),
        namespace: namespace(sibling.line().wire()),
        line: sibling.line().clone(),
        node: *sibling.node(),
        seat: None,
    }
}

/// A request that the other process has not put to its client yet.
struct Pending {
    seat: Arc<Seat<Way>>,
    id: u32,
    secret: Bytes,
    /// Told when it has, or dropped.
    asked: oneshot::Sender<()>,
}

/// The process whose pad is asked for.
struct Asked {
    desk: Arc<Desk<Way>>,
    /// Stands for the pad asked for.
    seat: Arc<Seat<Way>>,
    requester: Name,
    request: Option<Pending>,
}

impl Client for Asked {
    async fn packet(&mut self, packet: Packet, _: &Line) -> ControlFlow<Close> {
        match sibling::heard(&packet) {
            Heard::Payload => {
                let bytes = packet.body().len();
                // What comes when the link is over already is for nobody.
                self.desk.pass(&self.seat, packet, bytes).await;
                ControlFlow::Continue(())
            }
            Heard::Asked => {
                let Some(Pending { seat, id, secret, asked }) = self.request.take() else {
                    return out_of_turn();
                };
                if asked.send(()).is_err() {
                    return over(); // the client did not wait for it
                }
                self.desk.asked_elsewhere(&seat, id, &self.seat, secret);
                ControlFlow::Continue(())
            }
            Heard::Verdict { ok, by } => {
                self.desk.answer(&self.seat, by, &self.requester, ok);
                if ok { ControlFlow::Continue(()) } else { over() }
            }
            Heard::Unlinked => {
                self.desk.unlink(&self.seat, 0);
                over()
            }
            Heard::Name(_) | Heard::Link { .. } | Heard::Wrong => out_of_turn(),
        }
    }

    async fn gone(&mut self, _: Ended) {
        self.desk.gone(&self.seat);
    }
}

/// The process whose pad asks.
pub(crate) struct Asking {
    desk: Arc<Desk<Way>>,
    namespace: Namespace,
    line: Line,
    node: [u8; packets::NODE_BYTES],
    /// Stands for the pad that asks, once its name is known.
    seat: Option<Arc<Seat<Way>>>,
}

impl Client for Asking {
    async fn packet(&mut self, packet: Packet, _: &Line) -> ControlFlow<Close> {
        match (sibling::heard(&packet), &self.seat) {
            (Heard::Payload, Some(seat)) => {
                let bytes = packet.body().len();
                self.desk.pass(seat, packet, bytes).await;
            }
            (Heard::Name(name), None) => {
                let key = PadKey { namespace: self.namespace, name: name.into() };
                let line = Way::Sibling(self.line.clone());
                self.seat = Some(self.desk.open_sibling(key, line, self.node));
            }
            (Heard::Link { requestee, secret }, Some(seat)) => {
                let secret = Bytes::copy_from_slice(secret);
                self.desk.link_here(seat, 0, requestee.into(), secret);
            }
            (Heard::Unlinked, Some(seat)) => {
                self.desk.unlink(seat, 0);
                return over();
            }
            _ => return out_of_turn(),
        }
        ControlFlow::Continue(())
    }

    async fn gone(&mut self, _: Ended) {
        if let Some(seat) = &self.seat {
            self.desk.gone(seat);
        }
    }
}

fn over() -> ControlFlow<Close> {
    ControlFlow::Break(Close::new(1000, "over"))
}

fn out_of_turn() -> ControlFlow<Close> {
    ControlFlow::Break(Close::new(1002, "out of turn"))
}
