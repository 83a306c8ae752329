//! The shell around the rules: asks the database, lets the hub decide, tells.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use edge::LimitKey;
use parking_lot::Mutex;
use pg::{GroupCommit, Holding, Lease};
use service::Context;
use sqlx::PgPool;
use tokio::sync::{Notify, oneshot};

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
    cx: Context,
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
            Ok(true) => self.decide(|hub| match hub.list(channel, id) {
                Some(effects) => (effects, Ok(())),
                None => {
                    hub.put_back(vec![held]);
                    (Effects::new(), Err(Refusal::NoChannel))
                }
            }),
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

    /// Ends a channel.
    ///
    /// # Errors
    /// As [`Hub::unregister`].
    pub(crate) fn unregister(
        &self,
        session: SessionId,
        id: u32,
        name: &[u8],
    ) -> Result<(), Refusal> {
        self.decide(|hub| hub.unregister(session, id, name))?;
        self.released.notify_one();
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
        self.hub.lock().counts()[0] == 0
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
