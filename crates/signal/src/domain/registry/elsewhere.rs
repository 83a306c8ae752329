//! Peers at other replicas: what is heard of them, and what the shared table says.

use std::collections::HashSet;

use super::*;
use crate::{domain::seat::There, store::session::Seated};

/// Socket number of nobody: an event about a peer elsewhere concerns every socket here.
const NO_SOCKET: u64 = u64::MAX;

/// A session at another replica.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Appearance {
    pub(crate) node: Uuid,
    pub(crate) session: Uuid,
    pub(crate) generation: i64,
}

/// A row of the shared table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) peer: PeerId,
    pub(crate) at: Appearance,
}

impl From<Seated> for Row {
    fn from(held: Seated) -> Self {
        let Seated { peer, node, session, generation } = held;
        Self { peer: PeerId::from_wtf8(&peer), at: Appearance { node, session, generation } }
    }
}

/// How it is known that a peer registered elsewhere.
#[derive(Clone, Copy, Debug)]
enum Known<'a> {
    /// Its replica says so.
    Told,
    /// Its replica asks for what this token stands for.
    Asked(&'a [u8]),
    /// The table said so to a look that began at this time, in milliseconds.
    Read(i64),
}

/// Signals that were kept, and how many of them were handed to the connection that is gone.
pub(crate) type Handed = (Vec<Frame>, usize);

impl<L: Line> Registry<L> {
    /// Notes that a peer registered elsewhere. A session here that is older loses it. `true` when one did.
    pub(crate) fn appear(&self, peer: &PeerId, at: Appearance) -> bool {
        self.appear_as(peer, at, Known::Told).0
    }

    /// As [`Registry::appear`], and takes the signals that `token` stands for: from then on what
    /// comes for the peer goes there.
    pub(crate) fn hand_over(&self, peer: &PeerId, at: Appearance, token: &[u8]) -> Option<Handed> {
        self.appear_as(peer, at, Known::Asked(token)).1
    }

    /// As [`Registry::appear`], for what a look at the table found that began at `began_ms`. What the bus
    /// is needed for is left to it: a peer that left meanwhile, and one whose signals are kept here, which
    /// its replica may be about to ask for.
    pub(crate) fn discover(&self, peer: &PeerId, at: Appearance, began_ms: i64) -> bool {
        self.appear_as(peer, at, Known::Read(began_ms)).0
    }

    fn appear_as(&self, peer: &PeerId, at: Appearance, known: Known<'_>) -> (bool, Option<Handed>) {
        let mut roster = self.roster.lock();
        let mut shard = self.shard(peer.json()).lock();
        let place = shard.get(peer);
        let is_known = match place {
            Some(Place::Here(seat)) => seat.generation > at.generation,
            Some(Place::There(there)) => {
                there.generation > at.generation || (there.session == at.session && there.online)
            }
            Some(Place::Away { .. }) | None => false,
        };
        let is_left_to_the_bus = match known {
            Known::Read(began_ms) => {
                place.is_some_and(|place| place.kept().is_some())
                    || roster.departed.get(peer).is_some_and(|left_ms| left_ms >= began_ms)
            }
            Known::Told | Known::Asked(_) => false,
        };
        if is_known || is_left_to_the_bus {
            return (false, None);
        }
        let handed = match known {
            Known::Asked(token) => place
                .and_then(Place::kept)
                .filter(|kept| kept.opens_to(token))
                .map(|kept| kept.replay.lock().take_all()),
            Known::Told | Known::Read(_) => None,
        };
        let (held, order) = match place {
            Some(Place::Here(seat)) => (Some(seat.clone()), Some(seat.order)),
            Some(Place::There(there)) if there.online => (None, Some(there.order)),
            _ => (None, None),
        };
        if let Some(seat) = &held {
            seat.live.store(false, Ordering::Release);
            replace(seat, &mut roster);
            roster.here -= 1;
        }
        let order = order.unwrap_or_else(|| {
            let order = at.generation.cast_unsigned();
            roster.online.insert(order, peer.clone());
            order
        });
        roster.departed.remove(peer);
        roster.changed();
        let Appearance { node, session, generation } = at;
        let there = There { node, session, generation, order, online: true, moving: None };
        shard.insert(peer.clone(), Place::There(there));
        drop(shard);
        roster.announce(&self.feed, peer, None, NO_SOCKET);
        (held.is_some(), handed)
    }

    /// Notes that a session elsewhere is over; with `kept` it may be resumed there. `true` when that was
    /// news.
    pub(crate) fn vanish(&self, peer: &PeerId, session: Uuid, at_ms: i64, kept: bool) -> bool {
        let mut roster = self.roster.lock();
        let mut shard = self.shard(peer.json()).lock();
        let there = match shard.get_mut(peer) {
            Some(Place::There(there)) if there.session == session && there.online => there,
            _ => return false,
        };
        let order = there.order;
        if kept || there.moving.is_some() {
            there.online = false;
            let until_ms = at_ms + self.bounds.resume_window_ms;
            roster.windows.push_back(Window { until_ms, peer: peer.clone(), session });
        } else {
            shard.remove(peer);
        }
        drop(shard);
        roster.online.remove(&order);
        roster.departed.insert(peer.clone(), at_ms);
        roster.changed();
        roster.announce(&self.feed, peer, Some(at_ms), NO_SOCKET);
        true
    }

    /// Keeps what another replica handed over for a register here that is about to be seated, and
    /// whatever arrives until it is.
    pub(crate) fn adopt(&self, peer: &PeerId, token: &str, handed: &Handed, now_ms: i64) {
        let mut roster = self.roster.lock();
        let mut shard = self.shard(peer.json()).lock();
        let Bounds { resume_frames, resume_bytes, resume_window_ms, .. } = self.bounds;
        let mut replay = Replay::new(resume_frames, resume_bytes, self.budget.clone());
        replay.refill(&handed.0, handed.1);
        let kept = Arc::new(Kept { token: token.to_owned(), replay: Mutex::new(replay) });
        match shard.get_mut(peer) {
            Some(Place::There(there)) => there.moving = Some(kept),
            // Somebody else was faster; the token is for whoever comes after.
            Some(Place::Here(_)) => {}
            Some(Place::Away { .. }) | None => {
                let session = Uuid::new_v4();
                shard.insert(peer.clone(), Place::Away { session, kept });
                let until_ms = now_ms + resume_window_ms;
                roster.windows.push_back(Window { until_ms, peer: peer.clone(), session });
            }
        }
    }

    /// Makes what is known of other replicas what the shared table says, but for `touched`, the sessions
    /// that were heard of while it was read. How many sessions here turned out to be replaced.
    pub(crate) fn reconcile(&self, rows: &[Row], touched: &HashSet<Uuid>, now_ms: i64) -> usize {
        let mut replaced = 0;
        let mut present = HashSet::with_capacity(rows.len());
        for row in rows.iter().filter(|row| row.at.node != self.node) {
            present.insert(row.at.session);
            if !touched.contains(&row.at.session) {
                replaced += usize::from(self.appear(&row.peer, row.at));
            }
        }
        for (peer, session) in self.elsewhere() {
            // Ids that are not strings are in no table.
            let is_gone = !present.contains(&session) && !touched.contains(&session);
            if is_gone && peer.wtf8().is_some() {
                self.vanish(&peer, session, now_ms, false);
            }
        }
        replaced
    }

    /// The peers online elsewhere.
    fn elsewhere(&self) -> Vec<(PeerId, Uuid)> {
        let there = |shard: &Shard<L>| {
            let online = |(peer, place): (&PeerId, &Place<L>)| match place {
                Place::There(there) if there.online => Some((peer.clone(), there.session)),
                _ => None,
            };
            shard.lock().iter().filter_map(online).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(there).collect()
    }
}
