//! Mailboxes: putting in, taking out, looking, waiting.
//!
//! Invariant: what is answered here has been committed. Concurrent writes of one kind share a
//! statement and a commit; `seq` orders a mailbox.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use pg::{GroupCommit, GroupLimits, Wakeups};
use proto::js::{self, Str};
use proto::relay::{GroupStore, fanout_text};
use service::Context;
use sqlx::PgPool;
use tokio::time::{Instant, sleep, sleep_until};

use super::maintenance::Present;
use super::quota::{Admission, Quota};
use super::rules::FetchLimit;
use super::wakes::{Waiter, Wakes};
use crate::config::Config;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::store::{self, Ack, MailboxKeys, NewEnvelope, NewFanout, Page, PageRow, Readers, Start};

/// A page ends before it has more bytes than this, its first envelope excepted.
const PAGE_BYTES: i64 = 8 << 20;

/// Most envelopes the original's negative limits may ask for.
const ALL_BUT_MAX: i64 = 10_000;

/// Those who wait look this often even when nobody wakes them.
const POLL: Duration = Duration::from_secs(2);

/// After a wake-up an envelope may still be hidden behind a transaction in progress: look again
/// after this, and after twice as long each time.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// All mailboxes of this relay.
pub(crate) struct Mailboxes {
    pool: PgPool,
    readers: Readers,
    keys: MailboxKeys,
    quota: Quota,
    present: Present,
    wakes: Arc<Wakes>,
    metrics: Arc<Metrics>,
    envelopes: GroupCommit<NewEnvelope, bool>,
    fanouts: GroupCommit<NewFanout, u64>,
    acks: GroupCommit<Ack, ()>,
}

/// One envelope on its way into a mailbox.
#[derive(Debug)]
pub(crate) struct Deposit<'d> {
    pub(crate) id: &'d Str<'d>,
    pub(crate) from: &'d Str<'d>,
    pub(crate) to: &'d Str<'d>,
    /// The JSON text as it will be sent.
    pub(crate) body: Vec<u8>,
}

/// Where a reader starts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReadFrom<'r> {
    /// At the oldest envelope.
    Oldest,
    /// After the one with this id; at the oldest when there is none.
    Id(&'r Str<'r>),
    /// After this position, which stays valid when its envelope is gone.
    After(i64),
}

/// What a reader wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Read<'r> {
    pub(crate) to: &'r Str<'r>,
    pub(crate) from: ReadFrom<'r>,
    pub(crate) limit: FetchLimit,
}

/// Envelopes of one mailbox, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Envelopes {
    /// Their JSON texts, joined by commas.
    pub(crate) text: Vec<u8>,
    /// Where each text ends in `text`, and its position.
    pub(crate) ends: Vec<(usize, i64)>,
    /// Id of the last one, as WTF-8.
    pub(crate) last_id: Option<Vec<u8>>,
}

impl Mailboxes {
    /// Starts the lanes that write.
    pub(crate) async fn start(
        pool: &PgPool,
        config: &Config,
        present: Present,
        wakeups: &Wakeups,
        metrics: Arc<Metrics>,
        cx: &Context,
    ) -> Result<Self, pg::Error> {
        let keys = MailboxKeys::load(pool).await?;
        // Half of the pool: writers and everybody else share the other.
        let readers = usize::try_from(config.database.database_pool / 2).expect("32 bits fit");
        let wakes = Wakes::new();
        wakes.spawn(pool.clone(), wakeups, cx);
        let writer = Writer {
            pool: pool.clone(),
            wakes: wakes.clone(),
            metrics: metrics.clone(),
            present: present.clone(),
        };
        let spawn = |name, task| cx.spawn(name, task);
        let lanes = usize::try_from(config.write_lanes).expect("32 bits fit");
        let limits = |name| GroupLimits { lanes, ..GroupLimits::new(name) };
        let (store, fan_out, ack) = (writer.clone(), writer.clone(), writer);
        let fanout_limits = GroupLimits { max_items: 128, ..limits("fanouts") };
        Ok(Self {
            pool: pool.clone(),
            readers: Readers::new(pool.clone(), readers),
            keys,
            quota: Quota::new(&config.quotas),
            present,
            wakes,
            metrics,
            envelopes: GroupCommit::start(limits("envelopes"), &cx.metrics, spawn, move |batch| {
                let writer = store.clone();
                async move { writer.store(&batch).await }
            }),
            fanouts: GroupCommit::start(fanout_limits, &cx.metrics, spawn, move |batch| {
                let writer = fan_out.clone();
                async move { writer.fan_out(&batch).await }
            }),
            acks: GroupCommit::start(limits("acks"), &cx.metrics, spawn, move |batch| {
                let writer = ack.clone();
                async move { writer.acknowledge(&batch).await }
            }),
        })
    }

    /// Puts an envelope into its recipient's mailbox; `false` when it was there or acknowledged.
    pub(crate) async fn deposit(&self, deposit: Deposit<'_>) -> Result<bool, Error> {
        let size = deposit.body.len();
        self.quota.spend(self.keys.key(deposit.from.as_bytes()), 1, size)?;
        let mailbox = self.keys.key(deposit.to.as_bytes());
        self.admit(mailbox, size).await?;
        let id = deposit.id.as_bytes().into();
        let envelope = NewEnvelope { mailbox, id, body: Bytes::from(deposit.body) };
        let stored = self.envelopes.write_sized(envelope, size).await?;
        if stored { &self.metrics.stored } else { &self.metrics.duplicates }.inc();
        Ok(stored)
    }

    /// Puts a group message into all its recipients' mailboxes, or into none when one of them is
    /// full; returns how many got it who did not have it.
    pub(crate) async fn fan_out(&self, message: &GroupStore<'_, '_>) -> Result<u64, Error> {
        let (head, tail) = fanout_text(message);
        let shared = head.len() + tail.len();
        let mailboxes: Vec<i64> =
            message.recipients.iter().map(|id| self.keys.key(id.as_bytes())).collect();
        let sender = self.keys.key(message.from.as_bytes());
        self.quota.spend(sender, mailboxes.len(), shared)?;
        for &mailbox in &mailboxes {
            self.admit(mailbox, shared).await?;
        }
        // What a reader gets besides `shared`: the recipient's id, at most 64 bytes when it matters.
        let size = i32::try_from(shared + 64).unwrap_or(i32::MAX);
        let weight = shared + 24 * mailboxes.len();
        let fanout = NewFanout {
            id: message.id.as_bytes().into(),
            mailboxes,
            size,
            head: head.into(),
            tail: tail.into(),
        };
        let stored = self.fanouts.write_sized(fanout, weight).await?;
        self.metrics.group_messages.inc();
        self.metrics.group_deliveries.inc_by(stored);
        Ok(stored)
    }

    /// Acknowledges envelopes of one mailbox, known or not.
    pub(crate) async fn acknowledge(
        &self,
        to: &Str<'_>,
        ids: impl Iterator<Item = &[u8]>,
    ) -> Result<(), Error> {
        let mailbox = self.keys.key(to.as_bytes());
        let acks = ids.map(|id| self.acks.write(Ack { id: id.into(), mailbox }));
        let done = try_join_all(acks).await?;
        self.metrics.acked.inc_by(u64::try_from(done.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    /// Reads a page.
    pub(crate) async fn read(&self, read: Read<'_>) -> Result<Envelopes, Error> {
        let mailbox = self.keys.key(read.to.as_bytes());
        self.metrics.fetches.inc();
        let (limit, start) = match (read.limit, read.from) {
            (FetchLimit::Most(limit), ReadFrom::Oldest) => (limit, Start::Oldest),
            (FetchLimit::Most(limit), ReadFrom::Id(id)) => (limit, Start::Id(id.as_bytes())),
            (FetchLimit::Most(limit), ReadFrom::After(seq)) => (limit, Start::After(seq)),
            (FetchLimit::AllBut(but), from) => self.slice(mailbox, but, from).await?,
        };
        if limit == 0 {
            return Ok(Envelopes::default());
        }
        let wanted = Page {
            mailbox,
            start,
            limit,
            max_bytes: PAGE_BYTES,
            expired_before: self.present.expired_before(),
            retention: self.present.retention(),
        };
        let rows = self.readers.page(wanted).await?;
        self.metrics.fetched.inc_by(u64::try_from(rows.len()).unwrap_or(u64::MAX));
        Ok(Envelopes::join(&rows, read.to)?)
    }

    /// As [`Mailboxes::read`]; when there is nothing, waits for something until `until`.
    pub(crate) async fn wait(&self, read: Read<'_>, until: Instant) -> Result<Envelopes, Error> {
        let waiter = self.register(read.to);
        let mut patience = POLL;
        loop {
            let woken = waiter.woken(); // before looking, or a wake-up in between is lost
            let found = self.read(read).await?;
            if !found.ends.is_empty() || Instant::now() >= until {
                return Ok(found);
            }
            tokio::select! {
                () = woken => patience = LOOK_AGAIN,
                () = sleep(patience) => patience = (patience * 2).min(POLL),
                () = sleep_until(until) => {}
            }
        }
    }

    /// Registers a reader of a mailbox.
    pub(crate) fn register(&self, to: &Str<'_>) -> Waiter {
        self.wakes.register(self.keys.key(to.as_bytes()))
    }

    async fn admit(&self, mailbox: i64, bytes: usize) -> Result<(), Error> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let mut admission = self.quota.admit(mailbox, bytes, None);
        if admission == Admission::Count {
            self.metrics.mailbox_counts.inc();
            let limit = self.quota.count_limit();
            let floor = self.present.expired_before();
            let held =
                store::usage(&self.pool, mailbox, floor, limit, self.present.retention()).await?;
            admission = self.quota.admit(mailbox, bytes, Some(held));
        }
        if admission == Admission::Admitted { Ok(()) } else { Err(Quota::full()) }
    }

    /// What JavaScript's `slice(start, start - but)` covers, as a start and a count.
    async fn slice(
        &self,
        mailbox: i64,
        but: i64,
        from: ReadFrom<'_>,
    ) -> Result<(i64, Start<'static>), Error> {
        let seqs = store::seqs(&self.pool, mailbox, self.present.retention()).await?;
        let start = match from {
            ReadFrom::Oldest => 0,
            ReadFrom::After(seq) => seqs.partition_point(|&other| other <= seq),
            ReadFrom::Id(id) => {
                let start = Start::Id(id.as_bytes());
                let wanted = Page {
                    mailbox,
                    start,
                    limit: 1,
                    max_bytes: 1,
                    expired_before: 0,
                    retention: self.present.retention(),
                };
                let next = self.readers.page(wanted).await?;
                match next.first().map(PageRow::seq).transpose()? {
                    Some(seq) => seqs.partition_point(|&other| other < seq),
                    None => seqs.len(),
                }
            }
        };
        let count = slice_len(seqs.len(), start, but);
        let after = start.checked_sub(1).and_then(|before| seqs.get(before));
        Ok((count, after.map_or(Start::Oldest, |&seq| Start::After(seq))))
    }
}

/// How many entries of `len` `slice(start, start - but)` has in JavaScript.
fn slice_len(len: usize, start: usize, but: i64) -> i64 {
    let whole = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let end = whole(start).saturating_sub(but);
    let end = if end < 0 { whole(len).saturating_add(end).max(0) } else { end };
    (end.min(whole(len)) - whole(start)).clamp(0, ALL_BUT_MAX)
}

impl Envelopes {
    /// Joins what the rows of a recipient's page hold.
    fn join(rows: &[PageRow], to: &Str<'_>) -> Result<Self, sqlx::Error> {
        let mut quoted = Vec::new();
        js::string(to, &mut quoted);
        let mut joined = Self { ends: Vec::with_capacity(rows.len()), ..Self::default() };
        for row in rows {
            if !joined.text.is_empty() {
                joined.text.push(b',');
            }
            joined.text.extend_from_slice(row.head()?);
            if let Some(tail) = row.tail()? {
                joined.text.extend_from_slice(&quoted);
                joined.text.extend_from_slice(tail);
            }
            joined.ends.push((joined.text.len(), row.seq()?));
        }
        if let Some(row) = rows.last() {
            joined.last_id = Some(row.id()?.to_vec());
        }
        Ok(joined)
    }

    /// The position of the last one.
    pub(crate) fn last_seq(&self) -> Option<i64> {
        self.ends.last().map(|(_, seq)| *seq)
    }

    /// Each text with its position.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&[u8], i64)> {
        let mut start = 0;
        self.ends.iter().map(move |&(end, seq)| {
            let text = &self.text[start..end];
            start = end + 1; // behind the comma
            (text, seq)
        })
    }
}

/// What the lanes do with a batch.
#[derive(Clone)]
struct Writer {
    pool: PgPool,
    wakes: Arc<Wakes>,
    metrics: Arc<Metrics>,
    present: Present,
}

impl Writer {
    async fn store(&self, batch: &[NewEnvelope]) -> Result<Vec<bool>, pg::Error> {
        let fresh = store::insert_envelopes(&self.pool, batch, self.present.retention()).await?;
        let woken = batch.iter().zip(&fresh).filter(|(_, fresh)| **fresh);
        self.wakes.announce(woken.map(|(envelope, _)| envelope.mailbox));
        Ok(fresh)
    }

    async fn fan_out(&self, batch: &[NewFanout]) -> Result<Vec<u64>, pg::Error> {
        let stored = store::insert_fanouts(&self.pool, batch, self.present.retention()).await?;
        self.wakes.announce(batch.iter().flat_map(|message| message.mailboxes.iter().copied()));
        Ok(stored)
    }

    async fn acknowledge(&self, batch: &[Ack]) -> Result<Vec<()>, pg::Error> {
        let removed = store::insert_acks(&self.pool, batch, self.present.retention()).await?;
        self.metrics.removed.inc_by(removed.unsigned_abs());
        Ok(vec![(); batch.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::slice_len;

    #[test]
    fn negative_limits_slice_as_javascript_does() {
        assert_eq!(slice_len(3, 0, 1), 2);
        assert_eq!(slice_len(3, 0, 5), 0);
        assert_eq!(slice_len(3, 1, 1), 0);
        assert_eq!(slice_len(5, 1, 3), 2);
        assert_eq!(slice_len(5, 5, 1), 0);
    }
}
