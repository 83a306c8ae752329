//! Pads: who owns which name, who asks whom, who is linked to whom.
//!
//! [`Pads`] is synchronous: it takes what happened and the time, changes its state and says in
//! [`Effect`]s what follows. It knows neither bytes nor sockets nor the database.
//!
//! Invariant: links are symmetric. Every request is refused at once, or gets its [`Event::Granted`]
//! or [`Event::Denied`], unless its owner leaves first. Requests belong to pads, not to names: who
//! takes over a name takes over nothing else.

mod elsewhere;
mod requests;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use edge::LimitKey;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::event::{ClientId, Effect, Event, Limited, Name};

/// A registration of a pad, by a number that is never given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PadId(pub(crate) u64);

/// Pads of the two generations do not see each other: what one passes on, the other cannot say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Namespace {
    /// Generation A, over WebSockets.
    WebSocket,
    /// Generation B, over TCP with its own encryption.
    Encrypted,
}

impl Namespace {
    /// Most bytes of requester's name and secret together that fit an Auth.
    fn auth_room(self) -> usize {
        match self {
            // u16 size, u16 type, u32 id, then two u16 lengths.
            Self::WebSocket => 65_535 - 12,
            // What a frame leaves to a body, less two u16 lengths.
            Self::Encrypted => 65_499 - 4,
        }
    }
}

/// A pad's name in its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PadKey {
    pub(crate) namespace: Namespace,
    pub(crate) name: Name,
}

impl PadKey {
    /// The name as the replicas share it.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let namespace: &[u8] = match self.namespace {
            Namespace::WebSocket => &[1],
            Namespace::Encrypted => &[2],
        };
        Sha256::new().chain_update(namespace).chain_update(&*self.name).finalize().into()
    }
}

/// The name of an HTTP pad as the replicas share it, in a namespace of its own.
pub(crate) fn transfer_digest(name: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update([3]).chain_update(name).finalize().into()
}

/// What one process lets its clients take.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Bytes of a name.
    pub(crate) name_bytes: usize,
    /// Pads in all.
    pub(crate) pads: usize,
    /// Pads of one address.
    pub(crate) pads_per_address: usize,
    /// Requests waiting at one pad.
    pub(crate) requests_per_pad: usize,
    /// Requests waiting in all.
    pub(crate) requests: usize,
    /// Bytes of names and secrets of the requests waiting in all.
    pub(crate) request_bytes: usize,
    /// Time to answer a request.
    pub(crate) answer_time: Duration,
    /// Time a request may wait for a pad that is not there; `None` refuses it at once.
    pub(crate) wait_time: Option<Duration>,
}

/// Every pad of this process.
pub(crate) struct Pads {
    limits: Limits,
    next: u64,
    pads: HashMap<PadId, Pad>,
    by_key: HashMap<PadKey, PadId>,
    by_client: HashMap<ClientId, PadId>,
    by_address: HashMap<LimitKey, usize>,
    /// Pads whose request waits for a pad of that name, first come first served.
    waiting: HashMap<PadKey, VecDeque<PadId>>,
    /// When which pad's request ends.
    deadlines: BTreeSet<(Instant, PadId)>,
    links: usize,
    /// Pads that stand for others elsewhere.
    elsewhere: usize,
    /// Requests of all pads, and what they weigh.
    requests: usize,
    request_bytes: usize,
}

struct Pad {
    key: PadKey,
    client: ClientId,
    /// Where its client comes from; `None` when it stands for a pad at another process: then nobody
    /// finds it by its name here.
    address: Option<LimitKey>,
    /// Not yet while the database is being asked.
    registered: bool,
    linked: Option<PadId>,
    /// Its own request.
    asking: Option<Ask>,
    /// Requests put to it, in the order its client hears of them.
    asked: VecDeque<Asked>,
}

struct Ask {
    /// The link request's.
    id: u32,
    deadline: Instant,
    to: Target,
}

enum Target {
    /// The pad that has to answer.
    Pad(PadId),
    /// Nobody yet: the secret is kept until there is somebody.
    Name(PadKey, bytes::Bytes),
}

/// A request its owner has been told of. Kept when the requester leaves, until the answer comes
/// or is due: the next owner of the requester's name must not inherit it.
struct Asked {
    requester: Option<PadId>,
    name: Name,
    deadline: Instant,
    bytes: usize,
}

impl Pads {
    /// No pads.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            next: 0,
            pads: HashMap::new(),
            by_key: HashMap::new(),
            by_client: HashMap::new(),
            by_address: HashMap::new(),
            waiting: HashMap::new(),
            deadlines: BTreeSet::new(),
            links: 0,
            elsewhere: 0,
            requests: 0,
            request_bytes: 0,
        }
    }

    /// Sets a name aside for `client`, until [`Pads::confirm`] or [`Pads::cancel`]. `None` is a
    /// refusal, already answered.
    pub(crate) fn reserve(
        &mut self,
        client: ClientId,
        id: u32,
        key: PadKey,
        address: LimitKey,
        out: &mut Vec<Effect>,
    ) -> Option<PadId> {
        let taken = key.name.is_empty()
            || self.by_client.contains_key(&client)
            || self.by_key.contains_key(&key);
        let of_address = self.by_address.get(&address).copied().unwrap_or(0);
        let limited = if taken {
            None
        } else if key.name.len() > self.limits.name_bytes {
            Some(Limited::Name)
        } else if of_address >= self.limits.pads_per_address {
            Some(Limited::PadsPerAddress)
        } else if self.pads.len() >= self.limits.pads {
            Some(Limited::Pads)
        } else {
            self.next += 1;
            let pad = PadId(self.next);
            self.by_key.insert(key.clone(), pad);
            self.by_client.insert(client, pad);
            *self.by_address.entry(address).or_default() += 1;
            let (linked, asking, asked) = (None, None, VecDeque::new());
            let address = Some(address);
            let entry = Pad { key, client, address, registered: false, linked, asking, asked };
            self.pads.insert(pad, entry);
            return Some(pad);
        };
        out.extend(limited.map(Effect::Limited));
        out.push(Effect::Tell(client, Event::Answer { id, ok: false }));
        None
    }

    /// The name is `pad`'s among the replicas too: answers the register, and puts the requests that
    /// have waited for it. `false` when the client has left meanwhile.
    pub(crate) fn confirm(
        &mut self,
        pad: PadId,
        id: u32,
        now: Instant,
        out: &mut Vec<Effect>,
    ) -> bool {
        let Some(entry) = self.pads.get_mut(&pad) else { return false };
        entry.registered = true;
        let key = entry.key.clone();
        out.push(Effect::Tell(entry.client, Event::Answer { id, ok: true }));
        for requester in self.waiting.remove(&key).unwrap_or_default() {
            self.found(requester, pad, now, out);
        }
        true
    }

    /// The name is not to be had: refuses the register.
    pub(crate) fn cancel(&mut self, pad: PadId, id: u32, out: &mut Vec<Effect>) {
        if let Some(entry) = self.forget(pad) {
            out.push(Effect::Release(pad, entry.key.digest()));
            out.push(Effect::Tell(entry.client, Event::Answer { id, ok: false }));
        }
    }

    /// Gives a client's pad back.
    pub(crate) fn unregister(&mut self, client: ClientId, id: u32, out: &mut Vec<Effect>) {
        let ok = self.leave(client, out);
        out.push(Effect::Tell(client, Event::Answer { id, ok }));
    }

    /// A client is gone.
    pub(crate) fn gone(&mut self, client: ClientId, out: &mut Vec<Effect>) {
        self.leave(client, out);
    }

    /// Ends a client's link.
    pub(crate) fn unlink(&mut self, client: ClientId, id: u32, out: &mut Vec<Effect>) {
        let pad = self.by_client.get(&client).copied();
        let ok = pad.is_some_and(|pad| self.part(pad, out));
        out.push(Effect::Tell(client, Event::Answer { id, ok }));
    }

    /// Whether a pad is registered or about to be.
    pub(crate) fn contains(&self, pad: PadId) -> bool {
        self.pads.contains_key(&pad)
    }

    /// Whether a name is registered here.
    pub(crate) fn is_here(&self, key: &PadKey) -> bool {
        self.registered(key).is_some()
    }

    /// Every registered pad: its number, its client, its name's digest.
    pub(crate) fn registered_pads(&self) -> impl Iterator<Item = (PadId, ClientId, [u8; 32])> {
        let registered = self.pads.iter().filter(|(_, pad)| pad.registered);
        registered.map(|(id, pad)| (*id, pad.client, pad.key.digest()))
    }

    /// How many pads there are, links, and requests that wait for an answer or a pad.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        (self.pads.len() - self.elsewhere, self.links, self.requests)
    }

    fn registered(&self, key: &PadKey) -> Option<PadId> {
        let pad = *self.by_key.get(key)?;
        self.pads.get(&pad).is_some_and(|pad| pad.registered).then_some(pad)
    }

    /// The registered pad of a client.
    fn own(&self, client: ClientId) -> Option<PadId> {
        let pad = *self.by_client.get(&client)?;
        self.pads.get(&pad).is_some_and(|pad| pad.registered).then_some(pad)
    }

    fn leave(&mut self, client: ClientId, out: &mut Vec<Effect>) -> bool {
        let Some(pad) = self.by_client.get(&client).copied() else { return false };
        self.part(pad, out);
        self.withdraw(pad, out);
        let Some(entry) = self.forget(pad) else { return false };
        for asked in entry.asked {
            self.requests -= 1;
            self.request_bytes -= asked.bytes;
            if let Some(requester) = asked.requester {
                self.deny(requester, 0, out);
            }
        }
        if entry.address.is_none() {
            return true;
        }
        // One that is not registered may be in a moment, as far as the database is concerned.
        out.push(Effect::Release(pad, entry.key.digest()));
        entry.registered
    }

    /// Ends the link of a pad; the other side is told.
    fn part(&mut self, pad: PadId, out: &mut Vec<Effect>) -> bool {
        let Some(entry) = self.pads.get_mut(&pad) else { return false };
        let client = entry.client;
        let Some(partner) = entry.linked.take() else { return false };
        // May be the same pad.
        let Some(other) = self.pads.get_mut(&partner) else { return false };
        other.linked = None;
        self.links -= 1;
        out.push(Effect::Part(client, other.client));
        out.push(Effect::Tell(other.client, Event::Unlinked));
        true
    }

    fn forget(&mut self, pad: PadId) -> Option<Pad> {
        let entry = self.pads.remove(&pad)?;
        self.by_client.remove(&entry.client);
        let Some(address) = entry.address else {
            self.elsewhere -= 1;
            return Some(entry);
        };
        self.by_key.remove(&entry.key);
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
        Some(entry)
    }
}
