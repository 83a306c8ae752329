//! Channels of other processes, and requests of other processes for ours.
//!
//! To the rules another process is two kinds of sessions, one of each for each generation. As a
//! *host* it owns the channels that are registered there, and answers for their owners. As a
//! *guest* it asks for the channels that are registered here, for its clients.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use super::{Channel, ChannelId, Effects, Generation, Hub, Refusal, Say, SessionId};

/// Guests, and what they send back when they have heard.
pub(crate) type Told = (Vec<SessionId>, u32);

impl<L: Clone> Hub<L> {
    /// Another process is there whose channels may be asked for.
    pub(crate) fn connect_host(&mut self, generation: Generation, line: L) -> SessionId {
        self.hosts += 1;
        self.seat(generation, None, line)
    }

    /// Another process is there that may ask for channels. It hears of all there are.
    pub(crate) fn connect_guest(
        &mut self,
        generation: Generation,
        line: L,
    ) -> (Effects<L>, (SessionId, u32)) {
        let guest = self.seat(generation, None, line);
        let mut effects = Effects::new();
        for channel in self.channels.values() {
            let is_ours = channel.listed && channel.address.is_some();
            if is_ours && channel.generation == generation {
                self.say(guest, Say::Listed(channel.name.clone()), &mut effects);
            }
        }
        self.guests[generation as usize].insert(guest);
        let sync = self.next_sync();
        self.say(guest, Say::Sync(sync), &mut effects);
        (effects, (guest, sync))
    }

    /// Guests hear of a channel that is about to be listed. Returns who they are and what they send
    /// back when they have; `None` when there are none.
    pub(crate) fn announce(&mut self, channel: ChannelId) -> (Effects<L>, Option<Told>) {
        let mut effects = Effects::new();
        let Some(channel) = self.channels.get(&channel) else { return (effects, None) };
        let (generation, name, owner) = (channel.generation, channel.name.clone(), channel.owner);
        self.tell_guests(generation, &Say::Listed(name), &mut effects);
        let told = self.sync_guests_of(owner, &mut effects);
        (effects, told)
    }

    /// Asks the guests of a session's generation to tell when they have heard all before.
    pub(crate) fn sync_guests_of(
        &mut self,
        session: SessionId,
        effects: &mut Effects<L>,
    ) -> Option<Told> {
        let generation = self.sessions.get(&session)?.generation;
        let guests: Vec<_> = self.guests[generation as usize].iter().copied().collect();
        if guests.is_empty() {
            return None;
        }
        let sync = self.next_sync();
        self.tell_guests(generation, &Say::Sync(sync), effects);
        Some((guests, sync))
    }

    /// The channel that guests have heard of does not come to be.
    pub(crate) fn take_back(&self, generation: Generation, name: Arc<[u8]>) -> Effects<L> {
        let mut effects = Effects::new();
        self.tell_guests(generation, &Say::Unlisted(name), &mut effects);
        effects
    }

    /// How many processes ask for our channels.
    pub(crate) fn guest_count(&self) -> usize {
        self.guests[0].len()
    }

    /// A host has a channel. One of our own with its name stays: the database has the last word
    /// about whose it is. Another host's is the older news.
    pub(crate) fn mirror(&mut self, host: SessionId, name: &[u8]) -> Effects<L> {
        let mut effects = Effects::new();
        let Some(session) = self.sessions.get(&host) else { return effects };
        let generation = session.generation;
        if let Some(known) = self.names[generation as usize].get(name).copied() {
            if self.channels.get(&known).is_some_and(|channel| channel.address.is_some()) {
                return effects;
            }
            self.end_mirrored(known, &mut effects);
        }
        if self.mirrored >= self.limits.channels {
            return effects;
        }
        let (id, name) = (ChannelId(self.number()), Arc::<[u8]>::from(name));
        self.mirrored += 1;
        self.names[generation as usize].insert(name.clone(), id);
        self.listings[generation as usize].added(&name);
        if let Some(session) = self.sessions.get_mut(&host) {
            session.channels.insert(id);
        }
        let (listed, waiting, queue) = (true, 0, VecDeque::new());
        let channel =
            Channel { generation, name, owner: host, address: None, listed, waiting, queue };
        self.channels.insert(id, channel);
        effects
    }

    /// A host's channel is no more.
    pub(crate) fn unmirror(&mut self, host: SessionId, name: &[u8]) -> Effects<L> {
        let mut effects = Effects::new();
        let known = self
            .find(host, name)
            .filter(|known| self.channels.get(known).is_some_and(|channel| channel.owner == host));
        if let Some(known) = known {
            self.end_mirrored(known, &mut effects);
        }
        effects
    }

    /// A host has put the request it was sent with `id` to the channel's owner.
    pub(crate) fn accepted(&mut self, host: SessionId, id: u32) -> Effects<L> {
        let mut effects = Effects::new();
        let asked = self.sessions.get(&host).and_then(|host| host.asked.get(&id));
        let Some(request) = asked.and_then(|asked| self.requests.get_mut(asked)) else {
            return effects;
        };
        request.accepted = true;
        let (requester, id, generation) = (request.requester, request.id, request.generation);
        if let (Some(requester), Generation::WebSocket) = (requester, generation) {
            self.say(requester, Say::Success(id), &mut effects);
        }
        effects
    }

    /// A host will not answer the request it was sent with `id`.
    pub(crate) fn unanswered(&mut self, host: SessionId, id: u32) -> Effects<L> {
        let mut effects = Effects::new();
        let asked = self.sessions.get(&host).and_then(|host| host.asked.get(&id)).copied();
        if let Some(asked) = asked {
            self.fail(asked, &mut effects);
        }
        effects
    }

    /// A guest asks for a channel, with an id of its own.
    ///
    /// # Errors
    /// As [`Hub::request`].
    pub(crate) fn request_of_guest(
        &mut self,
        guest: SessionId,
        id: u32,
        name: &[u8],
        now: Instant,
    ) -> Result<Effects<L>, Refusal> {
        let ours = self.find(guest, name).filter(|found| {
            self.channels.get(found).is_some_and(|channel| channel.address.is_some())
        });
        ours.ok_or(Refusal::NoChannel)?;
        self.request(guest, id, name, now)
    }

    /// A guest's client waits no more.
    pub(crate) fn cancel(&mut self, guest: SessionId, id: u32) -> Effects<L> {
        let mut effects = Effects::new();
        if let Some(request) = self.by_guest.get(&(guest, id)).copied() {
            if let Some(guest) = self.sessions.get_mut(&guest) {
                guest.waits.remove(&request);
            }
            self.abandon(request, &mut effects);
        }
        effects
    }

    /// What a session speaks.
    pub(crate) fn generation(&self, session: SessionId) -> Option<Generation> {
        self.sessions.get(&session).map(|session| session.generation)
    }

    /// Whether the name is one of ours.
    pub(crate) fn is_here(&self, generation: Generation, name: &[u8]) -> bool {
        let found = self.names[generation as usize].get(name);
        let channel = found.and_then(|found| self.channels.get(found));
        channel.is_some_and(|channel| channel.address.is_some())
    }

    pub(super) fn tell_guests(&self, generation: Generation, say: &Say, effects: &mut Effects<L>) {
        for guest in &self.guests[generation as usize] {
            self.say(*guest, say.clone(), effects);
        }
    }

    pub(super) fn is_sibling(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|session| session.address.is_none())
    }

    fn end_mirrored(&mut self, id: ChannelId, effects: &mut Effects<L>) {
        let owner = self.channels.get(&id).map(|channel| channel.owner);
        if let Some(owner) = owner.and_then(|owner| self.sessions.get_mut(&owner)) {
            owner.channels.remove(&id);
        }
        self.end_channel(id, effects);
    }

    fn next_sync(&mut self) -> u32 {
        self.last_sync = self.last_sync.wrapping_add(1);
        self.last_sync
    }
}
