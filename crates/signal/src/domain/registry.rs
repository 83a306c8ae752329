//! Who holds which peer id.
//!
//! Two kinds of lock. A peer's place is in one of many shards; forwarding a signal takes one shard
//! for a lookup and nothing else. Whatever changes presence takes the roster first and shards
//! inside it, so that presence events, snapshots and places agree in their order.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
};

use edge::ws::Frame;
use parking_lot::Mutex;
use proto::signal::{PeerId, Subscription, encode};
use uuid::Uuid;

use super::{
    line::Line,
    replay::{Budget, Replay},
    roster::{Leaver, Roster, SnapshotBounds, Window},
    seat::{Delivery, Kept, Place, Seat},
};

mod elsewhere;

pub(crate) use elsewhere::{Appearance, Row};

const SHARDS: usize = 64;

/// Close code of a replaced session, and its reason.
const REPLACED: (u16, &str) = (4001, "Session replaced");

/// What the registry holds at most, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) snapshot: SnapshotBounds,
    /// Departed peers remembered.
    pub(crate) max_departed: usize,
    /// Time to come back with a resume token, in milliseconds; 0 hands out no tokens.
    pub(crate) resume_window_ms: i64,
    /// Signals kept per resumable session.
    pub(crate) resume_frames: usize,
    /// Bytes kept per resumable session.
    pub(crate) resume_bytes: usize,
    /// Bytes kept for all resumable sessions together.
    pub(crate) resume_total_bytes: usize,
}

type Shard<L> = Mutex<HashMap<PeerId, Place<L>>>;

/// All peers of this process.
pub(crate) struct Registry<L: Line> {
    shards: Box<[Shard<L>]>,
    roster: Mutex<Roster<L>>,
    feed: L::Feed,
    bounds: Bounds,
    budget: Arc<Budget>,
    /// This process; part of every token, so that any replica knows whom to ask.
    node: Uuid,
}

/// A register whose proof is good and whose commit is done.
pub(crate) struct Arrival<'a, L> {
    pub(crate) peer: PeerId,
    pub(crate) session: Uuid,
    pub(crate) generation: i64,
    pub(crate) socket: u64,
    pub(crate) line: L,
    /// The socket has registered before, and so follows the presence log already.
    pub(crate) follows: bool,
    /// Whether a resume token is wanted.
    pub(crate) resumable: bool,
    /// Token of an earlier session, and the last signal received in it.
    pub(crate) resume: Option<(&'a [u8], Option<&'a [u8]>)>,
}

/// What a register led to.
#[derive(Debug)]
pub(crate) struct Arrived<L> {
    pub(crate) seat: Arc<Seat<L>>,
    /// Another socket lost the peer.
    pub(crate) replaced: bool,
    /// A later register was faster: this one is the replaced one.
    pub(crate) outrun: bool,
    /// Signals of an earlier session were continued; how many it had missed.
    pub(crate) resumed: Option<usize>,
    /// How long the peer had been away, in milliseconds.
    pub(crate) away_ms: Option<i64>,
}

impl<L: Line> Registry<L> {
    pub(crate) fn new(feed: L::Feed, bounds: Bounds, node: Uuid) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            roster: Mutex::new(Roster::new(bounds.max_departed)),
            feed,
            bounds,
            budget: Budget::new(bounds.resume_total_bytes),
            node,
        }
    }

    fn shard(&self, peer: &[u8]) -> &Shard<L> {
        // Spreads locks, nothing else: who makes all ids fall on one only shares a lock with himself.
        let mix = |sum: usize, byte: &u8| sum.wrapping_mul(31).wrapping_add(usize::from(*byte));
        let tail = &peer[peer.len().saturating_sub(12)..];
        &self.shards[tail.iter().fold(peer.len(), mix) % SHARDS]
    }

    /// Passes a signal to the peer whose JSON text is `to`.
    pub(crate) fn forward(&self, to: &[u8], frame: &Frame) -> Delivery {
        // A seat may be lost between the lookup and the sending: then the peer is looked up again,
        // so that a signal in the middle of a takeover reaches the new session.
        let mut kept_by: Option<Arc<Seat<L>>> = None;
        for _ in 0..3 {
            let seat = match self.shard(to).lock().get(to) {
                Some(Place::Here(seat)) => seat.clone(),
                Some(Place::There(there)) if there.moving.is_none() => {
                    return Delivery::Elsewhere(there.node);
                }
                Some(place @ (Place::Away { .. } | Place::There(_))) => {
                    let Some(kept) = place.kept() else { return Delivery::NotFound };
                    let earlier = kept_by.as_ref().and_then(|seat| seat.resume.as_ref());
                    let already = earlier.is_some_and(|earlier| Arc::ptr_eq(earlier, kept));
                    let kept = already || kept.replay.lock().missed(frame);
                    return if kept { Delivery::Kept } else { Delivery::NotFound };
                }
                None => return Delivery::NotFound,
            };
            let delivery = seat.deliver(frame);
            if delivery == Delivery::Sent || seat.is_live() {
                return delivery;
            }
            kept_by = (delivery == Delivery::Kept).then_some(seat);
        }
        Delivery::NotFound
    }

    /// Seats a session: whoever held the peer is told and closed, the newcomer is acknowledged
    /// with what `ack` makes of its token, and everybody else hears that the peer is online.
    pub(crate) fn arrive(
        &self,
        arrival: Arrival<'_, L>,
        now_ms: i64,
        ack: impl FnOnce(Option<&str>, Option<bool>) -> Frame,
    ) -> Arrived<L> {
        let mut roster = self.roster.lock();
        let mut shard = self.shard(arrival.peer.json()).lock();
        let before = shard.get(&arrival.peer);
        let (asked, follows) = (arrival.resume.is_some(), arrival.follows);
        let resumed = arrival.resume.and_then(|(token, after)| {
            let kept = before?.kept()?;
            kept.opens_to(token).then(|| kept.replay.lock().take(after))
        });
        let held = match before {
            Some(Place::Here(seat)) => Some(seat.clone()),
            _ => None,
        };
        // Who has the peer, online, and its place in the order.
        let holder = match before {
            Some(Place::Here(seat)) => Some((seat.generation, seat.order)),
            Some(Place::There(there)) if there.online => Some((there.generation, there.order)),
            _ => None,
        };
        let outrun = holder.is_some_and(|(generation, _)| generation > arrival.generation);
        let own = held.as_ref().filter(|seat| seat.socket == arrival.socket).is_some();
        let order = holder.map_or(arrival.generation.cast_unsigned(), |(_, order)| order);
        let seat = Arc::new(self.seat(arrival, order, !outrun));
        if outrun {
            drop((shard, roster));
            seat.line.send(&ack(None, asked.then_some(false)));
            seat.line.send(&Frame::text(encode::session_replaced()));
            seat.line.close(REPLACED.0, REPLACED.1);
            return Arrived { seat, replaced: false, outrun, resumed: None, away_ms: None };
        }
        if let Some(old) = &held {
            old.live.store(false, Ordering::Release);
            if !own {
                replace(old, &mut roster);
            }
        } else {
            roster.here += 1;
        }
        if holder.is_none() {
            roster.online.insert(order, seat.peer.clone());
        }
        let away_ms = roster.departed.remove(&seat.peer).map(|left_ms| now_ms - left_ms);
        roster.changed();
        let token = seat.resume.as_ref().map(|kept| kept.token.as_str());
        seat.line.send(&ack(token, asked.then_some(resumed.is_some())));
        let missed = resumed.as_ref().map(Vec::len);
        // Under the shard's lock: nobody can send a newer signal before the missed ones.
        resumed.unwrap_or_default().iter().for_each(|frame| {
            seat.deliver(frame);
        });
        shard.insert(seat.peer.clone(), Place::Here(seat.clone()));
        drop(shard);
        let position = roster.announce(&self.feed, &seat.peer, None, seat.socket);
        if follows {
            seat.line.skip(position);
        } else if !roster.is_watching(seat.socket) {
            seat.line.follow(&self.feed, L::end(&self.feed));
        }
        Arrived { seat, replaced: held.is_some() && !own, outrun, resumed: missed, away_ms }
    }

    fn seat(&self, arrival: Arrival<'_, L>, order: u64, live: bool) -> Seat<L> {
        let wants = arrival.resumable && self.bounds.resume_window_ms > 0;
        let kept = || {
            let Bounds { resume_frames, resume_bytes, .. } = self.bounds;
            let replay = Replay::new(resume_frames, resume_bytes, self.budget.clone());
            let token = format!("{}{}", self.node.simple(), Uuid::new_v4().simple());
            Arc::new(Kept { token, replay: Mutex::new(replay) })
        };
        Seat {
            peer: arrival.peer,
            session: arrival.session,
            generation: arrival.generation,
            socket: arrival.socket,
            line: arrival.line,
            order,
            resume: wants.then(kept),
            live: AtomicBool::new(live),
        }
    }

    /// Ends a session whose socket is over. A session that was replaced has nothing to end.
    /// `silent` is for an id that its own socket gave up for another. `true` when others were told.
    pub(crate) fn leave(&self, seat: &Arc<Seat<L>>, now_ms: i64, silent: bool) -> bool {
        let mut roster = self.roster.lock();
        roster.unwatch(seat.socket);
        if !seat.live.swap(false, Ordering::AcqRel) {
            return false;
        }
        let mut shard = self.shard(seat.peer.json()).lock();
        match &seat.resume {
            Some(kept) => {
                let place = Place::Away { session: seat.session, kept: kept.clone() };
                shard.insert(seat.peer.clone(), place);
                let until_ms = now_ms + self.bounds.resume_window_ms;
                let (peer, session) = (seat.peer.clone(), seat.session);
                roster.windows.push_back(Window { until_ms, peer, session });
            }
            None => {
                shard.remove(&seat.peer);
            }
        }
        drop(shard);
        roster.here -= 1;
        roster.online.remove(&seat.order);
        roster.departed.insert(seat.peer.clone(), now_ms);
        let (peer, session) = (seat.peer.clone(), seat.session);
        let kept = seat.resume.is_some();
        roster.leavers.push(Leaver { peer, session, at_ms: now_ms, kept });
        roster.changed();
        if !silent {
            roster.announce(&self.feed, &seat.peer, Some(now_ms), seat.socket);
        }
        !silent
    }

    /// Follows what a socket asked to hear of, and answers with how those peers are now.
    pub(crate) fn subscribe(&self, seat: &Seat<L>, wish: Subscription, now_ms: i64) {
        let mut roster = self.roster.lock();
        if !seat.is_live() {
            return;
        }
        let frame = match &wish {
            Subscription::Everyone => {
                let (online, departed) = roster.shown(&self.bounds.snapshot, now_ms);
                encode::presence_snapshot(online, departed)
            }
            Subscription::Peers(peers) => {
                let is_here = |peer: &&PeerId| self.is_online(peer);
                let left = |peer| roster.departed.get(peer).map(|at_ms| (peer, at_ms));
                encode::presence_snapshot(
                    peers.iter().filter(is_here),
                    peers.iter().filter_map(left),
                )
            }
        };
        match wish {
            Subscription::Everyone => {
                roster.unwatch(seat.socket);
                seat.line.follow(&self.feed, L::end(&self.feed));
            }
            Subscription::Peers(peers) => {
                seat.line.unfollow();
                roster.watch(seat.socket, &seat.line, peers);
            }
        }
        seat.line.send(&Frame::text(frame));
    }

    /// See [`Roster::peers`]. The flag tells whether the snapshot was built for this call.
    pub(crate) fn peers(&self, now_ms: i64, force: bool) -> Result<(Frame, bool), i64> {
        self.roster.lock().peers(&self.bounds.snapshot, now_ms, force)
    }

    /// Whether a peer is connected, here or elsewhere.
    pub(crate) fn is_online(&self, peer: &PeerId) -> bool {
        match self.shard(peer.json()).lock().get(peer) {
            Some(Place::Here(_)) => true,
            Some(Place::There(there)) => there.online,
            Some(Place::Away { .. }) | None => false,
        }
    }

    /// How many peers are connected to this process.
    pub(crate) fn online(&self) -> usize {
        self.roster.lock().here
    }

    /// How many peers are online at all replicas.
    pub(crate) fn known(&self) -> usize {
        self.roster.lock().online.len()
    }

    /// Whether anybody who left may still come back with a token.
    pub(crate) fn awaits_anybody(&self) -> bool {
        self.roster.lock().windows.iter().any(|window| {
            let shard = self.shard(window.peer.json()).lock();
            matches!(shard.get(&window.peer), Some(Place::Away { session, .. }) if *session == window.session)
        })
    }

    /// Ends resume windows and forgets who left long ago.
    pub(crate) fn expire(&self, now_ms: i64) {
        let mut roster = self.roster.lock();
        while roster.windows.front().is_some_and(|window| window.until_ms <= now_ms) {
            let Some(Window { peer, session, .. }) = roster.windows.pop_front() else { break };
            let mut shard = self.shard(peer.json()).lock();
            let ended = |place: &Place<L>| match place {
                Place::Away { session: away, .. } => *away == session,
                Place::There(there) => !there.online && there.session == session,
                Place::Here(_) => false,
            };
            if shard.get(&peer).is_some_and(ended) {
                shard.remove(&peer);
            }
        }
        roster.departed.expire(now_ms - self.bounds.snapshot.departed_age_ms);
    }

    /// Notes peers that left while nobody here could see it, oldest first.
    pub(crate) fn note_departed(&self, departed: impl IntoIterator<Item = (PeerId, i64)>) {
        let mut roster = self.roster.lock();
        for (peer, at_ms) in departed {
            if !self.is_online(&peer) {
                roster.departed.insert(peer, at_ms);
            }
        }
        roster.changed();
    }

    /// Sends a frame to whoever holds the peer whose JSON text is `peer`, if that is here.
    pub(crate) fn answer(&self, peer: &[u8], frame: &Frame) {
        if let Some(Place::Here(seat)) = self.shard(peer).lock().get(peer) {
            seat.line.send(frame);
        }
    }

    /// Takes the leavers the store has not been told of.
    pub(crate) fn take_leavers(&self) -> Vec<Leaver> {
        std::mem::take(&mut self.roster.lock().leavers)
    }

    /// All seats, for the store to be told again.
    pub(crate) fn seats(&self) -> Vec<Arc<Seat<L>>> {
        let seats = |shard: &Shard<L>| {
            let here = |place: &Place<L>| match place {
                Place::Here(seat) => Some(seat.clone()),
                Place::Away { .. } | Place::There(_) => None,
            };
            shard.lock().values().filter_map(here).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(seats).collect()
    }
}

/// Tells a session that it lost its peer; what it sends from now on is ignored.
fn replace<L: Line>(old: &Seat<L>, roster: &mut Roster<L>) {
    roster.unwatch(old.socket);
    old.line.unfollow();
    old.line.send(&Frame::text(encode::session_replaced()));
    old.line.close(REPLACED.0, REPLACED.1);
}

#[cfg(test)]
mod tests;
