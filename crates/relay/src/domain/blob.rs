//! Blobs: what may be stored, and how uploads become downloads.
//!
//! A chunk is written piece by piece as it arrives and counts when its last transaction commits;
//! a completion checks the signature over the bytes as they are stored, then moves names, not
//! bytes. Nothing here holds more than a piece of a blob, except the one request body of a
//! client that sends base64.

use std::collections::BTreeSet;
use std::time::Duration;

use identity::Policy;
use parking_lot::Mutex;
use service::Context;
use sqlx::{PgPool, PgTransaction};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::blob_metrics::BlobMetrics;
use super::blob_misses::Misses;
use super::blob_reader::BlobReader;
use super::blob_settings::BlobArgs;
use crate::error::Error;
use crate::store::blob;
pub(crate) use crate::store::blob::Blob;
use crate::store::{blob_garbage, blob_upload};

/// Tables with a partition per drop day.
const PARTITIONED: [&str; 2] = ["relay.blob_chunk", "relay.blob_piece"];

/// How old the measured disk use may be.
const DISK_MEASURED_EVERY: Duration = Duration::from_secs(10);

/// Signatures over stored bytes checked at the same time.
const VERIFICATIONS: usize = 2;

/// Under the policy `open` a blob's life is not cut to the setting but to this, in seconds.
const OPEN_TTL_MAX_S: f64 = 366.0 * 86_400.0;

/// What a client is told to wait when a quota is used up that only expiry frees.
const QUOTA_RETRY: Duration = Duration::from_secs(600);

/// The blobs of this relay.
pub(crate) struct Blobs {
    pub(super) pool: PgPool,
    pub(super) cx: Context,
    pub(crate) args: BlobArgs,
    pub(crate) metrics: BlobMetrics,
    policy: Policy,
    pub(super) upload_ttl_seconds: f64,
    /// Bounds the connections blobs take from the pool, so that envelopes always find one.
    lanes: Semaphore,
    /// Bounds the signatures over stored bytes that are being checked; each keeps a core busy.
    pub(super) verifications: Semaphore,
    /// Drop days whose partitions are known to exist.
    days: Mutex<BTreeSet<i32>>,
    disk: Mutex<Option<(Instant, u64)>>,
    /// Who looked for too many blobs that are not there.
    pub(crate) misses: Misses,
}

impl Blobs {
    /// Blobs in `pool`. `upload_ttl_seconds` is how long an unfinished upload lasts.
    pub(crate) fn new(
        pool: PgPool,
        args: BlobArgs,
        policy: Policy,
        upload_ttl_seconds: u32,
        cx: &Context,
    ) -> prometheus::Result<Self> {
        Ok(Self {
            pool,
            metrics: BlobMetrics::register(&cx.metrics)?,
            cx: cx.clone(),
            lanes: Semaphore::new(args.blob_lanes as usize),
            verifications: Semaphore::new(VERIFICATIONS),
            misses: Misses::new(args.blob_misses),
            args,
            policy,
            upload_ttl_seconds: f64::from(upload_ttl_seconds),
            days: Mutex::default(),
            disk: Mutex::default(),
        })
    }

    pub(super) fn is_open(&self) -> bool {
        self.policy == Policy::Open
    }

    /// The blob to download. Under `open` a look-up also removes it when it expired, so that its
    /// id is free again, as with the original.
    pub(crate) async fn find(&self, id: &[u8]) -> Result<Option<Blob>, Error> {
        let found = blob::find(&self.pool, id).await?;
        if found.is_none() && self.is_open() {
            blob::delete_expired(&self.pool, id).await?;
        }
        Ok(found)
    }

    /// The bytes of a blob, in order.
    pub(crate) fn read(&self, blob: &Blob) -> BlobReader {
        BlobReader::new(self.pool.clone(), (blob.storage, blob.drop_day), 0..blob.chunks)
    }

    /// The text of a blob's payload, where it is kept besides the bytes.
    pub(crate) fn read_text(&self, blob: &Blob) -> BlobReader {
        BlobReader::new(self.pool.clone(), (blob.storage, blob.drop_day), -1..0)
    }

    /// Waits for a turn at the database.
    pub(super) async fn lane(&self) -> SemaphorePermit<'_> {
        self.lanes.acquire().await.expect("the semaphore is never closed")
    }

    /// The life a blob gets, in seconds; zero or less is none.
    pub(super) fn ttl_seconds(&self, wanted: f64) -> f64 {
        let most =
            if self.is_open() { OPEN_TTL_MAX_S } else { self.args.blob_max_ttl.as_secs_f64() };
        wanted.clamp(-1.0, most)
    }

    pub(super) async fn ensure_day(&self, drop_day: i32) -> Result<(), Error> {
        if self.days.lock().contains(&drop_day) {
            return Ok(());
        }
        for table in PARTITIONED {
            pg::partitions::ensure(&self.pool, table, drop_day, drop_day).await?;
        }
        self.days.lock().insert(drop_day);
        Ok(())
    }

    /// Refuses a blob that is, or would become, too large.
    pub(crate) fn check_size(&self, bytes: u64) -> Result<(), Error> {
        if self.args.blob_max_bytes > 0 && bytes > self.args.blob_max_bytes {
            self.count_refused("size");
            return Err(Error::TooLarge("blob too large"));
        }
        Ok(())
    }

    /// Refuses when the disk use, measured lately, leaves no room. Several relays may together
    /// overshoot by what they take in within the age of the measurement.
    pub(super) async fn check_disk(&self, more_bytes: u64) -> Result<(), Error> {
        if self.args.blob_disk_bytes == 0 {
            return Ok(());
        }
        let known = *self.disk.lock();
        let (at, used) = match known.filter(|(at, _)| at.elapsed() < DISK_MEASURED_EVERY) {
            Some(known) => known,
            None => (Instant::now(), blob::disk_bytes(&self.pool).await?),
        };
        let used = used.saturating_add(more_bytes);
        *self.disk.lock() = Some((at, used));
        self.metrics.disk_bytes.set(i64::try_from(used).unwrap_or(i64::MAX));
        if used > self.args.blob_disk_bytes {
            return Err(self.over_quota("disk", "blob storage is full"));
        }
        Ok(())
    }

    pub(super) async fn check_unsigned(
        &self,
        tx: &mut PgTransaction<'_>,
        address: &[u8],
    ) -> Result<(), Error> {
        let most = self.args.blob_unsigned_bytes;
        let counted = self.args.blob_unsigned_count.saturating_add(1);
        if most > 0 && blob_upload::unsigned(&mut **tx, address, counted).await?.bytes > most {
            return Err(self.over_quota("address", "too many bytes in unfinished uploads"));
        }
        Ok(())
    }

    pub(super) async fn check_sender(
        &self,
        tx: &mut PgTransaction<'_>,
        sender: &[u8],
    ) -> Result<(), Error> {
        let (bytes, count) = (self.args.blob_sender_bytes, self.args.blob_sender_count);
        if bytes == 0 && count == 0 {
            return Ok(());
        }
        let most = if count == 0 { 1_000_000 } else { count.saturating_add(1) };
        let used = blob::used(&mut **tx, sender, most).await?;
        if (bytes > 0 && used.bytes > bytes) || (count > 0 && used.blobs > count) {
            return Err(self.over_quota("sender", "sender blob quota exceeded"));
        }
        Ok(())
    }

    pub(super) fn over_quota(&self, whose: &'static str, what: &'static str) -> Error {
        self.count_refused(whose);
        Error::TooMany { what, retry_after: QUOTA_RETRY }
    }

    /// Counts a refusal under the name of the limit that was exceeded.
    pub(crate) fn count_refused(&self, limit: &'static str) {
        self.metrics.refused.with_label_values(&[limit]).inc();
    }

    pub(super) fn count_stored(&self, stored: bool) {
        let counter = if stored { &self.metrics.stored } else { &self.metrics.duplicates };
        counter.inc();
    }

    /// Removes what expired and what nobody refers to, until asked to stop. The caller spawns it.
    pub(crate) async fn keep_clean(&self, every: Duration) {
        let draining = self.cx.stop.draining().clone();
        loop {
            if let Err(why) = self.clean().await {
                tracing::warn!(error = &why as &dyn std::error::Error, "blobs not cleaned");
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = draining.cancelled() => return,
            }
        }
    }

    async fn clean(&self) -> Result<(), Error> {
        while blob_garbage::expire(&self.pool).await? {}
        while blob_garbage::sweep(&self.pool).await? {
            if self.cx.stop.draining().is_cancelled() {
                return Ok(());
            }
        }
        let today = pg::partitions::today(&self.pool).await?;
        self.days.lock().retain(|day| *day >= today);
        for table in PARTITIONED {
            pg::partitions::drop_expired(&self.pool, table, today).await?;
        }
        Ok(())
    }
}
