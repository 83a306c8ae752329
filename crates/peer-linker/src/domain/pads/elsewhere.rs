//! Pads at other processes: here stands one for each that is linked with a pad of ours, or may be.
//!
//! Its client is the connection with the other process. Beyond that the rules are those for every
//! pad, so that what holds for two clients of one process holds for two of different ones.

use bytes::Bytes;
use tokio::time::Instant;

use super::{ClientId, Effect, Event, Limited, Name, Pad, PadId, PadKey, Pads};

impl Pad {
    /// Whether it stands for a pad at another process.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.address.is_none()
    }
}

impl Pads {
    /// Lets `client`, another process, stand for its pad `key`.
    pub(crate) fn stand_for(&mut self, client: ClientId, key: PadKey, out: &mut Vec<Effect>) {
        if self.by_client.contains_key(&client) || self.pads.len() >= self.limits.pads {
            out.push(Effect::Limited(Limited::Pads));
            out.push(Effect::Tell(client, Event::Answer { id: 0, ok: false }));
            return;
        }
        self.next += 1;
        let pad = PadId(self.next);
        self.by_client.insert(client, pad);
        self.elsewhere += 1;
        let entry = Pad {
            key,
            client,
            address: None,
            registered: true,
            linked: None,
            asking: None,
            asked: Default::default(),
        };
        self.pads.insert(pad, entry);
    }

    /// The name of a client's pad, if it may ask for a link at all, so that it is worth to call
    /// another process.
    pub(crate) fn may_ask(
        &self,
        client: ClientId,
        requestee: &Name,
        secret: &Bytes,
    ) -> Option<Name> {
        let pad = self.own(client)?;
        self.check_ask(pad, requestee, secret).ok()?;
        self.pads.get(&pad).map(|pad| pad.key.name.clone())
    }

    /// The other process `there` has put the client's request to the pad that it stands for.
    pub(crate) fn asked_elsewhere(
        &mut self,
        client: ClientId,
        id: u32,
        there: ClientId,
        secret: Bytes,
        now: Instant,
        out: &mut Vec<Effect>,
    ) {
        let refused = match (self.own(client), self.own(there)) {
            (Some(pad), Some(other)) => self.forward_free(pad, id, other, secret, now, out),
            _ => Err(None),
        };
        if let Err(limited) = refused {
            out.extend(limited.map(Effect::Limited));
            out.push(Effect::Tell(client, Event::Answer { id, ok: false }));
            out.push(Effect::Tell(there, Event::Unasked));
        }
    }

    /// The pad asked for hears that a request is over, if it is elsewhere.
    pub(super) fn unasked(&self, requestee: PadId, out: &mut Vec<Effect>) {
        let Some(other) = self.pads.get(&requestee).filter(|pad| pad.is_elsewhere()) else {
            return;
        };
        out.push(Effect::Tell(other.client, Event::Unasked));
    }
}
