//! Requests for pads, from the one who asks to the answer.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use edge::LimitKey;

use super::{ChannelId, Effects, Generation, Hub, Refusal, RequestId, Say, SessionId};

/// Ids for requests of the WebSocket generation start here. Its clients cut ids to 16 bits and count
/// their own from 1, so the upper half of 16 bits is least likely to meet one of theirs.
pub(super) const FIRST_ASKED: u16 = 0x8000;

/// A request without an answer.
pub(super) struct Request {
    /// `None` when it is gone: the slot stays for the answer that was meant for it.
    requester: Option<SessionId>,
    /// The requester's id for it.
    id: u32,
    /// Where the requester came from.
    address: LimitKey,
    owner: SessionId,
    channel: ChannelId,
    /// WebSocket generation: the id the owner was given.
    asked: Option<u16>,
    deadline: Instant,
}

impl<L: Clone> Hub<L> {
    /// `session` asks the owner of the channel `name` for a pad.
    ///
    /// # Errors
    /// No such channel; too many unanswered requests of the session, its address or the channel.
    pub(crate) fn request(
        &mut self,
        session: SessionId,
        id: u32,
        name: &[u8],
        now: Instant,
    ) -> Result<Effects<L>, Refusal> {
        let limits = self.limits;
        let requester = self.sessions.get(&session).ok_or(Refusal::NoChannel)?;
        let (generation, address) = (requester.generation, requester.address);
        let waits = requester.waits.len();
        if generation == Generation::WebSocket && waits > 0 {
            return Err(Refusal::Waiting);
        }
        let found = self.find(session, name).ok_or(Refusal::NoChannel)?;
        let channel = self.channels.get(&found).filter(|channel| channel.listed);
        let channel = channel.ok_or(Refusal::NoChannel)?;
        let from_address = self.addresses.get(&address).map_or(0, |held| held.requests);
        if waits >= limits.requests_per_session
            || from_address >= limits.requests_per_address
            || channel.waiting >= limits.requests_per_channel
        {
            return Err(Refusal::ManyRequests);
        }
        let (owner, name) = (channel.owner, channel.name.clone());
        let request = RequestId(self.number());
        let asked = match generation {
            Generation::WebSocket => Some(self.number_asked(owner, request)?),
            Generation::Encrypted => None,
        };
        let deadline = now + limits.time_to_answer;
        let made = Request {
            requester: Some(session),
            id,
            address,
            owner,
            channel: found,
            asked,
            deadline,
        };
        self.requests.insert(request, made);
        self.count(address, |held| held.requests += 1);
        if let Some(channel) = self.channels.get_mut(&found) {
            channel.waiting += 1;
            if asked.is_none() {
                channel.queue.push_back(request);
            }
        }
        if let Some(requester) = self.sessions.get_mut(&session) {
            requester.waits.insert(request);
        }
        Ok(self.ask(session, owner, asked, id, name))
    }

    fn ask(
        &self,
        session: SessionId,
        owner: SessionId,
        asked: Option<u16>,
        id: u32,
        name: Arc<[u8]>,
    ) -> Effects<L> {
        let mut effects = Effects::new();
        self.say(owner, Say::Asked(asked.map_or(0, u32::from), name), &mut effects);
        if asked.is_some() {
            // Clients that ask for a pad of their own channel rely on this coming second.
            self.say(session, Say::Success(id), &mut effects);
        }
        effects
    }

    /// The next id that `owner` has not been given for another unanswered request.
    fn number_asked(&mut self, owner: SessionId, request: RequestId) -> Result<u16, Refusal> {
        let owner = self.sessions.get_mut(&owner).ok_or(Refusal::NoChannel)?;
        if owner.asked.len() > usize::from(u16::MAX - FIRST_ASKED) {
            return Err(Refusal::ManyRequests);
        }
        loop {
            owner.last_asked = owner.last_asked.checked_add(1).unwrap_or(FIRST_ASKED);
            if let std::collections::btree_map::Entry::Vacant(free) =
                owner.asked.entry(owner.last_asked)
            {
                free.insert(request);
                return Ok(owner.last_asked);
            }
        }
    }

    /// WebSocket generation: `session` answers the request it was sent with `id`.
    ///
    /// # Errors
    /// It was sent no such request, or the requester is gone.
    pub(crate) fn answer(
        &mut self,
        session: SessionId,
        id: u32,
        body: Bytes,
    ) -> Result<Effects<L>, Refusal> {
        let owner = self.sessions.get(&session).ok_or(Refusal::NotAsked)?;
        let asked = u16::try_from(id).ok().and_then(|id| owner.asked.get(&id));
        self.deliver(*asked.ok_or(Refusal::NotAsked)?, session, (id, 0), body)
    }

    /// Encrypted generation: `session` answers the oldest request for its channel `name`.
    ///
    /// # Errors
    /// The channel is not the session's, nobody waits for it, or who did is gone.
    pub(crate) fn answer_oldest(
        &mut self,
        session: SessionId,
        id: u32,
        name: &[u8],
        body: Bytes,
    ) -> Result<Effects<L>, Refusal> {
        let channel = self.find(session, name).ok_or(Refusal::NoChannel)?;
        let channel = self.channels.get(&channel).filter(|channel| channel.owner == session);
        let oldest = channel.ok_or(Refusal::NoChannel)?.queue.front().copied();
        let oldest = oldest.ok_or(Refusal::NotAsked)?;
        let theirs = self.requests.get(&oldest).map_or(0, |request| request.id);
        self.deliver(oldest, session, (id, theirs), body)
    }

    /// Ends `request` with an answer. `ids`: the answer's own, and the one it is passed on with.
    fn deliver(
        &mut self,
        request: RequestId,
        owner: SessionId,
        ids: (u32, u32),
        body: Bytes,
    ) -> Result<Effects<L>, Refusal> {
        let request = self.end_request(request).ok_or(Refusal::NotAsked)?;
        let requester = request.requester.ok_or(Refusal::NotAsked)?;
        let mut effects = Effects::new();
        self.say(requester, Say::Answered(ids.1, body), &mut effects);
        self.say(owner, Say::Success(ids.0), &mut effects);
        Ok(effects)
    }

    /// Ends the requests whose time is over. Returns how many, and what to tell.
    ///
    /// The slot of an encrypted request goes too: its owner seems not to answer at all, and
    /// a slot kept for ever would take every later answer from the one it is meant for.
    pub(crate) fn expire(&mut self, now: Instant) -> (usize, Effects<L>) {
        let (mut expired, mut effects) = (0, Effects::new());
        while let Some((id, request)) = self.requests.first_key_value() {
            if request.deadline > now {
                break;
            }
            let id = *id;
            self.fail(id, &mut effects);
            expired += 1;
        }
        (expired, effects)
    }

    /// Ends `request` and tells its requester that there will be no pad.
    pub(super) fn fail(&mut self, request: RequestId, effects: &mut Effects<L>) {
        let Some(request) = self.end_request(request) else { return };
        if let Some(requester) = request.requester {
            let id = if request.asked.is_some() { 0 } else { request.id };
            self.say(requester, Say::Unanswered(id), effects);
        }
    }

    /// The requester is gone. Where answers name their request, the request goes too.
    pub(super) fn abandon(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.requester = None;
        if request.asked.is_some() {
            self.end_request(id);
        }
    }

    fn end_request(&mut self, id: RequestId) -> Option<Request> {
        let request = self.requests.remove(&id)?;
        self.count(request.address, |held| held.requests -= 1);
        if let Some(requester) = request.requester.and_then(|one| self.sessions.get_mut(&one)) {
            requester.waits.remove(&id);
        }
        if let Some(owner) = self.sessions.get_mut(&request.owner)
            && let Some(asked) = request.asked
        {
            owner.asked.remove(&asked);
        }
        if let Some(channel) = self.channels.get_mut(&request.channel) {
            channel.waiting -= 1;
            // Almost always the oldest: answers and deadlines go in order.
            if let Some(place) = channel.queue.iter().position(|queued| *queued == id) {
                channel.queue.remove(place);
            }
        }
        Some(request)
    }
}
