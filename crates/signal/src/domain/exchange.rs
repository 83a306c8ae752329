//! What the replicas tell each other, heard and said.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bus::{Bus, Event, Message, Subscription, Topic};
use bytes::Bytes;
use edge::ws::Frame;
use parking_lot::Mutex;
use proto::signal::{PeerId, Signal, encode, replica::News};
use tokio::{
    sync::{Notify, oneshot},
    time::{sleep, timeout},
};
use uuid::Uuid;

use super::{
    catch_up::{CatchUp, Curious},
    desk::Desk,
    registry::{Appearance, Row},
    seat::{Delivery, Seat},
};
use crate::store;

/// How long a register with a token of another replica waits for what that has kept.
const ANSWER: Duration = Duration::from_secs(1);

/// Replicas a signal may pass while its peer moves.
const HOPS: u8 = 3;

/// Sessions heard of while the table is read; with more it is read again.
const TOUCHED: usize = 100_000;

/// Registers that wait for another replica at a time; more are seated without what was kept.
const ASKING: usize = 4_096;

/// The way to the other replicas.
pub(crate) struct Exchange {
    pub(crate) bus: Bus,
    /// Registers that wait for what another replica kept.
    asking: Mutex<HashMap<u128, oneshot::Sender<()>>>,
    asked: AtomicU64,
    /// How many other replicas run.
    pub(crate) siblings: AtomicUsize,
    /// The table has to be looked at, whatever the bus says.
    pub(crate) look: Notify,
    /// Who waits for a look at the newest rows.
    pub(super) curious: Curious,
}

impl Exchange {
    pub(crate) fn new(bus: Bus) -> Self {
        let (asking, asked, siblings, look, curious) = Default::default();
        Self { bus, asking, asked, siblings, look, curious }
    }

    /// Whether other replicas run.
    pub(crate) fn has_siblings(&self) -> bool {
        self.siblings.load(Ordering::Relaxed) > 0
    }

    /// Learns of everybody whom another replica has acknowledged by now; gives up after a second.
    pub(crate) async fn catch_up(&self) {
        if let Some(seen) = self.curious.ask() {
            let _ = timeout(ANSWER, seen).await;
        }
    }

    fn tell(&self, topic: Topic, news: &News) -> bool {
        // A refusal is counted by the bus, and whoever misses the news is told to look at the table.
        self.bus.publish(topic, news.encode()).is_ok()
    }

    /// Tells everybody that a peer is here.
    pub(crate) fn online(&self, seat: &Seat<impl Sized>) {
        self.tell(
            Topic::All,
            &News::Online {
                session: seat.session.as_u128(),
                generation: seat.generation,
                peer: json(&seat.peer),
            },
        );
    }

    /// Tells everybody that a session here is over; after the table says so too.
    pub(crate) fn offline(&self, peer: &PeerId, session: Uuid, at_ms: i64, kept: bool) {
        let (session, peer) = (session.as_u128(), json(peer));
        self.tell(Topic::All, &News::Offline { session, at_ms, kept, peer });
    }

    /// Passes a signal on to the replica of its peer; `false` when that is not possible.
    pub(crate) fn signal(
        &self,
        node: Uuid,
        signal: &Signal<'_>,
        from: &PeerId,
        complaint: Vec<u8>,
        frame: &Frame,
    ) -> bool {
        let news = News::Signal {
            hops: 0,
            to: Bytes::copy_from_slice(&signal.to()),
            origin: self.bus.node().as_u128(),
            from: json(from),
            complaint: complaint.into(),
            frame: frame.payload(),
        };
        self.tell(Topic::Node(node), &news)
    }

    /// Asks the replica that made `token` for what it has kept; over when that is here, or will not come.
    pub(crate) async fn resume(&self, peer: &PeerId, token: &[u8], session: Uuid, generation: i64) {
        let Some(home) = home_of(token).filter(|home| *home != self.bus.node()) else { return };
        let ask = u128::from(self.asked.fetch_add(1, Ordering::Relaxed));
        let (answer, answered) = oneshot::channel();
        {
            let mut asking = self.asking.lock();
            if asking.len() >= ASKING {
                return;
            }
            asking.insert(ask, answer);
        }
        let (peer, token) = (json(peer), Bytes::copy_from_slice(token));
        let session = session.as_u128();
        if self.tell(Topic::Node(home), &News::Resume { ask, session, generation, peer, token }) {
            let _ = timeout(ANSWER, answered).await;
        }
        self.asking.lock().remove(&ask);
    }
}

/// The replica that made a token.
fn home_of(token: &[u8]) -> Option<Uuid> {
    Uuid::try_parse_ascii(token.get(..32)?).ok()
}

fn json(peer: &PeerId) -> Bytes {
    Bytes::copy_from_slice(peer.json())
}

type Reading = Pin<Box<dyn Future<Output = Vec<Row>> + Send>>;

/// Hears what the others say, and reads the table whenever something may have been missed.
pub(crate) async fn hear(desk: Arc<Desk>, mut heard: Subscription) {
    let mut reading: Option<Reading> = None;
    let mut again = false;
    let mut touched = HashSet::new();
    let mut catch_up = CatchUp::default();
    loop {
        let read = async {
            match &mut reading {
                Some(reading) => reading.await,
                None => std::future::pending().await,
            }
        };
        let look = tokio::select! {
            event = heard.next() => match event {
                Event::Resync => true,
                Event::Message(message) => {
                    let session = take(&desk, message);
                    catch_up.overtake(session);
                    if reading.is_some() {
                        touched.extend(session);
                        again |= touched.len() > TOUCHED;
                    }
                    false
                }
            },
            () = desk.exchange.look.notified() => true,
            () = desk.exchange.curious.asked(), if catch_up.is_idle() => {
                catch_up.begin(&desk);
                false
            }
            latest = catch_up.read() => {
                let sessions = catch_up.end(&desk, latest);
                if reading.is_some() {
                    touched.extend(sessions);
                    again |= touched.len() > TOUCHED;
                }
                false
            }
            rows = read => {
                reading = None;
                let now_ms = desk.clock.now_ms();
                let replaced = desk.registry.reconcile(&rows, &touched, now_ms);
                desk.metrics.replaced.inc_by(replaced as u64);
                catch_up.repeat();
                std::mem::take(&mut again)
            }
        };
        if look && reading.is_some() {
            again = true;
        } else if look {
            touched = HashSet::new();
            reading = Some(Box::pin(rows(desk.clone())));
        }
    }
}

/// The table, as soon as it can be read.
async fn rows(desk: Arc<Desk>) -> Vec<Row> {
    let mut backoff = pg::Backoff::default();
    loop {
        match read_rows(&desk).await {
            Ok(rows) => return rows,
            Err(why) => tracing::debug!(%why, "sessions not read yet"),
        }
        sleep(backoff.pause()).await;
    }
}

/// Who is connected where, from the table.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn read_rows(desk: &Desk) -> Result<Vec<Row>, pg::Error> {
    Ok(store::session::all(&desk.pool).await?.into_iter().map(Row::from).collect())
}

/// Takes one message; the session whose coming or going it told.
fn take(desk: &Desk, message: Message) -> Option<Uuid> {
    let Some(news) = News::decode(message.bytes) else {
        tracing::warn!("news of another version left out");
        return None;
    };
    match news {
        News::Online { session, generation, peer } => {
            let session = Uuid::from_u128(session);
            let at = Appearance { node: message.from, session, generation };
            if desk.registry.appear(&PeerId::from_json(&peer)?, at) {
                desk.metrics.replaced.inc();
            }
            return Some(session);
        }
        News::Offline { session, at_ms, kept, peer } => {
            let session = Uuid::from_u128(session);
            desk.registry.vanish(&PeerId::from_json(&peer)?, session, at_ms, kept);
            return Some(session);
        }
        News::Signal { hops, to, origin, from, complaint, frame } => {
            let news =
                |hops, frame| News::Signal { hops, to: to.clone(), origin, from, complaint, frame };
            pass_on(desk, &to.clone(), hops, Uuid::from_u128(origin), frame, news);
        }
        News::Unreached { from, complaint } => {
            desk.metrics.not_found.inc();
            desk.registry.answer(&from, &Frame::text(complaint));
        }
        News::Resume { ask, session, generation, peer, token } => {
            let session = Uuid::from_u128(session);
            let at = Appearance { node: message.from, session, generation };
            let id = PeerId::from_json(&peer)?;
            let handed = desk.registry.hand_over(&id, at, &token);
            let (frames, sent) = match handed {
                Some((frames, sent)) => (frames, Some(sent as u64)),
                None => (Vec::new(), None),
            };
            let frames = frames.iter().map(Frame::payload).collect();
            let kept = News::Kept { ask, sent, peer, token, frames };
            desk.exchange.tell(Topic::Node(message.from), &kept);
            return Some(session);
        }
        News::Kept { ask, sent, peer, token, frames } => {
            let waiting = desk.exchange.asking.lock().remove(&ask)?;
            if let (Some(sent), Ok(token)) = (sent, std::str::from_utf8(&token)) {
                let frames: Vec<Frame> = frames.iter().map(Frame::text).collect();
                let handed = (frames, usize::try_from(sent).unwrap_or(usize::MAX));
                let now_ms = desk.clock.now_ms();
                desk.registry.adopt(&PeerId::from_json(&peer)?, token, &handed, now_ms);
            }
            let _ = waiting.send(()); // the register may have given up
        }
    }
    None
}

/// Delivers a signal here, or passes it on to where its peer went, or says that it reached nobody.
fn pass_on(
    desk: &Desk,
    to: &[u8],
    hops: u8,
    origin: Uuid,
    frame: Bytes,
    news: impl FnOnce(u8, Bytes) -> News,
) {
    let metrics = &desk.metrics;
    match desk.registry.forward(to, &Frame::text(&frame)) {
        Delivery::Sent => metrics.forwarded.inc(),
        Delivery::Kept => metrics.kept.inc(),
        Delivery::Elsewhere(node) if hops < HOPS && node != desk.exchange.bus.node() => {
            metrics.passed_on.inc();
            desk.exchange.tell(Topic::Node(node), &news(hops + 1, frame));
        }
        Delivery::Elsewhere(_) | Delivery::NotFound => {
            if let News::Signal { from, complaint, .. } = news(hops, frame) {
                let unreached = News::Unreached { from, complaint };
                desk.exchange.tell(Topic::Node(origin), &unreached);
            }
        }
    }
}

/// The frame that tells a sender that its signal reached nobody.
pub(crate) fn complaint(signal: &Signal<'_>, id: &proto::signal::RequestId<'_>) -> Vec<u8> {
    encode::error(id, &signal.not_found())
}
