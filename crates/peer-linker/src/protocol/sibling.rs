//! What two processes say to each other about a pad of each that are linked, or may be.
//!
//! ```text
//! from the process of the pad that asks     from the process of the pad that is asked
//! REGISTER name   whose pad asks
//! LINK            as the client has it
//!                                           ASKED     the pad's owner has been told
//!                                           VERDICT   1 or 0: its answer, whose id is the packet's
//! payload         both ways                 payload
//! UNLINK          both ways, behind it      UNLINK
//! ```
//! Both generations have their own LINK and payload. None of these types is ever payload. Who has
//! nothing more to say closes; what that means follows from how far it came.

use packets::{Id, Line, Packet, Wire};
use proto::pad::{tcp, ws};

use super::Words;
use crate::domain::event::Event;

const REGISTER: u16 = ws::linker::REGISTER;
const ASKED: u16 = ws::linker::UNREGISTER;
const LINK: u16 = ws::linker::LINK;
const UNLINK: u16 = ws::linker::UNLINK;
const VERDICT: u16 = ws::linker::LINK_AUTH_RESPONSE;

/// What another process says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard<'a> {
    /// It stands for the pad of this name.
    Name(&'a [u8]),
    /// That pad asks for a link.
    Link {
        /// The pad asked for.
        requestee: &'a [u8],
        /// Opaque.
        secret: &'a [u8],
    },
    /// The request was put to the pad asked for.
    Asked,
    /// The answer of its owner.
    Verdict {
        /// Whether the link was granted.
        ok: bool,
        /// The id of the answer.
        by: u32,
    },
    /// The link is over.
    Unlinked,
    /// The packet goes to the linked pad.
    Payload,
    /// Nothing this version says.
    Wrong,
}

/// What a packet from another process says.
pub(crate) fn heard(packet: &Packet) -> Heard<'_> {
    let body = packet.body();
    match (packet.kind, packet.wire()) {
        (REGISTER, _) => Heard::Name(body),
        (LINK, Wire::WebSocket) => ws::Link::parse(body)
            .map_or(Heard::Wrong, |link| Heard::Link { requestee: link.name, secret: link.secret }),
        (LINK, Wire::Encrypted) => tcp::Link::parse(body)
            .map_or(Heard::Wrong, |link| Heard::Link { requestee: link.name, secret: link.secret }),
        (ASKED, _) => Heard::Asked,
        (VERDICT, _) => Heard::Verdict { ok: body == [1], by: packet.id },
        (UNLINK, _) => Heard::Unlinked,
        (tcp::linker::PAYLOAD, Wire::Encrypted) | (_, Wire::WebSocket) => Heard::Payload,
        _ => Heard::Wrong,
    }
}

/// Asks the process at the other end of `line` for a link on behalf of the pad `requester`. `false`
/// when that cannot be said.
pub(crate) fn ask(line: &Line, requester: &[u8], requestee: &[u8], secret: &[u8]) -> bool {
    let mut body = Vec::new();
    let encoded = match line.wire() {
        Wire::WebSocket => ws::Link { name: requestee, secret }.encode(&mut body),
        Wire::Encrypted => tcp::Link { name: requestee, secret }.encode(&mut body),
    };
    encoded.is_ok()
        && line.control(REGISTER, Id::Of(0), requester).is_ok()
        && line.control(LINK, Id::Of(0), &body).is_ok()
}

/// An event as another process is told. What ends everything closes the connection.
pub(super) fn words(event: &Event, line: &Line) -> Option<Words> {
    let verdict =
        |ok: bool, id| Some(Words { kind: VERDICT, id: Id::Of(id), body: vec![ok.into()] });
    match event {
        Event::Forwarded { .. } => Words::of(ASKED, Id::Of(0)),
        Event::Granted { .. } => verdict(true, 0),
        Event::Denied { by, .. } => verdict(false, *by),
        Event::Unlinked => Words::of(UNLINK, Id::Of(0)),
        Event::Answer { ok: false, .. } | Event::Unasked => {
            line.close(1000, "nothing comes of it");
            None
        }
        Event::Answer { ok: true, .. }
        | Event::Auth { .. }
        | Event::Taken { .. }
        | Event::Withdrawn { .. } => None,
    }
}
