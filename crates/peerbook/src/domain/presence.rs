//! Which connections are open here, for the other replicas; and what they tell.
//!
//! A connection has a row before it is greeted, so that of two peers that come at once at two
//! replicas one sees the other. Everything else about it is written behind, and then told on the
//! bus: "look at this user". What a peer sends to one that is connected elsewhere goes over the bus
//! itself. Peers of one replica never cause more than the rows.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use bus::{Bus, Topic};
use bytes::Bytes;
use parking_lot::Mutex;
use pg::Lease;
use prometheus::{IntGauge, register_int_gauge_with_registry};
use proto::book::{Dialect, Fingerprint};
use serde::{Deserialize, Serialize};
use service::Context;
use sqlx::PgPool;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use crate::store::session::{self, Elsewhere, Session};

/// Rows written at a time.
const CHUNK: usize = 1_000;
/// Rows that may wait to be written; while as many do, no connection is opened.
const BEHIND: usize = 200_000;

/// This process among its replicas.
pub(crate) struct Presence {
    pub(crate) lease: Lease,
    pub(crate) bus: Bus,
    pool: PgPool,
    cx: Context,
    numbers: AtomicI64,
    /// Orders what was read of the others; see [`Presence::read`].
    reads: AtomicU64,
    /// Connections open here. Bounded by what the port takes.
    open: Mutex<HashMap<i64, Session>>,
    /// Numbers whose row is not as `open` has it, each with the users that have to be told. Locked after
    /// `open`, never before it. Bounded by [`BEHIND`] and what is open.
    behind: Mutex<HashMap<i64, HashSet<String>>>,
    waiting_rows: IntGauge,
    changed: Notify,
}

/// A connection's place here; its row goes when this is dropped.
pub(crate) struct Place {
    presence: Arc<Presence>,
    number: i64,
}

/// What replicas tell each other.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Note {
    /// Connections of this user's peers have come or gone.
    Look(String),
    /// Somebody's process died, or so.
    LookAtAll,
    /// Something to pass on.
    Envelope(Parcel),
}

/// An offer, answer or candidate on its way to another replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parcel {
    /// The user of both peers.
    pub(crate) uid: String,
    /// Fingerprint of the sender.
    pub(crate) from: String,
    /// Fingerprint of the target.
    pub(crate) to: String,
    /// Only connections that have proven the fingerprint receive it.
    pub(crate) proven_only: bool,
    /// Version of the user by which both are verified.
    pub(crate) version: i64,
    /// The sender speaks the plan's dialect.
    pub(crate) plan: bool,
    /// The message as it came.
    pub(crate) text: String,
}

impl Parcel {
    /// How the message is to be read.
    pub(crate) fn dialect(&self) -> Dialect {
        if self.plan { Dialect::Plan } else { Dialect::Readme }
    }
}

impl Presence {
    /// # Errors
    /// When a metric's name is taken.
    pub(crate) fn new(
        lease: Lease,
        bus: Bus,
        pool: PgPool,
        cx: &Context,
    ) -> prometheus::Result<Self> {
        Ok(Self {
            lease,
            bus,
            pool,
            cx: cx.clone(),
            waiting_rows: register_int_gauge_with_registry!(
                "peerbook_session_rows_waiting",
                "Connections whose row is not written as it should be.",
                cx.metrics
            )?,
            numbers: AtomicI64::new(1),
            reads: AtomicU64::new(1),
            open: Mutex::default(),
            behind: Mutex::default(),
            changed: Notify::new(),
        })
    }

    /// Writes the row of a connection that is about to be opened, for a user or to wait.
    ///
    /// # Errors
    /// The database's, also when it is too far behind.
    pub(crate) async fn arrive(
        self: &Arc<Self>,
        fp: &Fingerprint,
        uid: Option<&str>,
        proven: bool,
    ) -> Result<Place, pg::Error> {
        if self.behind.lock().len() >= BEHIND {
            return Err(pg::Error::Busy);
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let row = Session { number, fp: fp.clone(), uid: uid.map(str::to_owned), proven };
        self.open.lock().insert(number, row.clone());
        // Made before the row is, and dropped after it was written: the row goes with it. In a task
        // of its own, because who connects may go away while the database has the row in hand.
        let place = Place { presence: self.clone(), number };
        let (answer, answered) = oneshot::channel();
        self.cx.spawn("arrival", async move {
            let presence = &place.presence;
            let written = session::write(&presence.pool, presence.bus.node(), &[row]).await;
            let _ = answer.send(written.map(|()| place)); // nobody may be waiting
        });
        Ok(answered.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))?)
    }

    /// What other replicas have of these users' peers, with a number that grows: a reading is in force
    /// unless a later one was.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn read(&self, uids: &[String]) -> Result<(u64, Vec<Elsewhere>), sqlx::Error> {
        let number = self.reads.fetch_add(1, Ordering::SeqCst);
        Ok((number, session::elsewhere(&self.pool, self.bus.node(), uids).await?))
    }

    /// Passes a parcel on to replicas; `false` when it reaches none.
    pub(crate) fn pass_on(&self, nodes: &[Uuid], parcel: Parcel) -> bool {
        let bytes = encode(&Note::Envelope(parcel));
        let sent = nodes
            .iter()
            .filter(|node| self.bus.publish(Topic::Node(**node), bytes.clone()).is_ok());
        sent.count() > 0
    }

    /// Tells the other replicas to look at everybody.
    pub(crate) fn tell_all(&self) {
        let _ = self.bus.publish(Topic::All, encode(&Note::LookAtAll)); // refused: they resync
    }

    /// Waits until a row has to be written.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Whether every row is as it should be, and there is none.
    pub(crate) fn is_over(&self) -> bool {
        let open = self.open.lock();
        open.is_empty() && self.behind.lock().is_empty()
    }

    /// Writes what is behind, then tells the others.
    ///
    /// # Errors
    /// The database's; what was not written is still behind.
    pub(crate) async fn write(&self) -> Result<(), sqlx::Error> {
        loop {
            let some: Vec<(i64, HashSet<String>)> = {
                let mut behind = self.behind.lock();
                self.waiting_rows.set(i64::try_from(behind.len()).unwrap_or(i64::MAX));
                let numbers: Vec<i64> = behind.keys().copied().take(CHUNK).collect();
                numbers.into_iter().filter_map(|at| behind.remove_entry(&at)).collect()
            };
            if some.is_empty() {
                return Ok(());
            }
            if let Err(why) = self.write_some(&some).await {
                let mut behind = self.behind.lock();
                for (number, users) in some {
                    behind.entry(number).or_default().extend(users);
                }
                return Err(why);
            }
            let users: HashSet<String> = some.into_iter().flat_map(|(_, users)| users).collect();
            for uid in users {
                let _ = self.bus.publish(Topic::All, encode(&Note::Look(uid))); // refused: they resync
            }
        }
    }

    async fn write_some(&self, some: &[(i64, HashSet<String>)]) -> Result<(), sqlx::Error> {
        let (mut there, mut gone) = (Vec::new(), Vec::new());
        {
            let open = self.open.lock();
            for (number, _) in some {
                match open.get(number) {
                    Some(row) => there.push(row.clone()),
                    None => gone.push(*number),
                }
            }
        }
        let node = self.bus.node();
        if !there.is_empty() {
            session::write(&self.pool, node, &there).await?;
        }
        if !gone.is_empty() {
            session::forget(&self.pool, node, &gone).await?;
        }
        Ok(())
    }

    /// Has every row written again: others took this process for dead.
    pub(crate) fn restore(&self) {
        let open = self.open.lock();
        let mut behind = self.behind.lock();
        for (number, row) in &*open {
            behind.entry(*number).or_default().extend(row.uid.clone());
        }
        self.changed.notify_one();
    }

    fn fall_behind(&self, number: i64, change: impl FnOnce(&mut HashMap<i64, Session>)) {
        let mut open = self.open.lock();
        let before = open.get(&number).and_then(|row| row.uid.clone());
        change(&mut open);
        let after = open.get(&number).and_then(|row| row.uid.clone());
        self.behind.lock().entry(number).or_default().extend(before.into_iter().chain(after));
        drop(open);
        self.changed.notify_one();
    }
}

impl Place {
    /// The connection was let in for a user.
    pub(crate) fn let_in(&self, uid: &str) {
        self.change(|row| row.uid = Some(uid.to_owned()));
    }

    /// It waits after all.
    pub(crate) fn wait(&self) {
        self.change(|row| row.uid = None);
    }

    /// Its fingerprint was proven.
    pub(crate) fn proven(&self) {
        self.change(|row| row.proven = true);
    }

    fn change(&self, change: impl FnOnce(&mut Session)) {
        self.presence.fall_behind(self.number, |open| {
            if let Some(row) = open.get_mut(&self.number) {
                change(row);
            }
        });
    }

    /// The connection is over.
    pub(crate) fn leave(&self) {
        if self.presence.open.lock().contains_key(&self.number) {
            self.presence.fall_behind(self.number, |open| {
                open.remove(&self.number);
            });
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

fn encode(note: &Note) -> Bytes {
    // Strings and flags: there is nothing that JSON cannot hold.
    serde_json::to_vec(note).map(Bytes::from).unwrap_or_default()
}

/// What a replica has told, if it can be read.
pub(crate) fn decode(bytes: &[u8]) -> Option<Note> {
    serde_json::from_slice(bytes).ok()
}
