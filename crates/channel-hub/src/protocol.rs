//! Packets to commands and back, for both generations.

pub(crate) mod sibling;

use std::sync::Arc;

use bytes::Bytes;
use proto::pad::{kind, tcp, ws};

use crate::domain::{
    desk::{Desk, Line},
    hub::{Generation, Refusal, Say, SessionId},
};

/// One client's side of the conversation.
pub(crate) struct Conversation<L: Line> {
    desk: Arc<Desk<L>>,
    session: SessionId,
    generation: Generation,
    line: L,
}

impl<L: Line> Conversation<L> {
    /// Begins to talk to a client.
    pub(crate) fn open(
        desk: Arc<Desk<L>>,
        generation: Generation,
        address: edge::LimitKey,
        line: L,
    ) -> Self {
        let session = desk.connect(generation, address, line.clone());
        Self { desk, session, generation, line }
    }

    /// Handles one packet of an activated client. A register waits for the
    /// database, and it and an unregister for other processes.
    pub(crate) async fn hear(&self, packet: u16, id: u32, body: &[u8]) {
        let handled = match self.generation {
            Generation::WebSocket => self.hear_websocket(packet, id, body).await,
            Generation::Encrypted => self.hear_encrypted(packet, id, body).await,
        };
        if let Err(why) = handled {
            self.desk.refused(why);
            self.line.tell(Say::Error(id));
        }
    }

    /// The client is gone.
    pub(crate) fn end(&self) {
        self.desk.gone(self.session);
    }

    async fn hear_websocket(&self, packet: u16, id: u32, body: &[u8]) -> Result<(), Refusal> {
        let (desk, session) = (&self.desk, self.session);
        match packet {
            // What clients make of packets they were sent; nobody waits for it.
            kind::SUCCESS | kind::ERROR => Ok(()),
            ws::hub::REGISTER => desk.register(session, id, body).await,
            ws::hub::UNREGISTER => desk.unregister(session, id, body).await,
            ws::hub::GET_CHANNELS => self.list(id),
            ws::hub::PAD_REQUEST => desk.request(session, id, body),
            ws::hub::PAD_REQUEST_RESPONSE => {
                ws::Verdict::parse(body).map_err(|_| Refusal::Malformed)?;
                desk.answer(session, id, Bytes::copy_from_slice(body))
            }
            _ => Err(Refusal::Malformed),
        }
    }

    async fn hear_encrypted(&self, packet: u16, id: u32, body: &[u8]) -> Result<(), Refusal> {
        let (desk, session) = (&self.desk, self.session);
        let name = || tcp::string(body).map_err(|_| Refusal::Malformed);
        match packet {
            kind::ERROR => Ok(()),
            tcp::hub::REGISTER_CHANNEL => desk.register(session, id, name()?).await,
            tcp::hub::UNREGISTER_CHANNEL => desk.unregister(session, id, name()?).await,
            tcp::hub::GET_CHANNELS => self.list(id),
            tcp::hub::REQUEST_PAD => desk.request(session, id, name()?),
            tcp::hub::PAD_CREATED => {
                let created = tcp::PadCreated::parse(body).map_err(|_| Refusal::Malformed)?;
                desk.answer_oldest(session, id, created.channel, Bytes::copy_from_slice(body))
            }
            _ => Err(Refusal::Malformed),
        }
    }

    fn list(&self, id: u32) -> Result<(), Refusal> {
        let channels = self.desk.channels(self.session)?;
        self.line.tell(Say::Channels(id, channels));
        Ok(())
    }
}

/// Hands what is said to `send` as a packet: its type, its id, its body. The id is `None` where the
/// connection's own count is used. `false` for what no packet says.
pub(crate) fn speak(
    generation: Generation,
    say: &Say,
    send: impl FnOnce(u16, Option<u32>, &[u8]),
) -> bool {
    match (generation, say) {
        (_, Say::Success(id)) => send(kind::SUCCESS, Some(*id), b""),
        (_, Say::Error(id)) => send(kind::ERROR, Some(*id), b""),
        (Generation::WebSocket, Say::Channels(id, body)) => {
            send(ws::hub::GET_CHANNELS_RESPONSE, Some(*id), body);
        }
        (Generation::WebSocket, Say::Asked(id, name)) => {
            send(ws::hub::PAD_REQUEST, Some(*id), name);
        }
        (Generation::WebSocket, Say::Answered(id, body)) => {
            send(ws::hub::PAD_REQUEST_RESPONSE, Some(*id), body);
        }
        (Generation::WebSocket, Say::Unanswered(id)) => {
            send(ws::hub::PAD_REQUEST_RESPONSE, Some(*id), &[0, 0]);
        }
        (Generation::Encrypted, Say::Channels(id, body)) => {
            send(tcp::hub::CHANNELS, Some(*id), body);
        }
        (Generation::Encrypted, Say::Asked(_, name)) => {
            let mut body = Vec::with_capacity(2 + name.len());
            // It came in a string, so it fits one.
            if tcp::push_string(name, &mut body).is_ok() {
                send(tcp::hub::REQUEST_PAD, None, &body);
            }
        }
        (Generation::Encrypted, Say::Answered(id, body)) => {
            send(tcp::hub::PAD_CREATED, Some(*id), body);
        }
        (Generation::Encrypted, Say::Unanswered(id)) => send(kind::ERROR, Some(*id), b""),
        (_, Say::Listed(_) | Say::Unlisted(_) | Say::Sync(_) | Say::Cancelled(_)) => {}
        (_, Say::Lost) => return false,
    }
    true
}
