//! The shell around the rules: asks the store, decides, tells.

mod shared_names;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use pg::{GroupCommit, Holding, Lease, Sibling};
use sqlx::PgPool;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use self::shared_names::SharedNames;
use super::{
    event::{ClientId, Effect, Event, Name},
    line::Line,
    meter::Meter,
    pads::{Limits, Namespace, PadId, PadKey, Pads},
    seat::{Origin, Seat},
};
use crate::metrics::Metrics;

/// How long a link request waits for the database to say where a pad is.
const LOCATE: Duration = Duration::from_secs(1);
/// Pauses after which a name is tried again that another process has.
const GIVING_BACK: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(60), Duration::from_millis(150)];

/// Everything the clients of one process share.
pub(crate) struct Desk<L: Line> {
    state: Mutex<State<L>>,
    next_client: AtomicU64,
    next_shared_name: AtomicU64,
    shared_names: SharedNames<L>,
    pub(super) pool: PgPool,
    pub(super) lease: Lease,
    registers: GroupCommit<Holding, bool>,
    meter: Meter,
    pub(super) metrics: Arc<Metrics>,
    /// The database answers. While it does not, nobody is made to wait for it.
    pub(super) storage_up: AtomicBool,
    /// Told when there is something to give back.
    pub(super) released: Notify,
}

struct State<L> {
    pads: Pads,
    seats: HashMap<ClientId, Arc<Seat<L>>>,
    /// The seats that are other processes', with the process.
    siblings: HashMap<ClientId, Node>,
    /// Pads to give back to the database. No more than were registered or in use by HTTP before it
    /// went away.
    releases: VecDeque<Holding>,
    effects: Vec<Effect>,
}

/// A pad at another process that a client here asks for.
pub(crate) struct Elsewhere {
    /// Where it is.
    pub(crate) sibling: Sibling,
    /// What it is called.
    pub(crate) key: PadKey,
    /// What the client's own pad is called.
    pub(crate) requester: Name,
}

/// Another process, as its lease names it.
pub(crate) type Node = [u8; 16];

impl<L: Line> Desk<L> {
    pub(crate) fn new(
        limits: Limits,
        (pool, lease): (PgPool, Lease),
        registers: GroupCommit<Holding, bool>,
        (meter, metrics): (Meter, Arc<Metrics>),
    ) -> Self {
        let state = State {
            pads: Pads::new(limits),
            seats: HashMap::new(),
            siblings: HashMap::new(),
            releases: VecDeque::new(),
            effects: Vec::new(),
        };
        Self {
            state: Mutex::new(state),
            next_client: AtomicU64::new(1),
            next_shared_name: AtomicU64::new(1),
            shared_names: SharedNames::default(),
            pool,
            lease,
            registers,
            meter,
            metrics,
            storage_up: AtomicBool::new(true),
            released: Notify::new(),
        }
    }

    /// Seats a client that has connected.
    pub(crate) fn open(&self, namespace: Namespace, origin: Origin, line: L) -> Arc<Seat<L>> {
        self.seat(namespace, Some(origin), line, |_, _| {})
    }

    /// Seats the process `node`, which stands for one of its pads.
    pub(crate) fn open_sibling(&self, key: PadKey, line: L, node: Node) -> Arc<Seat<L>> {
        let seat = self.seat(key.namespace, None, line, |state, client| {
            state.siblings.insert(client, node);
        });
        self.decide(self.state.lock(), |pads, out| pads.stand_for(seat.client, key, out));
        seat
    }

    fn seat(
        &self,
        namespace: Namespace,
        origin: Option<Origin>,
        line: L,
        note: impl FnOnce(&mut State<L>, ClientId),
    ) -> Arc<Seat<L>> {
        let client = ClientId(self.next_client.fetch_add(1, Ordering::Relaxed));
        let seat = Arc::new(Seat::new(client, namespace, origin, line));
        let mut state = self.state.lock();
        state.seats.insert(client, seat.clone());
        note(&mut state, client);
        seat
    }

    /// A client is gone: its pad is free, whoever it was linked to is told.
    pub(crate) fn gone(&self, seat: &Seat<L>) {
        let mut state = self.state.lock();
        state.seats.remove(&seat.client);
        state.siblings.remove(&seat.client);
        self.decide(state, |pads, out| pads.gone(seat.client, out));
    }

    /// Registers a pad, here and in the database.
    pub(crate) async fn register(&self, seat: &Seat<L>, id: u32, name: &[u8]) {
        let Some(Origin { address, .. }) = &seat.origin else { return self.refuse(seat, id) };
        if !self.storage_up.load(Ordering::Relaxed) {
            return self.refuse(seat, id);
        }
        let key = PadKey { namespace: seat.namespace, name: Name::from(name) };
        let digest = key.digest();
        let reserved = self.decide(self.state.lock(), |pads, out| {
            pads.reserve(seat.client, id, key, *address, out)
        });
        let Some(reserved) = reserved else { return };
        let held = Holding { digest, number: reserved.0 };
        // Dropped here when the client leaves, which gives the pad back; see `reconcile`.
        let mut taken = self.registers.write(held.clone()).await;
        // Another process may be about to tell that it has given the name back.
        for pause in GIVING_BACK {
            if !matches!(taken, Ok(false)) {
                break;
            }
            sleep(pause).await;
            taken = self.registers.write(held.clone()).await;
        }
        if let Err(why) = &taken {
            tracing::debug!(%why, "pad not registered");
        }
        let now = Instant::now();
        self.decide(self.state.lock(), |pads, out| match taken {
            Ok(true) if pads.confirm(reserved, id, now, out) => self.metrics.registered.inc(),
            Ok(true) => {}
            // After an error the row may be there all the same: it is given back either way.
            Ok(false) | Err(_) => pads.cancel(reserved, id, out),
        });
    }

    /// Gives back what was written for pads that are gone already: their own giving back may have
    /// come before the writing.
    pub(crate) fn reconcile(&self, written: &[Holding]) {
        let mut state = self.state.lock();
        for held in written {
            if !state.pads.contains(PadId(held.number)) {
                state.releases.push_back(held.clone());
                self.released.notify_one();
            }
        }
    }

    /// Gives the client's pad back.
    pub(crate) fn unregister(&self, seat: &Seat<L>, id: u32) {
        self.decide(self.state.lock(), |pads, out| pads.unregister(seat.client, id, out));
    }

    /// Asks for a link to the pad of that name. When it is at another process nothing is said yet:
    /// that one has to be asked, and [`Desk::asked_elsewhere`] or [`Desk::refuse`] called then.
    pub(crate) async fn link(
        &self,
        seat: &Seat<L>,
        id: u32,
        requestee: &[u8],
        secret: &Bytes,
    ) -> Option<Elsewhere> {
        let requestee = Name::from(requestee);
        let key = PadKey { namespace: seat.namespace, name: requestee.clone() };
        let Some(sibling) = self.locate(&key).await else {
            self.link_here(seat, id, requestee, secret.clone());
            return None;
        };
        let requester = self.state.lock().pads.may_ask(seat.client, &requestee, secret);
        if requester.is_some() {
            self.metrics.elsewhere.inc();
        } else {
            self.refuse(seat, id);
        }
        requester.map(|requester| Elsewhere { sibling, key, requester })
    }

    /// As [`Desk::link`], to a pad of this process.
    pub(crate) fn link_here(&self, seat: &Seat<L>, id: u32, requestee: Name, secret: Bytes) {
        let now = Instant::now();
        self.decide(self.state.lock(), |pads, out| {
            pads.link(seat.client, id, (requestee, secret), now, out);
        });
    }

    /// The process at `there` has put the client's request to the pad it stands for.
    pub(crate) fn asked_elsewhere(&self, seat: &Seat<L>, id: u32, there: &Seat<L>, secret: Bytes) {
        let now = Instant::now();
        self.decide(self.state.lock(), |pads, out| {
            pads.asked_elsewhere(seat.client, id, there.client, secret, now, out);
        });
    }

    /// Takes the answer to a link request.
    pub(crate) fn answer(&self, seat: &Seat<L>, id: u32, requester: &[u8], ok: bool) {
        self.decide(self.state.lock(), |pads, out| {
            pads.answer(seat.client, id, requester, ok, out);
        });
    }

    /// Ends the client's link.
    pub(crate) fn unlink(&self, seat: &Seat<L>, id: u32) {
        self.decide(self.state.lock(), |pads, out| pads.unlink(seat.client, id, out));
    }

    /// Passes payload of `bytes` bytes on; waits as long as the client should not be read. `false`
    /// when it is not linked.
    pub(crate) async fn pass(&self, seat: &Seat<L>, payload: L::Payload, bytes: usize) -> bool {
        if let Some(Origin { payer, .. }) = &seat.origin {
            self.meter.spend(payer, bytes).await;
        }
        let passed = seat.pass(payload).await;
        if passed {
            self.metrics.passed_packets.inc();
            self.metrics.passed_bytes.inc_by(bytes as u64);
        }
        passed
    }

    /// Refuses a request.
    pub(crate) fn refuse(&self, seat: &Seat<L>, id: u32) {
        seat.line.tell(&Event::Answer { id, ok: false });
    }

    /// This process, as its siblings name it.
    pub(crate) fn node(&self) -> Node {
        self.lease.id().into_bytes()
    }

    /// What each identity may send.
    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Ends requests that are due.
    pub(super) fn expire(&self) {
        let state = self.state.lock();
        let now = Instant::now();
        if state.pads.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.decide(state, |pads, out| pads.expire(now, out));
        }
    }

    /// What the database has to be told, at most `count` of it.
    pub(super) fn take_releases(&self, count: usize) -> Vec<Holding> {
        let mut state = self.state.lock();
        let count = count.min(state.releases.len());
        state.releases.drain(..count).collect()
    }

    /// Puts back what the database could not be told.
    pub(super) fn put_back(&self, releases: Vec<Holding>) {
        let mut state = self.state.lock();
        for held in releases.into_iter().rev() {
            state.releases.push_front(held);
        }
        let waiting = i64::try_from(state.releases.len()).unwrap_or(i64::MAX);
        self.metrics.releases_waiting.set(waiting);
    }

    /// Every registered pad, with its client.
    pub(super) fn held(&self) -> Vec<(Holding, ClientId)> {
        let state = self.state.lock();
        let pads = state.pads.registered_pads();
        pads.map(|(pad, client, digest)| (Holding { digest, number: pad.0 }, client)).collect()
    }

    /// Ends the connection of a client whose pad's name is another's now.
    pub(super) fn evict(&self, client: ClientId) {
        self.metrics.pads_lost.inc();
        if let Some(seat) = self.state.lock().seats.get(&client) {
            seat.line.close();
        }
    }

    /// Ends the connections with processes that do not live any more.
    pub(super) fn forsake(&self, living: &[Sibling]) {
        let state = self.state.lock();
        for (client, node) in &state.siblings {
            let lives = living.iter().any(|sibling| sibling.node == *node);
            if let Some(seat) = state.seats.get(client).filter(|_| !lives) {
                seat.line.kill();
            }
        }
    }

    /// Whether nobody is connected and nothing is left to be said to the database.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.seats.is_empty() && state.releases.is_empty()
    }

    /// The process where a pad is that is not here. Asks the database, unless it is away.
    async fn locate(&self, key: &PadKey) -> Option<Sibling> {
        if !self.storage_up.load(Ordering::Relaxed) || self.state.lock().pads.is_here(key) {
            return None;
        }
        let digest = key.digest();
        let asked = timeout(LOCATE, self.lease.holder(&self.pool, &digest)).await;
        asked.ok()?.ok()?
    }

    /// Lets the rules decide and does what follows, all under one lock: what clients are told comes
    /// in the order it was decided.
    fn decide<T>(
        &self,
        mut state: MutexGuard<'_, State<L>>,
        rule: impl FnOnce(&mut Pads, &mut Vec<Effect>) -> T,
    ) -> T {
        let mut effects = std::mem::take(&mut state.effects);
        let decided = rule(&mut state.pads, &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(&mut state, effect);
        }
        state.effects = effects;
        let (pads, links, requests) = state.pads.counts();
        let metrics = &self.metrics;
        let gauges =
            [(&metrics.pads, pads), (&metrics.links, links), (&metrics.requests, requests)];
        for (gauge, value) in gauges {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        decided
    }

    fn carry_out(&self, state: &mut State<L>, effect: Effect) {
        match effect {
            Effect::Tell(client, event) => {
                match &event {
                    Event::Granted { .. } => self.metrics.granted.inc(),
                    Event::Denied { .. } => self.metrics.denied.inc(),
                    _ => {}
                }
                if let Some(seat) = state.seats.get(&client) {
                    seat.line.tell(&event);
                }
            }
            Effect::Join(one, other) => {
                if let (Some(one), Some(other)) = (state.seats.get(&one), state.seats.get(&other)) {
                    one.join(&other.line);
                    other.join(&one.line);
                }
            }
            Effect::Part(one, other) => {
                for client in [one, other] {
                    if let Some(seat) = state.seats.get(&client) {
                        seat.part();
                    }
                }
            }
            Effect::Release(pad, digest) => {
                state.releases.push_back(Holding { digest, number: pad.0 });
                self.released.notify_one();
            }
            Effect::Limited(limit) => self.metrics.limited(limit),
        }
    }
}
