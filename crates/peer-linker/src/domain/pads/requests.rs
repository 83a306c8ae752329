//! Link requests, from the asking to the answer.

use bytes::Bytes;
use tokio::time::Instant;

use super::{Ask, Asked, ClientId, Effect, Event, Limited, Name, PadId, PadKey, Pads, Target};

/// Why a request is not forwarded: a limit, or nothing a metric counts.
type Refusal = Option<Limited>;

impl Pads {
    /// Asks the pad of the given name to link with the client's own. The secret may be kept for as
    /// long as the request waits: it should own its buffer.
    pub(crate) fn link(
        &mut self,
        client: ClientId,
        id: u32,
        (requestee, secret): (Name, Bytes),
        now: Instant,
        out: &mut Vec<Effect>,
    ) {
        let refused = match self.own(client) {
            Some(pad) => self.ask(pad, id, requestee, secret, now, out),
            None => Err(None),
        };
        if let Err(limited) = refused {
            out.extend(limited.map(Effect::Limited));
            out.push(Effect::Tell(client, Event::Answer { id, ok: false }));
        }
    }

    /// Takes a client's answer to the oldest request of the given name that it has been told of.
    pub(crate) fn answer(
        &mut self,
        client: ClientId,
        id: u32,
        requester: &[u8],
        ok: bool,
        out: &mut Vec<Effect>,
    ) {
        let taken = self.own(client).is_some_and(|pad| self.settle(pad, id, requester, ok, out));
        let event = if taken { Event::Taken { id } } else { Event::Answer { id, ok: false } };
        out.push(Effect::Tell(client, event));
    }

    /// Ends the requests that are due.
    pub(crate) fn expire(&mut self, now: Instant, out: &mut Vec<Effect>) {
        while let Some((deadline, pad)) = self.deadlines.first().copied() {
            if deadline > now {
                return;
            }
            self.deadlines.pop_first();
            let Some(Ask { id, to, .. }) =
                self.pads.get_mut(&pad).and_then(|pad| pad.asking.take())
            else {
                continue;
            };
            let Some(client) = self.pads.get(&pad).map(|pad| pad.client) else { continue };
            match to {
                Target::Pad(requestee) => {
                    self.unask(requestee, pad);
                    self.unasked(requestee, out);
                    out.push(Effect::Limited(Limited::AnswerTime));
                    out.push(Effect::Tell(client, Event::Denied { id, by: 0 }));
                }
                Target::Name(key, secret) => {
                    self.stop_waiting(pad, &key, &secret);
                    out.push(Effect::Limited(Limited::WaitTime));
                    out.push(Effect::Tell(client, Event::Answer { id, ok: false }));
                }
            }
        }
    }

    /// When [`Pads::expire`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn ask(
        &mut self,
        pad: PadId,
        id: u32,
        requestee: Name,
        secret: Bytes,
        now: Instant,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        self.check_ask(pad, &requestee, &secret)?;
        let own = self.pads.get(&pad).ok_or(None)?;
        let (namespace, is_elsewhere) = (own.key.namespace, own.is_elsewhere());
        let key = PadKey { namespace, name: requestee };
        match self.registered(&key) {
            Some(other) => self.forward(pad, id, other, secret, now, out),
            None if is_elsewhere => Err(None),
            None => self.wait(pad, id, key, secret, now),
        }
    }

    /// Whether the pad may ask for anything now, and this can be put to anybody.
    pub(super) fn check_ask(
        &self,
        pad: PadId,
        requestee: &Name,
        secret: &Bytes,
    ) -> Result<(), Refusal> {
        let own = self.pads.get(&pad).ok_or(None)?;
        let is_free = own.linked.is_none() && own.asking.is_none();
        let fits = own.key.name.len() + secret.len() <= own.key.namespace.auth_room();
        if is_free && fits && !requestee.is_empty() { Ok(()) } else { Err(None) }
    }

    /// As [`Pads::forward`], if the pad is still free to ask.
    pub(super) fn forward_free(
        &mut self,
        pad: PadId,
        id: u32,
        requestee: PadId,
        secret: Bytes,
        now: Instant,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let name = self.pads.get(&requestee).ok_or(None)?.key.name.clone();
        self.check_ask(pad, &name, &secret)?;
        self.forward(pad, id, requestee, secret, now, out)
    }

    fn forward(
        &mut self,
        pad: PadId,
        id: u32,
        requestee: PadId,
        secret: Bytes,
        now: Instant,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        self.purge(requestee, now);
        let (client, name) = {
            let own = self.pads.get(&pad).ok_or(None)?;
            (own.client, own.key.name.clone())
        };
        let weight = name.len() + secret.len();
        let other = self.pads.get(&requestee).ok_or(None)?;
        if other.linked.is_some() {
            return Err(None);
        }
        if other.asked.len() >= self.limits.requests_per_pad {
            return Err(Some(Limited::RequestsPerPad));
        }
        self.admit(weight)?;
        let deadline = now + self.limits.answer_time;
        self.begin(pad, Ask { id, deadline, to: Target::Pad(requestee) });
        let Some(other) = self.pads.get_mut(&requestee) else { return Err(None) };
        let asked = Asked { requester: Some(pad), name: name.clone(), deadline, bytes: weight };
        other.asked.push_back(asked);
        out.push(Effect::Tell(other.client, Event::Auth { requester: name, secret }));
        out.push(Effect::Tell(client, Event::Forwarded { id }));
        Ok(())
    }

    fn wait(
        &mut self,
        pad: PadId,
        id: u32,
        key: PadKey,
        secret: Bytes,
        now: Instant,
    ) -> Result<(), Refusal> {
        let Some(wait_time) = self.limits.wait_time else { return Err(None) };
        if key.name.len() > self.limits.name_bytes {
            return Err(Some(Limited::Name));
        }
        if self.waiting.get(&key).is_some_and(|all| all.len() >= self.limits.requests_per_pad) {
            return Err(Some(Limited::RequestsPerPad));
        }
        self.admit(key.name.len() + secret.len())?;
        self.waiting.entry(key.clone()).or_default().push_back(pad);
        let deadline = now + wait_time;
        self.begin(pad, Ask { id, deadline, to: Target::Name(key, secret) });
        Ok(())
    }

    /// The pad a request has waited for is there.
    pub(super) fn found(
        &mut self,
        requester: PadId,
        requestee: PadId,
        now: Instant,
        out: &mut Vec<Effect>,
    ) {
        let Some(own) = self.pads.get_mut(&requester) else { return };
        let (client, is_free) = (own.client, own.linked.is_none());
        let Some(Ask { id, deadline, to: Target::Name(key, secret) }) = own.asking.take() else {
            return;
        };
        self.deadlines.remove(&(deadline, requester));
        self.release(key.name.len() + secret.len());
        let forwarded = match is_free {
            true => self.forward(requester, id, requestee, secret, now, out),
            false => Err(None),
        };
        if let Err(limited) = forwarded {
            out.extend(limited.map(Effect::Limited));
            out.push(Effect::Tell(client, Event::Answer { id, ok: false }));
        }
    }

    fn settle(
        &mut self,
        pad: PadId,
        id: u32,
        requester: &[u8],
        ok: bool,
        out: &mut Vec<Effect>,
    ) -> bool {
        let Some(own) = self.pads.get_mut(&pad) else { return false };
        let Some(place) = own.asked.iter().position(|asked| &*asked.name == requester) else {
            return false;
        };
        let Some(asked) = own.asked.remove(place) else { return false };
        let (client, own_linked) = (own.client, own.linked.is_some());
        self.release(asked.bytes);
        let Some(requester) = asked.requester else { return false };
        let Some(other) = self.pads.get_mut(&requester) else { return false };
        let both_free = !own_linked && other.linked.is_none();
        if !ok || !both_free {
            self.deny(requester, id, out);
            return !ok;
        }
        let other_client = other.client;
        let Some(ask) = other.asking.take() else { return false };
        other.linked = Some(pad);
        self.links += 1;
        if let Some(own) = self.pads.get_mut(&pad) {
            own.linked = Some(requester);
        }
        self.deadlines.remove(&(ask.deadline, requester));
        out.push(Effect::Tell(other_client, Event::Granted { id: ask.id }));
        out.push(Effect::Join(client, other_client));
        true
    }

    /// Tells a requester that nothing comes of its request.
    pub(super) fn deny(&mut self, requester: PadId, by: u32, out: &mut Vec<Effect>) {
        let Some(other) = self.pads.get_mut(&requester) else { return };
        let Some(ask) = other.asking.take() else { return };
        out.push(Effect::Tell(other.client, Event::Denied { id: ask.id, by }));
        self.deadlines.remove(&(ask.deadline, requester));
    }

    /// Takes back a pad's own request because the pad goes.
    pub(super) fn withdraw(&mut self, pad: PadId, out: &mut Vec<Effect>) {
        let Some(own) = self.pads.get_mut(&pad) else { return };
        let client = own.client;
        let Some(Ask { id, deadline, to }) = own.asking.take() else { return };
        self.deadlines.remove(&(deadline, pad));
        out.push(Effect::Tell(
            client,
            match to {
                Target::Pad(_) => Event::Withdrawn { id },
                Target::Name(..) => Event::Answer { id, ok: false },
            },
        ));
        match to {
            Target::Pad(requestee) => {
                let other = self.pads.get_mut(&requestee);
                let mut asked = other.into_iter().flat_map(|other| &mut other.asked);
                if let Some(asked) = asked.find(|asked| asked.requester == Some(pad)) {
                    asked.requester = None;
                    self.unasked(requestee, out);
                }
            }
            Target::Name(key, secret) => self.stop_waiting(pad, &key, &secret),
        }
    }

    fn begin(&mut self, pad: PadId, ask: Ask) {
        self.deadlines.insert((ask.deadline, pad));
        if let Some(own) = self.pads.get_mut(&pad) {
            own.asking = Some(ask);
        }
    }

    fn stop_waiting(&mut self, pad: PadId, key: &PadKey, secret: &Bytes) {
        if let Some(all) = self.waiting.get_mut(key) {
            all.retain(|waiting| *waiting != pad);
            if all.is_empty() {
                self.waiting.remove(key);
            }
        }
        self.release(key.name.len() + secret.len());
    }

    /// Removes what `requester` asked of `requestee`.
    fn unask(&mut self, requestee: PadId, requester: PadId) {
        let Some(other) = self.pads.get_mut(&requestee) else { return };
        let place = other.asked.iter().position(|asked| asked.requester == Some(requester));
        if let Some(asked) = place.and_then(|place| other.asked.remove(place)) {
            self.release(asked.bytes);
        }
    }

    /// Forgets requests whose owner left and whose answer is overdue.
    fn purge(&mut self, requestee: PadId, now: Instant) {
        let Some(other) = self.pads.get_mut(&requestee) else { return };
        let (mut count, mut bytes) = (0, 0);
        other.asked.retain(|asked| {
            let keep = asked.requester.is_some() || asked.deadline > now;
            if !keep {
                count += 1;
                bytes += asked.bytes;
            }
            keep
        });
        self.requests -= count;
        self.request_bytes -= bytes;
    }

    fn admit(&mut self, bytes: usize) -> Result<(), Refusal> {
        if self.requests >= self.limits.requests {
            return Err(Some(Limited::Requests));
        }
        if self.request_bytes + bytes > self.limits.request_bytes {
            return Err(Some(Limited::RequestBytes));
        }
        self.requests += 1;
        self.request_bytes += bytes;
        Ok(())
    }

    fn release(&mut self, bytes: usize) {
        self.requests -= 1;
        self.request_bytes -= bytes;
    }
}
