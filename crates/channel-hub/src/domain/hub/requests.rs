//! Requests for pads, from the one who asks to the answer.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use edge::LimitKey;

use super::{ChannelId, Effects, Generation, Hub, Refusal, RequestId, Say, SessionId};

/// Ids for requests of the WebSocket generation start here. Its clients cut ids to 16 bits and count
/// their own from 1, so the upper half of 16 bits is least likely to meet one of theirs.
pub(super) const FIRST_ASKED: u32 = 0x8000;
/// The last of them.
const LAST_ASKED: u32 = u16::MAX as u32;

/// A request without an answer.
pub(super) struct Request {
    /// `None` when it is gone: the slot stays for the answer that was meant for it.
    pub(super) requester: Option<SessionId>,
    /// The requester's id for it.
    pub(super) id: u32,
    pub(super) generation: Generation,
    /// Where the requester came from; `None` for another process, which counts for itself.
    address: Option<LimitKey>,
    /// Whether the requester is another process.
    of_guest: bool,
    /// Whether the owner is.
    to_host: bool,
    owner: SessionId,
    channel: ChannelId,
    /// The id the owner was given, where its answers name one.
    asked: Option<u32>,
    /// The owner has been told. One at another process has been when that process says so.
    pub(super) accepted: bool,
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
        // What another process lets its clients have it has counted itself.
        let waits = address.map_or(0, |_| requester.waits.len());
        if generation == Generation::WebSocket && waits > 0 {
            return Err(Refusal::Waiting);
        }
        let found = self.find(session, name).ok_or(Refusal::NoChannel)?;
        let channel = self.channels.get(&found).filter(|channel| channel.listed);
        let channel = channel.ok_or(Refusal::NoChannel)?;
        let held = address.and_then(|address| self.addresses.get(&address));
        let from_address = held.map_or(0, |held| held.requests);
        if waits >= limits.requests_per_session
            || from_address >= limits.requests_per_address
            || channel.waiting >= limits.requests_per_channel
        {
            return Err(Refusal::ManyRequests);
        }
        let (owner, name) = (channel.owner, channel.name.clone());
        let accepted = channel.address.is_some();
        let request = RequestId(self.number());
        let asked = match generation {
            Generation::Encrypted if accepted => None,
            _ => Some(self.number_asked(owner, request)?),
        };
        let deadline = now + limits.time_to_answer;
        let made = Request {
            requester: Some(session),
            id,
            generation,
            address,
            of_guest: address.is_none(),
            to_host: !accepted,
            owner,
            channel: found,
            asked,
            accepted,
            deadline,
        };
        self.asked_elsewhere += usize::from(!accepted);
        self.requests.insert(request, made);
        match address {
            Some(address) => self.count(address, |held| held.requests += 1),
            None => drop(self.by_guest.insert((session, id), request)),
        }
        if let Some(channel) = self.channels.get_mut(&found) {
            channel.waiting += 1;
            if asked.is_none() {
                channel.queue.push_back(request);
            }
        }
        if let Some(requester) = self.sessions.get_mut(&session) {
            requester.waits.insert(request);
        }
        Ok(self.ask((session, id), (owner, asked), accepted, name))
    }

    fn ask(
        &self,
        (session, id): (SessionId, u32),
        (owner, asked): (SessionId, Option<u32>),
        accepted: bool,
        name: Arc<[u8]>,
    ) -> Effects<L> {
        let mut effects = Effects::new();
        self.say(owner, Say::Asked(asked.unwrap_or(0), name), &mut effects);
        if accepted && (asked.is_some() || self.is_sibling(session)) {
            // Clients that ask for a pad of their own channel rely on this coming second.
            self.say(session, Say::Success(id), &mut effects);
        }
        effects
    }

    /// The next id that `owner` has not been given for another unanswered request.
    fn number_asked(&mut self, owner: SessionId, request: RequestId) -> Result<u32, Refusal> {
        let owner = self.sessions.get_mut(&owner).ok_or(Refusal::NoChannel)?;
        let (first, last) = match owner.address {
            Some(_) => (FIRST_ASKED, LAST_ASKED),
            None => (1, u32::MAX),
        };
        if owner.asked.len() > (last - first) as usize {
            return Err(Refusal::ManyRequests);
        }
        loop {
            let next = owner.last_asked.checked_add(1).filter(|next| *next <= last);
            owner.last_asked = next.unwrap_or(first);
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
        let asked = *owner.asked.get(&id).ok_or(Refusal::NotAsked)?;
        self.deliver(asked, session, id, body)
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
        self.deliver(oldest, session, id, body)
    }

    /// Ends `request` with the answer of this id.
    fn deliver(
        &mut self,
        request: RequestId,
        owner: SessionId,
        id: u32,
        body: Bytes,
    ) -> Result<Effects<L>, Refusal> {
        let request = self.end_request(request).ok_or(Refusal::NotAsked)?;
        let requester = request.requester.ok_or(Refusal::NotAsked)?;
        let mut effects = Effects::new();
        self.say(requester, Say::Answered(request.answered_with(), body), &mut effects);
        self.say(owner, Say::Success(id), &mut effects);
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
            let say = match request.accepted {
                true => Say::Unanswered(request.answered_with()),
                false => Say::Error(request.id),
            };
            self.say(requester, say, effects);
        }
    }

    /// The requester is gone. Where answers name their request, the request goes too.
    pub(super) fn abandon(&mut self, id: RequestId, effects: &mut Effects<L>) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let (requester, owner) = (request.requester.take(), request.owner);
        if let (true, Some(guest)) = (request.of_guest, requester) {
            self.by_guest.remove(&(guest, request.id));
        }
        if let Some(asked) = request.asked {
            self.end_request(id);
            if self.is_sibling(owner) {
                self.say(owner, Say::Cancelled(asked), effects);
            }
        }
    }

    fn end_request(&mut self, id: RequestId) -> Option<Request> {
        let request = self.requests.remove(&id)?;
        self.asked_elsewhere -= usize::from(request.to_host);
        if let Some(address) = request.address {
            self.count(address, |held| held.requests -= 1);
        }
        if let (true, Some(guest)) = (request.of_guest, request.requester) {
            self.by_guest.remove(&(guest, request.id));
        }
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

impl Request {
    /// The id the requester is answered with. Answers of the WebSocket generation carry none that
    /// means anything; another process goes by its own.
    fn answered_with(&self) -> u32 {
        if self.of_guest || self.generation == Generation::Encrypted { self.id } else { 0 }
    }
}
