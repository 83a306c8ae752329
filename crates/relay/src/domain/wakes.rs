//! Who waits for which mailbox, here and in other replicas.
//!
//! A wake-up is a hint: whoever gets one looks at the mailbox, and looks every two seconds anyway.
//! Other replicas learn by NOTIFY from a connection of its own, never from the transaction that
//! wrote: that would serialise all commits of the instance.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use pg::{Wake, Wakeups};
use service::Context;
use sqlx::PgPool;
use tokio::sync::Notify;

use crate::store;

/// NOTIFY channel; payloads are mailbox keys in hex, separated by blanks.
pub(crate) const CHANNEL: &str = "relay_mailbox";

/// Mailboxes named by one notification: 17 bytes each, below the 8,000 a payload may have.
const NAMED_MAX: usize = 400;

/// Pause between notifications; those who wait elsewhere get their wake-up this much later.
const PERIOD: Duration = Duration::from_millis(20);

const SHARDS: usize = 16;

/// The waiters of this process.
pub(crate) struct Wakes {
    shards: [Mutex<HashMap<i64, Waiting>>; SHARDS],
    waiting: AtomicUsize,
    /// Mailboxes that others have to hear of. Bounded: when it is full they find out by polling.
    outgoing: Mutex<Vec<i64>>,
    pending: Notify,
}

struct Waiting {
    wake: Arc<Notify>,
    waiters: usize,
}

impl Wakes {
    /// No waiters yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            shards: std::array::from_fn(|_| Mutex::new(HashMap::new())),
            waiting: AtomicUsize::new(0),
            outgoing: Mutex::new(Vec::new()),
            pending: Notify::new(),
        })
    }

    /// Tells everybody, here and elsewhere, that `mailboxes` have something new.
    pub(crate) fn announce(&self, mailboxes: impl Iterator<Item = i64> + Clone) {
        self.wake(mailboxes.clone());
        let mut outgoing = self.outgoing.lock();
        let idle = outgoing.is_empty();
        let room = NAMED_MAX.saturating_sub(outgoing.len());
        outgoing.extend(mailboxes.take(room));
        drop(outgoing);
        if idle {
            self.pending.notify_one();
        }
    }

    fn wake(&self, mailboxes: impl Iterator<Item = i64>) {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return;
        }
        for mailbox in mailboxes {
            if let Some(waiting) = self.shard(mailbox).lock().get(&mailbox) {
                waiting.wake.notify_waiters();
            }
        }
    }

    fn wake_all(&self) {
        for shard in &self.shards {
            shard.lock().values().for_each(|waiting| waiting.wake.notify_waiters());
        }
    }

    /// Registers for `mailbox` until the waiter is dropped. Register first, then look.
    pub(crate) fn register(self: &Arc<Self>, mailbox: i64) -> Waiter {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let mut shard = self.shard(mailbox).lock();
        let fresh = || Waiting { wake: Arc::new(Notify::new()), waiters: 0 };
        let entry = shard.entry(mailbox).or_insert_with(fresh);
        entry.waiters += 1;
        Waiter { wakes: self.clone(), mailbox, wake: entry.wake.clone() }
    }

    fn shard(&self, mailbox: i64) -> &Mutex<HashMap<i64, Waiting>> {
        let shards = u64::try_from(SHARDS).expect("a small number");
        let place = usize::try_from(mailbox.cast_unsigned() % shards).expect("below SHARDS");
        &self.shards[place]
    }

    /// Passes wake-ups to other replicas and takes theirs, until the process stops.
    pub(crate) fn spawn(self: &Arc<Self>, pool: PgPool, wakeups: &Wakeups, cx: &Context) {
        let (wakes, stop) = (self.clone(), cx.stop.clone());
        cx.spawn("relay-notify", async move {
            tokio::select! {
                () = wakes.send(pool) => {}
                () = stop.killed().cancelled() => {}
                () = async { stop.draining().cancelled().await; tokio::time::sleep(2 * PERIOD).await } => {}
            }
        });
        let (wakes, stop, mut heard) = (self.clone(), cx.stop.clone(), wakeups.subscribe());
        cx.spawn("relay-wakeups", async move {
            let listen = async {
                while let Some(wake) = heard.next().await {
                    wakes.take(&wake);
                }
            };
            tokio::select! {
                () = listen => {}
                () = stop.draining().cancelled() => {}
            }
        });
    }

    fn take(&self, wake: &Wake) {
        match wake {
            Wake::Resync => self.wake_all(),
            Wake::Notified { channel, payload } if &**channel == CHANNEL => {
                let keys = payload.split(' ').filter_map(|key| u64::from_str_radix(key, 16).ok());
                self.wake(keys.map(u64::cast_signed));
            }
            Wake::Notified { .. } => {}
        }
    }

    async fn send(&self, pool: PgPool) {
        loop {
            self.pending.notified().await;
            tokio::time::sleep(PERIOD).await;
            let mut mailboxes = std::mem::take(&mut *self.outgoing.lock());
            mailboxes.sort_unstable();
            mailboxes.dedup();
            let mut payload = String::with_capacity(mailboxes.len() * 17);
            for mailbox in mailboxes {
                let gap = if payload.is_empty() { "" } else { " " };
                let _ = write!(payload, "{gap}{:x}", mailbox.cast_unsigned()); // infallible
            }
            // Lost on failure: whoever waits elsewhere polls.
            if let Err(why) = store::notify(&pool, CHANNEL, &payload).await {
                tracing::debug!(%why, "wake-ups not passed on");
            }
        }
    }
}

/// A place in the line for one mailbox.
pub(crate) struct Waiter {
    wakes: Arc<Wakes>,
    mailbox: i64,
    wake: Arc<Notify>,
}

impl Waiter {
    /// Something may be new. Only wake-ups after this was first polled or enabled count.
    pub(crate) fn woken(&self) -> tokio::sync::futures::Notified<'_> {
        self.wake.notified()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut shard = self.wakes.shard(self.mailbox).lock();
        if let Some(waiting) = shard.get_mut(&self.mailbox) {
            waiting.waiters -= 1;
            if waiting.waiters == 0 {
                shard.remove(&self.mailbox);
            }
        }
        drop(shard);
        self.wakes.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}
