//! Drives one connection from its handshake to its end, in one task.

use std::{
    future::poll_fn,
    ops::ControlFlow,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use edge::{
    Client as Peer, Stream,
    ws::{Close, Ended},
};
use proto::pad::{kind, tcp};
use service::Context;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    Client, Id, Identity, Line, Opened, Packet, Service, Wire,
    conn::{Conn, Next, Over},
    gate::{Refused, Verdict},
    serve::Common,
    sockets::Place,
    wire::Codec,
};

/// One connection's way from unknown to activated.
pub(crate) struct Session<C> {
    /// What makes a client of it, when it has activated itself.
    admit: Option<Admit<C>>,
    common: Arc<Common>,
    peer: Peer,
    line: Line,
    client: Option<C>,
    /// Refused activations.
    refused: u32,
}

/// Boxed: it is empty for as long as an active session lives.
type Admit<C> = Box<dyn FnOnce(Opened) -> C + Send>;

/// Runs one connection until either side closes, breaks or falls silent.
///
/// Reading stops while a packet is handled; writing and deadlines go on. When the process
/// drains, the connection is closed at a random moment in the first half of the grace.
pub(crate) fn pump<C: Client>(
    stream: Stream,
    codec: Codec,
    mut session: Session<C>,
    cx: &Context,
) -> impl Future<Output = ()> + use<C> {
    let place = Place::enter(&session.common, session.line.shared());
    let mut conn = Conn::new(stream, codec, session.line.shared().clone(), cx.stop.clone());
    if session.client.is_some() {
        conn.activated();
    }
    // Not an async fn: that would keep room for each argument beside what is made of it.
    async move {
        let mut timer = pin!(sleep_until(conn.next_deadline()));
        let over = converse(&mut conn, &mut session, timer.as_mut()).await;
        part(&mut conn, &mut session, timer.as_mut(), over).await;
        drop(place);
    }
}

/// Hands packets to the session until it is over.
async fn converse<C: Client>(
    conn: &mut Conn,
    session: &mut Session<C>,
    mut timer: Pin<&mut Sleep>,
) -> Over {
    loop {
        let packet = match poll_fn(|task| conn.poll_next(timer.as_mut(), task)).await {
            Next::Packet(packet) => packet,
            Next::Malformed => {
                let _ = session.line.control(kind::ERROR, Id::Of(0), b""); // closed is closed
                continue;
            }
            Next::End(over) => return over,
        };
        if packet.kind == kind::ACTIVATE {
            if let Err(over) = activate(conn, session, &packet, timer.as_mut()).await {
                return over;
            }
            continue;
        }
        let Some(client) = &mut session.client else {
            session.refuse(&packet);
            continue;
        };
        let mut handling = pin!(client.packet(packet, &session.line));
        let handled = poll_fn(|task| match handling.as_mut().poll(task) {
            Poll::Ready(flow) => Poll::Ready(Ok(flow)),
            Poll::Pending => conn.poll_meanwhile(timer.as_mut(), task).map(Err),
        });
        match handled.await {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(close)) => return Over::by_us(&close),
            Err(over) => return over,
        }
    }
}

/// Answers an activation. The session's later packets wait in the socket until then.
async fn activate<C: Client>(
    conn: &mut Conn,
    session: &mut Session<C>,
    packet: &Packet,
    mut timer: Pin<&mut Sleep>,
) -> Result<(), Over> {
    let verdict = match session.verdict(packet) {
        Verdict::Now(verdict) => verdict,
        Verdict::Later(mut asking) => {
            poll_fn(|task| match asking.as_mut().poll(task) {
                Poll::Ready(verdict) => Poll::Ready(Ok(verdict)),
                Poll::Pending => conn.poll_meanwhile(timer.as_mut(), task).map(Err),
            })
            .await?
        }
    };
    if verdict.is_ok() {
        conn.activated();
    }
    session.conclude(packet.id, verdict)
}

impl<C: Client> Session<C> {
    /// Of a client of `service`, which has to activate itself.
    pub(crate) fn new<S: Service<Client = C>>(
        service: S,
        wire: Wire,
        peer: Peer,
        common: Arc<Common>,
    ) -> Self {
        let line = Line::new(wire, common.limits.clone(), common.metrics.clone());
        let admit: Admit<C> = Box::new(move |opened| service.connect(opened));
        Self { admit: Some(admit), common, peer, line, client: None, refused: 0 }
    }

    /// Of somebody who has proved already who it is.
    pub(crate) fn active(client: C, peer: Peer, line: Line, common: Arc<Common>) -> Self {
        Self { admit: None, common, peer, line, client: Some(client), refused: 0 }
    }

    /// Answers a packet that came before the session was active.
    fn refuse(&self, packet: &Packet) {
        if self.line.wire() == Wire::WebSocket || packet.kind != kind::ERROR {
            let _ = self.line.control(kind::ERROR, Id::Of(packet.id), b""); // closed is closed
        }
    }

    fn verdict(&self, packet: &Packet) -> Verdict {
        let certificate = match self.line.wire() {
            Wire::WebSocket => Ok(packet.body()),
            Wire::Encrypted => tcp::string(packet.body()),
        };
        match certificate {
            Ok(certificate) => self.common.gate.begin(certificate),
            Err(_) => Verdict::Now(Err(Refused)),
        }
    }

    fn conclude(
        &mut self,
        id: u32,
        verdict: Result<Option<Identity>, Refused>,
    ) -> Result<(), Over> {
        let answer = if verdict.is_ok() { kind::SUCCESS } else { kind::ERROR };
        let _ = self.line.control(answer, Id::Of(id), b""); // closed is closed
        match verdict {
            Ok(identity) => {
                if let Some(admit) = self.admit.take() {
                    let (peer, line) = (self.peer, self.line.clone());
                    self.client = Some(admit(Opened { wire: line.wire(), peer, line, identity }));
                }
            }
            Err(Refused) => {
                self.refused += 1;
                if self.refused >= self.common.limits.activation_tries {
                    self.common.metrics.tries_exceeded.inc();
                    return Err(Over::by_us(&Close::new(1008, "too many tries")));
                }
            }
        }
        Ok(())
    }
}

/// Tells the service and the client that it is over, both at once.
async fn part<C: Client>(
    conn: &mut Conn,
    session: &mut Session<C>,
    mut timer: Pin<&mut Sleep>,
    Over { how, farewell }: Over,
) {
    let mut answered = matches!(how, Ended::ByPeer(_));
    let mut closing = conn.begin_closing(farewell);
    timer.as_mut().reset(Instant::now() + session.common.limits.close_timeout);
    if let Some(client) = &mut session.client {
        let mut going = pin!(client.gone(how));
        poll_fn(|task| {
            closing = closing && conn.poll_closing(&mut answered, task).is_pending();
            going.as_mut().poll(task)
        })
        .await;
    }
    poll_fn(|task| {
        if !closing || conn.poll_closing(&mut answered, task).is_ready() {
            return Poll::Ready(());
        }
        timer.as_mut().poll(task)
    })
    .await;
}
