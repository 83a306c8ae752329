//! Where requests are decided: the rules, with the store and the pins behind them.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use edge::{
    LimitKey,
    limit::Keyed,
    meter::Limiter,
    ws::{Frame, Outbox},
};
use identity::{Key, Pins, Proof};
use pg::GroupCommit;
use proto::{
    sign::KeyCache,
    signal::{Code, Refusal, Register, RequestId, Resume, Rules, Signal, Subscription, encode},
};
use service::Clock;
use sqlx::PgPool;
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    exchange::{Exchange, complaint},
    ice::IceServers,
    line::Line,
    registry::{Arrival, Registry},
    seat::{Delivery, Seat},
    waiting::Waiting,
};
use crate::{
    metrics::Metrics,
    store::{
        self,
        session::{NewSession, Outcome},
    },
};

/// Decides what becomes of requests. One per process, shared by all sockets.
pub(crate) struct Desk {
    pub(crate) registry: Registry<Outbox>,
    pub(crate) exchange: Exchange,
    pub(crate) waiting: Waiting<Outbox>,
    pub(crate) metrics: Metrics,
    pub(crate) limiter: Limiter,
    /// Registrations by address.
    pub(crate) register_rate: Option<Keyed>,
    pub(crate) rules: Rules,
    pub(crate) clock: Clock,
    pub(crate) pool: PgPool,
    pub(crate) registers: GroupCommit<NewSession, Outcome>,
    pub(crate) pins: Pins,
    pub(crate) keys: KeyCache,
    pub(crate) ice: Option<IceServers>,
    /// JSON object for `register_ack.payload.source`.
    pub(crate) source: Vec<u8>,
    pub(crate) max_peers: usize,
    pub(crate) max_subscribed: usize,
    /// Cleared while the database is known to be away: registers are refused at once.
    pub(crate) storage_up: AtomicBool,
    pub(crate) sockets: AtomicU64,
}

/// Who asks to register, and from where.
pub(crate) struct Applicant<'a> {
    pub(crate) socket: u64,
    pub(crate) line: &'a Outbox,
    pub(crate) address: &'a LimitKey,
    /// What the socket holds already.
    pub(crate) seat: Option<&'a Arc<Seat<Outbox>>>,
}

const UNAVAILABLE: Refusal = Refusal::new(Code::Unavailable, "storage unavailable, retry");

const fn refuse(message: &'static str) -> Refusal {
    Refusal::new(Code::InvalidRegisterAuth, message)
}

impl Desk {
    /// Numbers a new socket and begins its deadline.
    pub(crate) fn open(&self, line: &Outbox) -> u64 {
        let socket = self.sockets.fetch_add(1, Ordering::Relaxed);
        self.waiting.enter(socket, line, self.clock.now_ms());
        socket
    }

    /// Registers a socket: proof, pin, commit, seat; in this order, so that nothing is burned or
    /// announced for a register that is refused.
    ///
    /// # Errors
    /// The refusal to send: checks 13 to 15 of the protocol, and our own.
    pub(crate) async fn register(
        &self,
        ask: &Register<'_>,
        applicant: &Applicant<'_>,
    ) -> Result<Arc<Seat<Outbox>>, Refusal> {
        self.admit(ask, applicant)?;
        let key = match ask.verify(&self.keys, &self.rules) {
            Ok(key) => Key::from(*key.as_bytes()),
            Err(refusal) => return Err(self.nonce_or(ask, refusal).await),
        };
        let peer = ask.peer.wtf8().map(Cow::into_owned);
        if let Some(peer) = &peer {
            match self.pins.claim(peer, &key, Proof::Register).await {
                Ok(true) => {}
                Ok(false) => {
                    return Err(self
                        .nonce_or(ask, refuse("peerId is pinned to another key"))
                        .await);
                }
                Err(identity::Error::PeerLength) => {
                    return Err(Refusal::new(Code::InvalidRegister, "peerId is too long"));
                }
                Err(identity::Error::Storage(why)) => return Err(unavailable(&why)),
            }
        }
        let session = Uuid::new_v4();
        let (nonce, forget_at_ms) = (ask.nonce_digest(), ask.forget_at_ms());
        let new = NewSession { peer, session, nonce, forget_at_ms };
        // Meanwhile: a peer that is acknowledged has heard of all that were before it asked.
        let (written, ()) = tokio::join!(self.registers.write(new), self.catch_up());
        match written {
            Ok(Outcome::Seated { generation }) => {
                if let Resume::Token { token, .. } = &ask.resume {
                    let token = token.as_bytes();
                    self.exchange.resume(&ask.peer, token, session, generation).await;
                }
                let seat = self.seat(ask, applicant, session, generation);
                if seat.is_live() {
                    self.exchange.online(&seat);
                }
                Ok(seat)
            }
            Ok(Outcome::NonceUsed) => Err(refuse("nonce already used")),
            Err(why) => Err(unavailable(&why)),
        }
    }

    /// Refuses what needs no look at the proof.
    fn admit(&self, ask: &Register<'_>, applicant: &Applicant<'_>) -> Result<(), Refusal> {
        let holds_another = applicant.seat.is_some_and(|seat| seat.peer != ask.peer);
        if holds_another && !self.pins.policy().is_open() {
            let message = "socket is registered as another peer";
            return Err(Refusal::new(Code::InvalidRegister, message));
        }
        if let Some(rate) = &self.register_rate {
            rate.check(applicant.address, 1).map_err(rate_limited)?;
        }
        let full = self.registry.online() >= self.max_peers && applicant.seat.is_none();
        if full && !self.registry.is_online(&ask.peer) {
            return Err(Refusal::new(Code::RateLimited, "server is full, retry later"));
        }
        if self.storage_up.load(Ordering::Relaxed) { Ok(()) } else { Err(UNAVAILABLE) }
    }

    /// The protocol names a used nonce before anything wrong with key or signature.
    async fn nonce_or(&self, ask: &Register<'_>, refusal: Refusal) -> Refusal {
        match store::nonce::is_used(&self.pool, &ask.nonce_digest()).await {
            Ok(true) => refuse("nonce already used"),
            Ok(false) => refusal,
            Err(why) => {
                tracing::debug!(%why, "nonce not looked up");
                refusal
            }
        }
    }

    fn seat(
        &self,
        ask: &Register<'_>,
        applicant: &Applicant<'_>,
        session: Uuid,
        generation: i64,
    ) -> Arc<Seat<Outbox>> {
        let now_ms = self.clock.now_ms();
        let arrival = Arrival {
            peer: ask.peer.clone(),
            session,
            generation,
            socket: applicant.socket,
            line: applicant.line.clone(),
            follows: applicant.seat.is_some(),
            resumable: ask.resume != Resume::No,
            resume: match &ask.resume {
                Resume::Token { token, after } => {
                    Some((token.as_bytes(), after.as_ref().map(|after| after.as_bytes())))
                }
                Resume::No | Resume::Fresh => None,
            },
        };
        let tried_to_resume = arrival.resume.is_some();
        let wanted = self.ice.as_ref().filter(|_| ask.wants_ice_servers);
        let ice_servers = wanted.map(|ice| ice.for_peer(&ask.peer, now_ms));
        let arrived = self.registry.arrive(arrival, now_ms, |session_id, resumed| {
            Frame::text(encode::register_ack(&encode::Ack {
                peer: &ask.peer,
                session_id,
                resumed,
                source: &self.source,
                ice_servers: ice_servers.as_deref(),
            }))
        });
        self.waiting.leave(applicant.socket);
        let metrics = &self.metrics;
        metrics.acks.inc();
        metrics.presence_events.inc();
        metrics.online.set(i64::try_from(self.registry.online()).unwrap_or(i64::MAX));
        if arrived.replaced || arrived.outrun {
            metrics.replaced.inc();
        }
        if let Some(away_ms) = arrived.away_ms {
            metrics
                .recovery_seconds
                .observe(Duration::from_millis(away_ms.max(0).unsigned_abs()).as_secs_f64());
        }
        match arrived.resumed {
            Some(missed) => {
                metrics.resumed.inc();
                metrics.resumed_signals.inc_by(missed as u64);
            }
            None if tried_to_resume => metrics.resume_missed.inc(),
            None => {}
        }
        arrived.seat
    }

    /// Passes a signal on; `false` when nothing here knows its peer.
    pub(crate) fn forward(
        &self,
        signal: &Signal<'_>,
        from: &Seat<Outbox>,
        id: &RequestId<'_>,
    ) -> bool {
        let capacity = encode::ENVELOPE + signal.payload.text().len();
        let frame = Frame::text_with(capacity, |out| encode::signal(signal.payload, out));
        match self.registry.forward(&signal.to(), &frame) {
            Delivery::Sent => self.metrics.forwarded.inc(),
            Delivery::Kept => self.metrics.kept.inc(),
            Delivery::Elsewhere(node)
                if self.exchange.signal(
                    node,
                    signal,
                    &from.peer,
                    complaint(signal, id),
                    &frame,
                ) =>
            {
                self.metrics.passed_on.inc();
            }
            Delivery::Elsewhere(_) | Delivery::NotFound => return false,
        }
        true
    }

    /// Refuses a signal whose peer is nowhere: `PEER_NOT_FOUND`.
    pub(crate) fn not_found(&self, signal: &Signal<'_>) -> Refusal {
        self.metrics.not_found.inc();
        signal.not_found()
    }

    /// Whether a look at the shared table could show a peer that nothing here knows.
    pub(crate) fn can_look(&self) -> bool {
        self.storage_up.load(Ordering::Relaxed) && self.exchange.has_siblings()
    }

    /// Learns of everybody whom another replica has acknowledged by now.
    pub(crate) async fn catch_up(&self) {
        if self.can_look() {
            self.exchange.catch_up().await;
        }
    }

    /// The snapshot of all peers; waits when the last one was built a moment ago.
    pub(crate) async fn peers(&self) -> Frame {
        self.catch_up().await;
        let mut snapshot = self.registry.peers(self.clock.now_ms(), false);
        if let Err(wait_ms) = snapshot {
            sleep(Duration::from_millis(wait_ms.max(0).unsigned_abs())).await;
            snapshot = self.registry.peers(self.clock.now_ms(), true);
        }
        let (frame, built) = snapshot.expect("a forced snapshot is always given");
        self.metrics.snapshots_sent.inc();
        if built {
            self.metrics.snapshots_built.inc();
        }
        frame
    }

    /// Changes whom a peer hears of.
    pub(crate) fn subscribe(&self, seat: &Seat<Outbox>, wish: Subscription) {
        self.registry.subscribe(seat, wish, self.clock.now_ms());
    }

    /// Ends a socket and everything it held; `seats` in order of registration.
    pub(crate) fn close(&self, socket: u64, seats: &[Arc<Seat<Outbox>>]) {
        let Some((newest, older)) = seats.split_last() else {
            self.metrics.probes.inc();
            self.waiting.leave(socket);
            return;
        };
        let now_ms = self.clock.now_ms();
        for seat in older {
            self.registry.leave(seat, now_ms, true);
        }
        if self.registry.leave(newest, now_ms, false) {
            self.metrics.presence_events.inc();
        }
        self.metrics.online.set(i64::try_from(self.registry.online()).unwrap_or(i64::MAX));
    }
}

/// The refusal of a client that has to wait.
pub(crate) fn rate_limited(wait: Duration) -> Refusal {
    let message = format!("rate limit exceeded, retry in {} ms", wait.as_millis().max(1));
    Refusal { code: Code::RateLimited, message: Cow::Owned(message.into_bytes()) }
}

fn unavailable(why: &pg::Error) -> Refusal {
    if why.is_unavailable() {
        // The gate's closing is what the log needs to say once.
        tracing::debug!(%why, "register refused");
    } else {
        tracing::error!(error = why as &dyn std::error::Error, "register failed");
    }
    UNAVAILABLE
}

/// Sends a frame to a socket; one that is over needs no answer.
pub(crate) fn tell(line: &impl Line, frame: &Frame) {
    line.send(frame);
}
