//! Channels, requests for pads, and the rules between them. Knows no sockets, no database and no clock.
//!
//! ```text
//! requester -- request --> slot of the owner -- answer --> requester
//!                          |- the owner or its channel goes: the requester is told at once
//!                          |- no answer in time: the requester is told then
//!                          `- the requester goes: its slot takes the answer that was meant for it
//! ```
//!
//! Invariant: every request that was accepted is answered exactly once, unless its requester is gone.
//!
//! The two generations are two hubs that share limits: a pad of one cannot be linked from the
//! other, so a channel of one is of no use to the other.

mod elsewhere;
mod requests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use edge::LimitKey;
use smallvec::SmallVec;

use self::requests::Request;
use super::listing::Listing;

/// Which protocol a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Generation {
    /// WebSocket packets.
    WebSocket,
    /// Encrypted TCP packets.
    Encrypted,
}

impl Generation {
    /// Both, in the order of their numbers.
    pub(crate) const BOTH: [Self; 2] = [Self::WebSocket, Self::Encrypted];
}

/// A connected client; never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionId(u64);

/// One registration of a channel; grows with every one, never used twice in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ChannelId(pub(crate) u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct RequestId(u64);

/// What clients may hold. Amounts are counts unless named otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) channels: usize,
    pub(crate) channels_per_session: usize,
    pub(crate) channels_per_address: usize,
    pub(crate) name_bytes: usize,
    /// Requests one session may wait for; the WebSocket generation allows one in any case.
    pub(crate) requests_per_session: usize,
    pub(crate) requests_per_address: usize,
    /// Requests that may wait for the answers of one channel.
    pub(crate) requests_per_channel: usize,
    pub(crate) time_to_answer: Duration,
}

/// Why a packet is answered with an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A name is empty.
    NoName,
    /// A name is longer than the limit.
    LongName,
    /// Somebody has the channel.
    Taken,
    /// No such channel, or not of this session.
    NoChannel,
    /// The list does not fit a packet.
    LongList,
    /// The session waits for an answer already, and its generation allows one.
    Waiting,
    /// Nobody waits for this answer, or not for this session's.
    NotAsked,
    /// The packet is not well-formed, or of a type that clients do not send.
    Malformed,
    /// More channels than a limit allows.
    ManyChannels,
    /// More requests than a limit allows.
    ManyRequests,
    /// The database is away.
    Storage,
}

impl Refusal {
    /// All of them, in the order of their numbers.
    pub(crate) const ALL: [Self; 11] = [
        Self::NoName,
        Self::LongName,
        Self::Taken,
        Self::NoChannel,
        Self::LongList,
        Self::Waiting,
        Self::NotAsked,
        Self::Malformed,
        Self::ManyChannels,
        Self::ManyRequests,
        Self::Storage,
    ];

    /// The reason as a metric's label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NoName => "no_name",
            Self::LongName => "long_name",
            Self::Taken => "taken",
            Self::NoChannel => "no_channel",
            Self::LongList => "long_list",
            Self::Waiting => "waiting",
            Self::NotAsked => "not_asked",
            Self::Malformed => "malformed",
            Self::ManyChannels => "many_channels",
            Self::ManyRequests => "many_requests",
            Self::Storage => "storage",
        }
    }
}

/// What a session is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Say {
    /// The request of this id has succeeded.
    Success(u32),
    /// The request of this id has failed.
    Error(u32),
    /// The list of channels, as the answer to the request of this id.
    Channels(u32, Bytes),
    /// Somebody asks for a pad. The id is the answer's to carry; the encrypted generation, whose
    /// answers carry none, has 0 here.
    Asked(u32, Arc<[u8]>),
    /// The owner's answer, word for word, for the request of this id.
    Answered(u32, Bytes),
    /// The request of this id gets no pad: its owner went, or took too long.
    Unanswered(u32),
    /// To another process: a channel that it may ask for.
    Listed(Arc<[u8]>),
    /// To another process: a channel that is no more.
    Unlisted(Arc<[u8]>),
    /// To another process: to be sent back, as a sign that all before has arrived.
    Sync(u32),
    /// To another process: nobody waits for the answer to the request of this id any more.
    Cancelled(u32),
    /// The session's channel has been given to somebody else meanwhile; nothing on the wire says
    /// so, hence its connection is closed.
    Lost,
}

/// A session's line and what to send on it.
pub(crate) type Effects<L> = SmallVec<[(L, Say); 2]>;

/// A registration whose row is to be kept, or not needed any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) generation: Generation,
    pub(crate) name: Arc<[u8]>,
    pub(crate) channel: ChannelId,
}

struct Session<L> {
    generation: Generation,
    line: L,
    /// Where it comes from; `None` for another process.
    address: Option<LimitKey>,
    channels: BTreeSet<ChannelId>,
    /// Requests it waits for.
    waits: BTreeSet<RequestId>,
    /// Requests it has to answer, by the id they were sent with: of the WebSocket generation, and
    /// of another process.
    asked: BTreeMap<u32, RequestId>,
    last_asked: u32,
}

struct Channel {
    generation: Generation,
    name: Arc<[u8]>,
    owner: SessionId,
    /// Where its owner comes from; `None` when the channel is another process's.
    address: Option<LimitKey>,
    /// Whether the registration has been written down; until then the name is taken, no more.
    listed: bool,
    /// Unanswered requests.
    waiting: usize,
    /// Encrypted generation: the same, oldest first.
    queue: VecDeque<RequestId>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Holdings {
    channels: usize,
    requests: usize,
}

/// How much there is of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Connected clients.
    pub(crate) sessions: usize,
    /// Channels of this process, listed or about to be.
    pub(crate) channels: usize,
    /// Requests without an answer.
    pub(crate) waiting: usize,
    /// Channels of other processes.
    pub(crate) channels_elsewhere: usize,
    /// Requests among those waiting that other processes have to answer.
    pub(crate) asked_elsewhere: usize,
    /// Requests among those waiting that other processes wait for.
    pub(crate) asked_by_others: usize,
}

/// Every channel and every request of this process. `L` is how a session is reached.
pub(crate) struct Hub<L> {
    limits: Limits,
    next: u64,
    sessions: HashMap<SessionId, Session<L>>,
    addresses: HashMap<LimitKey, Holdings>,
    names: [HashMap<Arc<[u8]>, ChannelId>; 2],
    /// In order of registration.
    channels: BTreeMap<ChannelId, Channel>,
    /// In order of arrival, which is that of their deadlines.
    requests: BTreeMap<RequestId, Request>,
    listings: [Listing; 2],
    released: Vec<Held>,
    /// Sessions of other processes that ask for our channels.
    guests: [BTreeSet<SessionId>; 2],
    /// Sessions of other processes whose channels we ask for.
    hosts: usize,
    /// Channels of other processes.
    mirrored: usize,
    /// What guests wait for, by their own ids.
    by_guest: HashMap<(SessionId, u32), RequestId>,
    /// Requests that other processes have to answer.
    asked_elsewhere: usize,
    last_sync: u32,
}

impl<L: Clone> Hub<L> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            next: 0,
            sessions: HashMap::new(),
            addresses: HashMap::new(),
            names: [HashMap::new(), HashMap::new()],
            channels: BTreeMap::new(),
            requests: BTreeMap::new(),
            listings: [Listing::new(Generation::WebSocket), Listing::new(Generation::Encrypted)],
            released: Vec::new(),
            guests: Default::default(),
            hosts: 0,
            mirrored: 0,
            by_guest: HashMap::new(),
            asked_elsewhere: 0,
            last_sync: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A client is there.
    pub(crate) fn connect(
        &mut self,
        generation: Generation,
        address: LimitKey,
        line: L,
    ) -> SessionId {
        self.seat(generation, Some(address), line)
    }

    fn seat(&mut self, generation: Generation, address: Option<LimitKey>, line: L) -> SessionId {
        let id = SessionId(self.number());
        let session = Session {
            generation,
            line,
            address,
            channels: BTreeSet::new(),
            waits: BTreeSet::new(),
            asked: BTreeMap::new(),
            last_asked: u32::MAX,
        };
        self.sessions.insert(id, session);
        id
    }

    /// Takes a name for `session`; nobody sees the channel before [`Hub::list`].
    ///
    /// # Errors
    /// The name is empty, too long or taken, or there are too many channels.
    pub(crate) fn take(&mut self, session: SessionId, name: &Arc<[u8]>) -> Result<Held, Refusal> {
        let limits = self.limits;
        if name.is_empty() {
            return Err(Refusal::NoName);
        }
        if name.len() > limits.name_bytes {
            return Err(Refusal::LongName);
        }
        let owner = self.sessions.get(&session).ok_or(Refusal::NoChannel)?;
        let generation = owner.generation;
        let address = owner.address.ok_or(Refusal::NoChannel)?;
        if self.names[generation as usize].contains_key(name) {
            return Err(Refusal::Taken);
        }
        let at_address = self.addresses.get(&address).map_or(0, |held| held.channels);
        if owner.channels.len() >= limits.channels_per_session
            || at_address >= limits.channels_per_address
            || self.channels.len() - self.mirrored + self.released.len() >= limits.channels
        {
            return Err(Refusal::ManyChannels);
        }
        let id = ChannelId(self.number());
        self.names[generation as usize].insert(name.clone(), id);
        self.count(address, |held| held.channels += 1);
        if let Some(owner) = self.sessions.get_mut(&session) {
            owner.channels.insert(id);
        }
        let channel = Channel {
            generation,
            name: name.clone(),
            owner: session,
            address: Some(address),
            listed: false,
            waiting: 0,
            queue: VecDeque::new(),
        };
        self.channels.insert(id, channel);
        Ok(Held { generation, name: name.clone(), channel: id })
    }

    /// The name has been written down: everybody sees the channel, and its owner's request `id` has
    /// succeeded. `None` when the channel is gone already.
    pub(crate) fn list(&mut self, channel: ChannelId, id: u32) -> Option<Effects<L>> {
        let channel = self.channels.get_mut(&channel).filter(|channel| !channel.listed)?;
        channel.listed = true;
        self.listings[channel.generation as usize].added(&channel.name);
        let (owner, mut effects) = (channel.owner, Effects::new());
        self.say(owner, Say::Success(id), &mut effects);
        Some(effects)
    }

    /// Whether the channel is there, listed or not.
    pub(crate) fn has(&self, channel: ChannelId) -> bool {
        self.channels.contains_key(&channel)
    }

    /// The name could not be written down, or another process has it. The row, if there may be
    /// one, is the caller's to [put back](Hub::put_back).
    pub(crate) fn give_up(&mut self, channel: ChannelId) -> Effects<L> {
        let owner = self.channels.get(&channel).map(|channel| channel.owner);
        if let Some(owner) = owner.and_then(|owner| self.sessions.get_mut(&owner)) {
            owner.channels.remove(&channel);
        }
        let mut effects = Effects::new();
        self.end_channel(channel, &mut effects);
        effects
    }

    /// Ends the channel `name` of `session`.
    ///
    /// Of the WebSocket generation, whose answers name their request, the requests stay and may
    /// still be answered. Of the encrypted one they cannot be, and fail.
    ///
    /// # Errors
    /// No such channel, or somebody else's.
    pub(crate) fn unregister(
        &mut self,
        session: SessionId,
        id: u32,
        name: &[u8],
    ) -> Result<Effects<L>, Refusal> {
        let channel = self.find(session, name).ok_or(Refusal::NoChannel)?;
        let owner = self.sessions.get_mut(&session).ok_or(Refusal::NoChannel)?;
        if !owner.channels.remove(&channel) {
            return Err(Refusal::NoChannel);
        }
        let mut effects = Effects::new();
        self.end_channel(channel, &mut effects);
        self.say(session, Say::Success(id), &mut effects);
        Ok(effects)
    }

    /// The list of channels of the session's generation.
    ///
    /// # Errors
    /// It does not fit a packet.
    pub(crate) fn channels(&mut self, session: SessionId) -> Result<Bytes, Refusal> {
        let session = self.sessions.get(&session).ok_or(Refusal::NoChannel)?;
        let generation = session.generation;
        let of_generation = |channel: &&Channel| channel.listed && channel.generation == generation;
        let names = self.channels.values().filter(of_generation).map(|channel| &*channel.name);
        self.listings[generation as usize].body(names).ok_or(Refusal::LongList)
    }

    /// A client is gone, with its channels and its requests.
    pub(crate) fn gone(&mut self, session: SessionId) -> Effects<L> {
        let mut effects = Effects::new();
        let Some(gone) = self.sessions.remove(&session) else { return effects };
        if gone.address.is_none() && !self.guests[gone.generation as usize].remove(&session) {
            self.hosts -= 1;
        }
        for request in gone.waits {
            self.abandon(request, &mut effects);
        }
        for channel in gone.channels {
            self.end_channel(channel, &mut effects);
        }
        for request in gone.asked.into_values() {
            self.fail(request, &mut effects);
        }
        effects
    }

    /// Names given back since the last call.
    pub(crate) fn take_released(&mut self) -> Vec<Held> {
        std::mem::take(&mut self.released)
    }

    /// Names that could not be given back yet.
    pub(crate) fn put_back(&mut self, mut released: Vec<Held>) {
        released.append(&mut self.released);
        self.released = released;
    }

    /// Every channel that is written down.
    pub(crate) fn held(&self) -> Vec<Held> {
        let listed =
            self.channels.iter().filter(|(_, channel)| channel.listed && channel.address.is_some());
        listed
            .map(|(id, channel)| Held {
                generation: channel.generation,
                name: channel.name.clone(),
                channel: *id,
            })
            .collect()
    }

    /// The channel has become another process's: its owner is cut off, which ends all it had.
    pub(crate) fn lose(&mut self, channel: ChannelId) -> Effects<L> {
        let owner = self.channels.get(&channel).map(|channel| channel.owner);
        let mut effects = self.give_up(channel);
        if let Some(owner) = owner {
            self.say(owner, Say::Lost, &mut effects);
        }
        effects
    }

    /// How much there is of everything.
    pub(crate) fn counts(&self) -> Counts {
        let siblings = self.hosts + self.guests.iter().map(BTreeSet::len).sum::<usize>();
        Counts {
            sessions: self.sessions.len() - siblings,
            channels: self.channels.len() - self.mirrored,
            waiting: self.requests.len(),
            channels_elsewhere: self.mirrored,
            asked_elsewhere: self.asked_elsewhere,
            asked_by_others: self.by_guest.len(),
        }
    }

    /// The listed or reserved channel of this name in the session's generation.
    fn find(&self, session: SessionId, name: &[u8]) -> Option<ChannelId> {
        let generation = self.sessions.get(&session)?.generation;
        self.names[generation as usize].get(name).copied()
    }

    /// Forgets a channel that its owner's session no longer lists.
    fn end_channel(&mut self, id: ChannelId, effects: &mut Effects<L>) {
        let Some(channel) = self.channels.remove(&id) else { return };
        self.names[channel.generation as usize].remove(&channel.name);
        match channel.address {
            Some(address) => self.count(address, |held| held.channels -= 1),
            None => self.mirrored -= 1,
        }
        for request in channel.queue {
            self.fail(request, effects);
        }
        if channel.listed {
            self.listings[channel.generation as usize].removed(&channel.name);
            if channel.address.is_none() {
                return;
            }
            self.tell_guests(channel.generation, &Say::Unlisted(channel.name.clone()), effects);
            // Of one that is being written down, whoever writes it down sees to the row.
            let (generation, name) = (channel.generation, channel.name);
            self.released.push(Held { generation, name, channel: id });
        }
    }

    /// Counts what an address holds, and forgets addresses that hold nothing.
    fn count(&mut self, address: LimitKey, change: impl FnOnce(&mut Holdings)) {
        let held = self.addresses.entry(address).or_default();
        change(held);
        if held.channels == 0 && held.requests == 0 {
            self.addresses.remove(&address);
        }
    }

    fn say(&self, session: SessionId, say: Say, effects: &mut Effects<L>) {
        if let Some(session) = self.sessions.get(&session) {
            effects.push((session.line.clone(), say));
        }
    }
}

#[cfg(test)]
mod tests;
