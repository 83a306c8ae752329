//! Packets to requests, events to packets, for both generations.

pub(crate) mod tcp;
pub(crate) mod ws;

use packets::{Id, Line, Packet, Wire};

use crate::domain::{self, event::Event, pads::Namespace};

/// What an activated client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request<'a> {
    /// A pad of this name.
    Register(&'a [u8]),
    /// The end of its pad.
    Unregister,
    /// A link to the pad of this name, whose owner decides by the secret.
    Link {
        /// The pad asked for.
        requestee: &'a [u8],
        /// Opaque.
        secret: &'a [u8],
    },
    /// The link request of this pad is decided.
    Answer {
        /// The pad that asked.
        requester: &'a [u8],
        /// Whether it is granted.
        ok: bool,
    },
    /// The end of its link.
    Unlink,
    /// That the packet goes to the linked pad.
    Pass,
    /// Nothing that exists, or not in a way that can be read: to be refused.
    Wrong,
    /// Nothing, and no answer.
    Ignored,
}

/// What a packet asks for.
pub(crate) fn request(packet: &Packet, pass_server_types: bool) -> Request<'_> {
    match packet.wire() {
        Wire::WebSocket => ws::request(packet.kind, packet.body(), pass_server_types),
        Wire::Encrypted => tcp::request(packet.kind, packet.body()),
    }
}

/// The namespace of a generation.
pub(crate) fn namespace(wire: Wire) -> Namespace {
    match wire {
        Wire::WebSocket => Namespace::WebSocket,
        Wire::Encrypted => Namespace::Encrypted,
    }
}

/// An event in a generation's words.
struct Words {
    kind: u16,
    id: Id,
    body: Vec<u8>,
}

impl Words {
    fn of(kind: u16, id: Id) -> Option<Self> {
        Some(Self { kind, id, body: Vec::new() })
    }
}

impl domain::line::Line for Line {
    type Payload = Packet;

    fn tell(&self, event: &Event) {
        let words = match self.wire() {
            Wire::WebSocket => ws::words(event),
            Wire::Encrypted => tcp::words(event),
        };
        let Some(Words { kind, id, body }) = words else { return };
        let sent = match event {
            // What ends with this had all its payload before; what begins after has it behind.
            Event::Unlinked | Event::Answer { ok: true, .. } => self.ordered(kind, id, &body),
            _ => self.control(kind, id, &body),
        };
        if let Err(why) = sent {
            tracing::debug!(%why, "not told"); // it is leaving
        }
    }

    fn pass(&self, payload: Packet) -> bool {
        // A client that is leaving is unlinked in a moment.
        self.payload(payload).unwrap_or(false)
    }

    async fn ready(&self) {
        let _ = Self::ready(self).await;
    }

    fn close(&self) {
        Self::close(self, 1012, "the pad's name was given out again");
    }
}

#[cfg(test)]
mod tests;
