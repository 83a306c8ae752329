//! Packets to requests, events to packets, for both generations.

pub(crate) mod sibling;
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

/// The way to whoever has or stands for a pad.
#[derive(Clone)]
pub(crate) enum Way {
    /// A client.
    Client(Line),
    /// Another process, which stands for a pad of its own.
    Sibling(Line),
}

impl Way {
    fn line(&self) -> &Line {
        match self {
            Self::Client(line) | Self::Sibling(line) => line,
        }
    }
}

impl domain::line::Line for Way {
    type Payload = Packet;

    fn tell(&self, event: &Event) {
        let line = self.line();
        let words = match (self, line.wire()) {
            (Self::Sibling(_), _) => sibling::words(event, line),
            (Self::Client(_), Wire::WebSocket) => ws::words(event),
            (Self::Client(_), Wire::Encrypted) => tcp::words(event),
        };
        let Some(Words { kind, id, body }) = words else { return };
        let sent = match event {
            // What ends with this had all its payload before; what begins after has it behind.
            Event::Unlinked | Event::Answer { ok: true, .. } => line.ordered(kind, id, &body),
            _ => line.control(kind, id, &body),
        };
        if let Err(why) = sent {
            tracing::debug!(%why, "not told"); // it is leaving
        }
    }

    fn pass(&self, payload: Packet) -> bool {
        // A client that is leaving is unlinked in a moment.
        self.line().payload(payload).unwrap_or(false)
    }

    async fn ready(&self) {
        let _ = self.line().ready().await;
    }

    fn close(&self) {
        self.line().close(1012, "the pad's name was given out again");
    }

    fn kill(&self) {
        self.line().kill();
    }
}

#[cfg(test)]
mod tests;
