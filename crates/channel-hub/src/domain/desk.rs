//! The shell around the rules: asks the database, lets the hub decide, tells.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use edge::LimitKey;
use parking_lot::Mutex;
use pg::{GroupCommit, Holding, Lease, Sibling};
use service::Context;
use sqlx::PgPool;
use tokio::{
    sync::{Notify, oneshot, watch},
    time::{sleep, timeout},
};

use super::hub::{ChannelId, Effects, Generation, Held, Hub, Limits, Refusal, Say, SessionId};
use crate::{metrics::Metrics, store};

/// The way to one client.
pub(crate) trait Line: Clone + Send + Sync + 'static {
    /// Queues what the client is told; never blocks. [`Say::Lost`] ends the connection.
    fn tell(&self, say: Say);
}

/// Everything the clients of one process share.
///
/// One mutex guards the hub. What clients are told is queued while it is held, so that everybody
/// hears things in the order in which they were decided.
pub(crate) struct Desk<L> {
    hub: Mutex<Hub<L>>,
    pub(super) pool: PgPool,
    pub(super) lease: Lease,
    registers: GroupCommit<Holding, bool>,
    pub(super) metrics: Metrics,
    /// Whether the database answers; registers are refused at once while it does not.
    pub(super) storage_up: AtomicBool,
    /// Told when there is a name to give back.
    pub(super) released: Notify,
    /// What each process that asks for our channels has heard of: the last `Sync` it sent back.
    heard: Mutex<HashMap<SessionId, watch::Sender<u32>>>,
    cx: Context,
}

/// A session of another process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair {
    /// Of each generation, by its number.
    pub(crate) sessions: [SessionId; 2],
}

impl Pair {
    /// The session of a generation.
    pub(crate) fn of(&self, generation: Generation) -> SessionId {
        self.sessions[generation as usize]
    }
}

impl<L: Line> Desk<L> {
    pub(crate) fn new(
        limits: Limits,
        (pool, lease): (PgPool, Lease),
        registers: GroupCommit<Holding, bool>,
        metrics: Metrics,
        cx: &Context,
    ) -> Self {
        let hub = Mutex::new(Hub::new(limits));
        Self {
            hub,
            pool,
            lease,
            registers,
            metrics,
            storage_up: AtomicBool::new(true),
            released: Notify::new(),
            heard: Mutex::default(),
            cx: cx.clone(),
        }
    }

    /// A client is there.
    pub(crate) fn connect(&self, generation: Generation, address: LimitKey, line: L) -> SessionId {
        self.hub.lock().connect(generation, address, line)
    }

    /// A client is gone.
    pub(crate) fn gone(&self, session: SessionId) {
        self.decide(|hub| hub.gone(session));
        self.released.notify_one();
    }

    /// Registers a channel, here and in the database.
    ///
    /// # Errors
    /// As [`Hub::take`]; also when another process has the name or the database is away.
    pub(crate) async fn register(
        self: &Arc<Self>,
        session: SessionId,
        id: u32,
        name: &[u8],
    ) -> Result<(), Refusal> {
        let mut outcome = self.try_register(session, id, name).await;
        // Another process may be about to tell that it has given the name back.
        for pause in GIVING_BACK {
            if outcome != Err(Refusal::Taken) || !self.may_be_elsewhere(session, name) {
                break;
            }
            sleep(pause).await;
            outcome = self.try_register(session, id, name).await;
        }
        outcome
    }

    async fn try_register(
        self: &Arc<Self>,
        session: SessionId,
        id: u32,
        name: &[u8],
    ) -> Result<(), Refusal> {
        if !self.storage_up.load(Ordering::Relaxed) {
            return Err(Refusal::Storage);
        }
        let held = self.hub.lock().take(session, &name.into())?;
        let (answer, answered) = oneshot::channel();
        let desk = self.clone();
        // A task of its own: the client may leave meanwhile, and the row has to be seen to all the same.
        self.cx.spawn("register", async move {
            let _ = answer.send(desk.write_down(held, id).await);
        });
        answered.await.unwrap_or(Err(Refusal::Storage))
    }

    async fn write_down(&self, held: Held, id: u32) -> Result<(), Refusal> {
        let channel = held.channel;
        let outcome = match self.registers.write(row(&held)).await {
            Ok(true) => {
                self.announce(channel).await;
                self.decide(|hub| match hub.list(channel, id) {
                    Some(effects) => (effects, Ok(())),
                    None => {
                        let effects = hub.take_back(held.generation, held.name.clone());
                        hub.put_back(vec![held]);
                        (effects, Err(Refusal::NoChannel))
                    }
                })
            }
            Ok(false) => {
                self.decide(|hub| hub.give_up(channel));
                Err(Refusal::Taken)
            }
            Err(why) => {
                tracing::debug!(%why, "channel not registered");
                self.decide(|hub| {
                    let effects = hub.give_up(channel);
                    hub.put_back(vec![held]); // the row may be there all the same
                    effects
                });
                Err(Refusal::Storage)
            }
        };
        if outcome.is_ok() {
            self.metrics.registered.inc();
        }
        self.released.notify_one();
        outcome
    }

    /// Waits until the other processes know of a channel: its owner may tell anybody about it as
    /// soon as its register is answered. One that does not answer hears of it all the same.
    async fn announce(&self, channel: ChannelId) {
        if let Some((guests, sync)) = self.decide(|hub| hub.announce(channel)) {
            self.heard_by(&guests, sync, ANNOUNCE).await;
        }
    }

    /// Waits until `guests` have sent `sync` back, or are gone, or for as long as `limit`.
    async fn heard_by(&self, guests: &[SessionId], sync: u32, limit: Duration) {
        let receivers: Vec<_> = {
            let heard = self.heard.lock();
            guests
                .iter()
                .filter_map(|guest| heard.get(guest).map(watch::Sender::subscribe))
                .collect()
        };
        let all = async {
            for mut receiver in receivers {
                // Numbers may start anew after the last one.
                let _ = receiver.wait_for(|heard| heard.wrapping_sub(sync) < u32::MAX / 2).await;
            }
        };
        if timeout(limit, all).await.is_err() {
            self.metrics.unheard.inc();
        }
    }

    fn may_be_elsewhere(&self, session: SessionId, name: &[u8]) -> bool {
        let hub = self.hub.lock();
        hub.generation(session).is_some_and(|of| !hub.is_here(of, name))
    }

    /// Another process is there, whose channels may be asked for. `line` leads to it, for each
    /// generation.
    pub(crate) fn connect_host(&self, line: impl Fn(Generation) -> L) -> Pair {
        let mut hub = self.hub.lock();
        Pair { sessions: Generation::BOTH.map(|of| hub.connect_host(of, line(of))) }
    }

    /// Another process is there that may ask for channels.
    pub(crate) fn connect_guest(&self, line: impl Fn(Generation) -> L) -> Pair {
        let sessions = Generation::BOTH.map(|of| {
            let line = line(of);
            self.decide(|hub| {
                let (effects, (guest, sync)) = hub.connect_guest(of, line);
                self.heard.lock().insert(guest, watch::Sender::new(sync.wrapping_sub(1)));
                (effects, guest)
            })
        });
        Pair { sessions }
    }

    /// A guest has sent a `Sync` back.
    pub(crate) fn heard(&self, guest: SessionId, sync: u32) {
        if let Some(heard) = self.heard.lock().get(&guest) {
            heard.send_replace(sync);
        }
    }

    /// Another process is gone.
    pub(crate) fn part(&self, pair: Pair) {
        for session in pair.sessions {
            self.heard.lock().remove(&session);
            self.gone(session);
        }
    }

    /// What a host says about its channels and about what it was asked.
    pub(crate) fn hear_host(&self, host: SessionId, news: News<'_>) {
        let outcome = self.decide(|hub| match news {
            News::Listed(name) => (hub.mirror(host, name), Ok(())),
            News::Unlisted(name) => (hub.unmirror(host, name), Ok(())),
            News::Accepted(id) => (hub.accepted(host, id), Ok(())),
            News::Unanswered(id) => (hub.unanswered(host, id), Ok(())),
            News::Answered(id, body) => match hub.answer(host, id, body) {
                Ok(effects) => (effects, Ok(())),
                Err(why) => (Effects::new(), Err(why)),
            },
        });
        // Whoever asked may have left in the meantime.
        if outcome.is_err() {
            tracing::trace!("an answer from another process that nobody waits for");
        }
    }

    /// A guest asks for a channel on behalf of a client.
    ///
    /// # Errors
    /// As [`Hub::request_of_guest`].
    pub(crate) fn request_of_guest(
        &self,
        guest: SessionId,
        id: u32,
        name: &[u8],
    ) -> Result<(), Refusal> {
        self.decide(|hub| hub.request_of_guest(guest, id, name, Instant::now()))
    }

    /// A guest's client waits no more.
    pub(crate) fn cancel(&self, guest: SessionId, id: u32) {
        self.decide(|hub| hub.cancel(guest, id));
    }

    /// Every other living process that can be reached.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn siblings(&self) -> Result<Vec<Sibling>, pg::Error> {
        self.lease.siblings(&self.pool).await
    }

    /// This process, as its siblings name it.
    pub(crate) fn node(&self) -> [u8; 16] {
        self.lease.id().into_bytes()
    }

    /// How many processes ask for our channels.
    pub(crate) fn guests(&self) -> usize {
        self.hub.lock().guest_count()
    }

    /// Ends a channel; answers when the other processes have heard of it.
    ///
    /// # Errors
    /// As [`Hub::unregister`].
    pub(crate) async fn unregister(
        &self,
        session: SessionId,
        id: u32,
        name: &[u8],
    ) -> Result<(), Refusal> {
        let ended = self.decide(|hub| match hub.unregister(session, id, name) {
            Ok(mut effects) => {
                let answer = effects.pop();
                let guests = hub.sync_guests_of(session, &mut effects);
                (effects, Ok((answer, guests)))
            }
            Err(why) => (Effects::new(), Err(why)),
        });
        self.released.notify_one();
        let (answer, guests) = ended?;
        if let Some((guests, sync)) = guests {
            self.heard_by(&guests, sync, ANNOUNCE).await;
        }
        if let Some((line, say)) = answer {
            line.tell(say);
        }
        Ok(())
    }

    /// The list of channels, as it goes over the wire.
    ///
    /// # Errors
    /// As [`Hub::channels`].
    pub(crate) fn channels(&self, session: SessionId) -> Result<Bytes, Refusal> {
        self.hub.lock().channels(session)
    }

    /// Asks a channel's owner for a pad.
    ///
    /// # Errors
    /// As [`Hub::request`].
    pub(crate) fn request(&self, session: SessionId, id: u32, name: &[u8]) -> Result<(), Refusal> {
        self.decide(|hub| hub.request(session, id, name, Instant::now()))?;
        self.metrics.requests.inc();
        Ok(())
    }

    /// Passes an answer on, of the WebSocket generation.
    ///
    /// # Errors
    /// As [`Hub::answer`].
    pub(crate) fn answer(&self, session: SessionId, id: u32, body: Bytes) -> Result<(), Refusal> {
        self.decide(|hub| hub.answer(session, id, body))?;
        self.metrics.answered.inc();
        Ok(())
    }

    /// Passes an answer on, of the encrypted generation.
    ///
    /// # Errors
    /// As [`Hub::answer_oldest`].
    pub(crate) fn answer_oldest(
        &self,
        session: SessionId,
        id: u32,
        name: &[u8],
        body: Bytes,
    ) -> Result<(), Refusal> {
        self.decide(|hub| hub.answer_oldest(session, id, name, body))?;
        self.metrics.answered.inc();
        Ok(())
    }

    /// Counts a refusal.
    pub(crate) fn refused(&self, why: Refusal) {
        self.metrics.refuse(why);
    }

    /// Ends requests whose time is over.
    pub(super) fn expire(&self) {
        let expired = self.decide(|hub| {
            let (expired, effects) = hub.expire(Instant::now());
            (effects, expired)
        });
        self.metrics.expired.inc_by(expired as u64);
    }

    /// Rows to be deleted.
    pub(super) fn take_releases(&self) -> Vec<Held> {
        self.hub.lock().take_released()
    }

    /// Rows that could not be deleted.
    pub(super) fn put_back(&self, releases: Vec<Held>) {
        self.hub.lock().put_back(releases);
    }

    /// Every channel with a row.
    pub(super) fn held(&self) -> Vec<Held> {
        self.hub.lock().held()
    }

    /// The name is another process's now.
    pub(super) fn lose(&self, channel: ChannelId) {
        self.metrics.channels_lost.inc();
        self.decide(|hub| hub.lose(channel));
    }

    /// Gives back the rows among `held` whose channels have ended.
    pub(super) fn give_back_ended(&self, held: &[Held]) {
        let mut hub = self.hub.lock();
        let ended = held.iter().filter(|one| !hub.has(one.channel)).cloned().collect();
        hub.put_back(ended);
    }

    /// Whether nobody is connected.
    pub(super) fn is_empty(&self) -> bool {
        self.hub.lock().counts().sessions == 0
    }

    /// Decides under the lock and tells before it is given back.
    fn decide<D: Decision<L>>(&self, rule: impl FnOnce(&mut Hub<L>) -> D) -> D::Outcome {
        let mut hub = self.hub.lock();
        let (effects, outcome) = rule(&mut hub).split();
        for (line, say) in effects {
            if matches!(say, Say::Unanswered(_)) {
                self.metrics.unanswered.inc();
            }
            line.tell(say);
        }
        self.metrics.count(hub.counts());
        outcome
    }
}

/// What a process says whose channels may be asked for.
pub(crate) enum News<'a> {
    /// It has the channel of this name.
    Listed(&'a [u8]),
    /// It has it no more.
    Unlisted(&'a [u8]),
    /// The request of this id has been put to the owner.
    Accepted(u32),
    /// The request of this id will not be answered.
    Unanswered(u32),
    /// The owner's answer to the request of this id.
    Answered(u32, Bytes),
}

/// What is to be told, and what the caller wants to know besides.
trait Decision<L> {
    type Outcome;
    fn split(self) -> (Effects<L>, Self::Outcome);
}

impl<L> Decision<L> for Effects<L> {
    type Outcome = ();
    fn split(self) -> (Effects<L>, ()) {
        (self, ())
    }
}

impl<L, T> Decision<L> for (Effects<L>, T) {
    type Outcome = T;
    fn split(self) -> Self {
        self
    }
}

impl<L> Decision<L> for Result<Effects<L>, Refusal> {
    type Outcome = Result<(), Refusal>;
    fn split(self) -> (Effects<L>, Result<(), Refusal>) {
        match self {
            Ok(effects) => (effects, Ok(())),
            Err(why) => (Effects::new(), Err(why)),
        }
    }
}

/// The row that stands for a registration.
pub(super) fn row(held: &Held) -> Holding {
    store::row(held.generation as u8, &held.name, held.channel.0)
}

/// How long a register waits for the database before it is refused.
pub(crate) const REGISTER_WITHIN: Duration = Duration::from_secs(1);

/// How long a register waits until the other processes have heard of the channel.
const ANNOUNCE: Duration = Duration::from_millis(500);
/// Pauses after which a name is tried again that another process may be giving back.
const GIVING_BACK: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(60), Duration::from_millis(150)];
