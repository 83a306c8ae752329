//! The database as the bus: LISTEN and NOTIFY, each on a connection of its own.
//!
//! A packet is the payload of one notification, `b` and base64; a longer one lies in the table
//! `bus.spill` and the notification says where, `s` and the row's id. All packets that are ready go in
//! one transaction, which writes nothing: a NOTIFY takes a lock of the whole instance at its commit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use pg::{Backoff, Wake, Wakeups};
use service::Context;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Topic;
use crate::inbox::{Inbox, Scope};
use crate::metrics::{Cause, Metrics};
use crate::outgoing::{Outgoing, Packet, is_stale, time_left};

/// Shortest time between two notifications' transactions; what comes in between goes together.
const PERIOD: Duration = Duration::from_millis(2);

/// Bytes of a packet that still fit a notification: below 8,000 in base64.
const NOTIFY_BYTES: usize = 5_960;

/// How long one attempt to notify may take.
const ATTEMPT: Duration = Duration::from_secs(3);

/// How long a spilled packet is kept; receivers fetch it at once.
const SPILL_AGE: Duration = Duration::from_secs(30);
const SPILL_SWEEP: Duration = Duration::from_secs(5);

/// Bytes one process may spill in [`SPILL_AGE`].
const SPILL_BYTES: usize = 256 << 20;

/// Channel names of one service and process.
#[derive(Clone)]
pub(crate) struct Channels {
    all: String,
    node: String,
    prefix: String,
}

impl Channels {
    /// Names of at most 63 bytes, of letters, digits and `_`.
    pub(crate) fn new(service: &str, node: Uuid) -> Self {
        let prefix = format!("bus_{}", service.replace('-', "_"));
        Self { all: format!("{prefix}_all"), node: format!("{prefix}_{}", node.simple()), prefix }
    }

    fn of(&self, topic: Topic) -> String {
        match topic {
            Topic::All => self.all.clone(),
            Topic::Node(node) => format!("{}_{}", self.prefix, node.simple()),
        }
    }
}

/// What the backend works with.
pub(crate) struct Parts {
    pub(crate) channels: Channels,
    pub(crate) pool: PgPool,
    pub(crate) outgoing: Arc<Outgoing>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) over: CancellationToken,
    pub(crate) cx: Context,
}

/// Starts listening and sending.
pub(crate) fn start(parts: &Parts) {
    let Parts { channels, pool, outgoing, inbox, metrics, over, cx } = parts;
    let spawner = cx.clone();
    let spawn = move |name, task| spawner.spawn(name, task);
    let wakeups = Wakeups::start(pool, &[&channels.all, &channels.node], over.clone(), spawn);
    let hearing = hear(wakeups, channels.all.clone(), inbox.clone(), metrics.clone(), pool.clone());
    cx.spawn("bus-hear", ended_by(over.clone(), hearing));
    let sender = Sender {
        channels: channels.clone(),
        own: side_connection(pool),
        pool: pool.clone(),
        outgoing: outgoing.clone(),
        metrics: metrics.clone(),
        spilled: VecDeque::new(),
    };
    cx.spawn("bus-send", ended_by(over.clone(), sender.run()));
    cx.spawn("bus-sweep", ended_by(over.clone(), sweep(pool.clone())));
}

async fn ended_by(over: CancellationToken, work: impl Future<Output = ()>) {
    over.run_until_cancelled(work).await;
}

/// One connection that commits without waiting for the disk: a notification has nothing to keep.
fn side_connection(pool: &PgPool) -> PgPool {
    let options = (*pool.connect_options()).clone().options([("synchronous_commit", "off")]);
    PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(ATTEMPT)
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

async fn hear(
    wakeups: Wakeups,
    all: String,
    inbox: Arc<Inbox>,
    metrics: Arc<Metrics>,
    pool: PgPool,
) {
    let mut wakes = wakeups.subscribe();
    while let Some(wake) = wakes.next().await {
        match wake {
            Wake::Resync => {
                metrics.connected.set(1);
                inbox.missed(Cause::Connection);
            }
            Wake::Notified { channel, payload } => {
                let scope = if *channel == *all { Scope::All } else { Scope::Node };
                match packet(&pool, &payload).await {
                    Some(packet) => inbox.receive(scope, packet),
                    None => inbox.missed(Cause::Gap),
                }
            }
        }
    }
}

/// The packet a notification holds or points to.
async fn packet(pool: &PgPool, payload: &str) -> Option<Bytes> {
    match payload.split_at_checked(1)? {
        ("b", text) => Some(STANDARD_NO_PAD.decode(text).ok()?.into()),
        ("s", id) => {
            let fetch = "SELECT packet FROM bus.spill WHERE id = $1::text::uuid";
            let fetch = sqlx::query_scalar::<_, Vec<u8>>(fetch).bind(id).fetch_optional(pool);
            match timeout(ATTEMPT, fetch).await {
                Ok(Ok(packet)) => packet.map(Bytes::from),
                Ok(Err(why)) => {
                    tracing::debug!(%why, "a spilled packet was not fetched");
                    None
                }
                Err(_) => None,
            }
        }
        _ => None,
    }
}

struct Sender {
    channels: Channels,
    own: PgPool,
    pool: PgPool,
    outgoing: Arc<Outgoing>,
    metrics: Arc<Metrics>,
    /// When and how much was spilled lately.
    spilled: VecDeque<(Instant, usize)>,
}

impl Sender {
    async fn run(mut self) {
        let mut next = Instant::now();
        loop {
            self.outgoing.filled().await;
            sleep_until(next).await;
            next = Instant::now() + PERIOD;
            let mut packets = self.outgoing.take(NOTIFY_BYTES, true);
            self.refuse_excess(&mut packets);
            if !packets.is_empty() {
                self.send(packets).await;
            }
            self.outgoing.done();
        }
    }

    /// Drops long packets while the table holds as much as it may.
    fn refuse_excess(&mut self, packets: &mut Vec<Packet>) {
        let now = Instant::now();
        while self.spilled.front().is_some_and(|(at, _)| now - *at > SPILL_AGE + SPILL_SWEEP) {
            self.spilled.pop_front();
        }
        let mut held: usize = self.spilled.iter().map(|(_, bytes)| bytes).sum();
        packets.retain(|packet| {
            let bytes = packet.bytes.len();
            if bytes <= NOTIFY_BYTES {
                return true;
            }
            held += bytes;
            if held > SPILL_BYTES {
                self.metrics.given_up.inc_by(packet.messages);
                self.outgoing.note_loss();
                return false;
            }
            self.spilled.push_back((now, bytes));
            true
        });
    }

    /// Sends `packets`, again and again while the database is away and they are fresh. Receivers
    /// leave out what comes twice.
    async fn send(&self, packets: Vec<Packet>) {
        let is_long = |packet: &Packet| packet.bytes.len() > NOTIFY_BYTES;
        let id = |packet| is_long(packet).then(|| Uuid::new_v4().to_string());
        let ids: Vec<Option<String>> = packets.iter().map(id).collect();
        self.metrics.spilled.inc_by(ids.iter().flatten().count() as u64);
        let mut backoff = Backoff::default();
        loop {
            let attempt = timeout(ATTEMPT, self.attempt(&packets, &ids)).await;
            match attempt {
                Ok(Ok(())) => return self.metrics.sent(&packets),
                Ok(Err(why)) => tracing::debug!(%why, "packets not sent yet"),
                Err(_) => tracing::debug!("packets not sent yet: the database takes too long"),
            }
            if packets.iter().all(is_stale) {
                self.metrics.given_up.inc_by(packets.iter().map(|packet| packet.messages).sum());
                return self.outgoing.note_loss();
            }
            sleep(backoff.pause().min(time_left(&packets))).await;
        }
    }

    async fn attempt(&self, packets: &[Packet], ids: &[Option<String>]) -> Result<(), sqlx::Error> {
        let long = packets.iter().zip(ids).filter_map(|(packet, id)| Some((packet, id.as_ref()?)));
        let (bodies, keys): (Vec<&[u8]>, Vec<&str>) =
            long.map(|(packet, id)| (&packet.bytes[..], &id[..])).unzip();
        if !keys.is_empty() {
            const SPILL: &str = "INSERT INTO bus.spill (id, packet)
                SELECT * FROM unnest($1::text[]::uuid[], $2::bytea[]) ON CONFLICT (id) DO NOTHING";
            sqlx::query(SPILL).bind(keys).bind(bodies).execute(&self.pool).await?;
        }
        let channels: Vec<String> =
            packets.iter().map(|packet| self.channels.of(packet.topic)).collect();
        let payload = |(packet, id): (&Packet, &Option<String>)| match id {
            Some(id) => format!("s{id}"),
            None => {
                let mut text = String::with_capacity(1 + packet.bytes.len().div_ceil(3) * 4);
                text.push('b');
                STANDARD_NO_PAD.encode_string(&packet.bytes, &mut text);
                text
            }
        };
        let payloads: Vec<String> = packets.iter().zip(ids).map(payload).collect();
        const NOTIFY: &str = "SELECT count(pg_notify(channel, payload))
            FROM unnest($1::text[], $2::text[]) AS t(channel, payload)";
        sqlx::query(NOTIFY).bind(channels).bind(payloads).execute(&self.own).await?;
        Ok(())
    }
}

/// Deletes what every receiver has had time to fetch.
async fn sweep(pool: PgPool) {
    let mut ticks = interval(SPILL_SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let swept =
            sqlx::query("DELETE FROM bus.spill WHERE at < now() - make_interval(secs => $1)")
                .bind(SPILL_AGE.as_secs_f64())
                .execute(&pool);
        if let Err(why) = swept.await {
            tracing::debug!(%why, "spilled packets not swept");
        }
    }
}
