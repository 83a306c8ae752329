//! Messages to requests, requests to the desk, refusals to error frames.

use std::{borrow::Cow, ops::ControlFlow, sync::Arc};

use edge::{
    LimitKey,
    meter::{Exceeded, Meter},
    ws::{Close, Frame, Outbox},
};
use proto::signal::{
    Code, Kind, Refusal, Register, Request, RequestId, Signal, Subscription, encode,
};

use crate::domain::{
    desk::{Applicant, Desk, rate_limited, tell},
    seat::Seat,
};

/// Ids one socket may register under the open policy, which lets it change them.
const MAX_SEATS: usize = 16;

/// What came of a request that is in order.
enum Answer<'a> {
    Given,
    /// Nothing here knows the signal's peer.
    Unreached(Signal<'a>),
}

/// One socket's conversation.
pub(crate) struct Conversation {
    desk: Arc<Desk>,
    line: Outbox,
    socket: u64,
    meter: Meter,
    /// What the socket holds, the identity it goes by last.
    seats: Vec<Arc<Seat<Outbox>>>,
}

impl Conversation {
    pub(crate) fn open(desk: Arc<Desk>, line: Outbox, address: LimitKey) -> Self {
        let socket = desk.open(&line);
        Self { desk, line, socket, meter: Meter::new(address), seats: Vec::new() }
    }

    /// Handles one message, text or binary alike.
    pub(crate) async fn hear(&mut self, message: &[u8], is_text: bool) -> ControlFlow<Close> {
        if self.seats.last().is_some_and(|seat| !seat.is_live()) {
            // Replaced: mute at once, although the close handshake may take its time.
            return ControlFlow::Continue(());
        }
        match self.meter.spend(&self.desk.limiter, message.len()) {
            Ok(()) => {}
            Err(Exceeded::RetryIn(wait)) => {
                // Not even parsed, so the frame's own id is not known.
                self.refuse(&RequestId::default(), &rate_limited(wait));
                return ControlFlow::Continue(());
            }
            Err(Exceeded::OutOfPatience) => {
                return ControlFlow::Break(Close::new(1008, "too many frames"));
            }
        }
        if self.answer_at_once(&read_as_text(message, is_text)).is_none() {
            // Rare, and large: in a box of its own it costs an idle socket nothing.
            Box::pin(self.answer_later(message, is_text)).await;
        }
        ControlFlow::Continue(())
    }

    /// Answers what needs no waiting; `None` for what does, which is then as if unread.
    fn answer_at_once(&self, text: &[u8]) -> Option<()> {
        let request = match Request::read(text, &self.desk.rules) {
            Ok(request) => request,
            Err((id, refusal)) => {
                self.refuse(&id, &refusal);
                return Some(());
            }
        };
        let answered = match (request.kind, self.seats.last()) {
            (Kind::Register, _) | (Kind::PeersRequest, Some(_)) => return None,
            (Kind::PresenceSubscribe, Some(_)) if self.desk.can_look() => return None,
            (kind, None) => kind.unregistered().map_or(Ok(()), Err),
            (kind, Some(seat)) => match self.answer(kind, &request, seat) {
                Ok(Answer::Given) => Ok(()),
                Ok(Answer::Unreached(_)) if self.desk.can_look() => return None,
                Ok(Answer::Unreached(signal)) => Err(self.desk.not_found(&signal)),
                Err(refusal) => Err(refusal),
            },
        };
        if let Err(refusal) = answered {
            self.refuse(&request.id, &refusal);
        }
        Some(())
    }

    fn answer<'a>(
        &self,
        kind: Kind,
        request: &'a Request<'_>,
        seat: &Seat<Outbox>,
    ) -> Result<Answer<'a>, Refusal> {
        let desk = &self.desk;
        match kind {
            Kind::Register | Kind::PeersRequest => {}
            Kind::Signal => {
                let signal = Signal::read(request, &desk.rules, &seat.peer)?;
                if !desk.forward(&signal, seat, &request.id) {
                    return Ok(Answer::Unreached(signal));
                }
            }
            Kind::Ping => tell(&self.line, &Frame::text(encode::pong(&seat.peer))),
            Kind::PresenceSubscribe => {
                let wish = Subscription::read(request, &desk.rules, desk.max_subscribed)?;
                desk.subscribe(seat, wish);
            }
        }
        Ok(Answer::Given)
    }

    /// Answers what has to wait, whose envelope has been found in order.
    async fn answer_later(&mut self, message: &[u8], is_text: bool) {
        let text = read_as_text(message, is_text);
        let rules = self.desk.rules;
        let Ok(request) = Request::read(&text, &rules) else { return };
        let answered = match request.kind {
            Kind::Register => self.register(&request).await,
            Kind::PeersRequest => {
                tell(&self.line, &self.desk.peers().await);
                Ok(())
            }
            kind => self.answer_with_look(kind, &request).await,
        };
        if let Err(refusal) = answered {
            self.refuse(&request.id, &refusal);
        }
    }

    /// Answers what is about peers that may have registered elsewhere a moment ago.
    async fn answer_with_look(&self, kind: Kind, request: &Request<'_>) -> Result<(), Refusal> {
        let Some(seat) = self.seats.last() else { return Ok(()) };
        self.desk.catch_up().await;
        if !seat.is_live() {
            return Ok(()); // replaced meanwhile: mute
        }
        match self.answer(kind, request, seat)? {
            Answer::Given => Ok(()),
            Answer::Unreached(signal) => Err(self.desk.not_found(&signal)),
        }
    }

    async fn register(&mut self, request: &Request<'_>) -> Result<(), Refusal> {
        let ask = Register::read(request, &self.desk.rules, self.desk.clock.now_ms())?;
        if self.seats.len() >= MAX_SEATS && self.seats.iter().all(|seat| seat.peer != ask.peer) {
            return Err(Refusal::new(Code::InvalidRegister, "too many peerIds on one socket"));
        }
        let applicant = Applicant {
            socket: self.socket,
            line: &self.line,
            address: self.meter.address(),
            seat: self.seats.last(),
        };
        let seat = self.desk.register(&ask, &applicant).await?;
        self.seats.retain(|held| held.peer != seat.peer);
        self.seats.push(seat);
        Ok(())
    }

    fn refuse(&self, id: &RequestId<'_>, refusal: &Refusal) {
        self.desk.metrics.refuse(refusal.code);
        tell(&self.line, &Frame::text(encode::error(id, refusal)));
    }

    /// The socket is over.
    pub(crate) fn end(&mut self) {
        self.desk.close(self.socket, &self.seats);
    }
}

/// Binary as the original reads it: invalid UTF-8 becomes replacement characters.
fn read_as_text(message: &[u8], is_text: bool) -> Cow<'_, [u8]> {
    if is_text {
        return Cow::Borrowed(message);
    }
    match String::from_utf8_lossy(message) {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.into_bytes()),
    }
}
