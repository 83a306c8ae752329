//! Memory of large request bodies: taken from the operating system and given back to it, in steps
//! from one bounded supply.
//!
//! Small bodies are the allocator's: connections are limited and each holds one. A body past
//! [`LARGE_BYTES`] gets a mapping of its own. An allocator would keep what such a body leaves behind
//! for the next one, and five chunks of a blob on their way at once would cost twice what they hold.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use memmap2::MmapMut;
use prometheus::{IntCounter, IntGauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::{Error, Http};

/// A body that is known to be longer, or has become longer, is a large one.
pub(crate) const LARGE_BYTES: usize = 64 << 10;

/// What a large body takes from the supply at once. More than the app's chunks of a blob, which
/// therefore wait for their turn as long as nothing of them was read, and not in the middle.
const STEP_BYTES: usize = 2 << 20;

/// How long a body waits for its first step.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// The supply.
pub(crate) struct BodyMemory {
    steps: Arc<Semaphore>,
    /// [`WAIT_MAX`], except in tests.
    wait_max: Duration,
    /// Bytes of large bodies that arrived and are held.
    held: IntGauge,
    /// Bodies refused because the supply was used up.
    refused: IntCounter,
}

impl BodyMemory {
    /// A supply of `bytes`, rounded up to whole steps and at least one.
    pub(crate) fn new(bytes: usize, held: IntGauge, refused: IntCounter) -> Self {
        let steps = bytes.div_ceil(STEP_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        Self { steps: Arc::new(Semaphore::new(steps)), wait_max: WAIT_MAX, held, refused }
    }

    /// Room for a body of at most `limit` bytes, none of it taken yet but the first step.
    ///
    /// # Errors
    /// [`Error::Busy`] when the supply stays used up, or the system has no address space left.
    pub(crate) async fn begin(&self, limit: usize) -> Result<LargeBody, Error> {
        let first = timeout(self.wait_max, self.steps.clone().acquire_owned()).await;
        let steps = first.map_err(|_| self.refuse())?.expect("the semaphore is never closed");
        // Nothing is resident before it is written.
        let map = MmapMut::map_anon(limit.max(1)).map_err(|_| self.refuse())?;
        Ok(LargeBody { map, length: 0, steps, held: self.held.clone() })
    }

    /// Takes another step for a body that holds some. Waiting for it could be for one that waits
    /// likewise, so there is none.
    fn grow(&self, body: &mut LargeBody) -> Result<(), Error> {
        let step = self.steps.clone().try_acquire_owned().map_err(|_| self.refuse())?;
        body.steps.merge(step);
        Ok(())
    }

    fn refuse(&self) -> Error {
        self.refused.inc();
        Error::Busy
    }
}

/// A large body on its way in.
pub(crate) struct LargeBody {
    map: MmapMut,
    length: usize,
    steps: OwnedSemaphorePermit,
    held: IntGauge,
}

impl LargeBody {
    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// [`Error::Busy`] when another step is needed and none is left; 413 past the limit of
    /// [`BodyMemory::begin`].
    pub(crate) fn append(&mut self, memory: &BodyMemory, bytes: &[u8]) -> Result<(), Error> {
        let end = self.length + bytes.len();
        if end > self.map.len() {
            return Err(Error::Http(Http::TooLarge));
        }
        while end > self.steps.num_permits() * STEP_BYTES {
            memory.grow(self)?;
        }
        self.map[self.length..end].copy_from_slice(bytes);
        self.length = end;
        self.held.add(gauge(bytes.len()));
        Ok(())
    }

    /// The whole body; its memory goes back when the last copy of the handle is dropped.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for LargeBody {
    fn as_ref(&self) -> &[u8] {
        &self.map[..self.length]
    }
}

impl Drop for LargeBody {
    fn drop(&mut self) {
        self.held.sub(gauge(self.length));
    }
}

fn gauge(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(bytes: usize) -> BodyMemory {
        let held = IntGauge::new("held", "held").unwrap();
        BodyMemory::new(bytes, held, IntCounter::new("refused", "refused").unwrap())
    }

    #[tokio::test]
    async fn what_was_appended_is_read_and_then_given_back() {
        let memory = memory(3 * STEP_BYTES);
        let mut body = memory.begin(5 * STEP_BYTES).await.unwrap();
        let piece: Vec<u8> = (0..STEP_BYTES + 7).map(|at| (at % 251) as u8).collect();
        body.append(&memory, &piece).unwrap();
        body.append(&memory, &piece[..99]).unwrap();
        assert_eq!(memory.steps.available_permits(), 1);
        let bytes = body.freeze();
        assert_eq!(memory.held.get(), gauge(bytes.len()));
        let (copy, expected) = (bytes.slice(3..), [&piece[..], &piece[..99]].concat());
        drop(bytes);
        assert_eq!(copy[..], expected[3..]);
        assert_eq!(memory.steps.available_permits(), 1);
        drop(copy);
        assert_eq!((memory.steps.available_permits(), memory.held.get()), (3, 0));
    }

    #[tokio::test]
    async fn without_room_the_next_body_waits_and_a_growing_one_is_refused() {
        let memory = BodyMemory { wait_max: Duration::from_millis(30), ..memory(STEP_BYTES) };
        let mut body = memory.begin(2 * STEP_BYTES).await.unwrap();
        body.append(&memory, &vec![1; STEP_BYTES]).unwrap();
        assert!(matches!(body.append(&memory, b"x"), Err(Error::Busy)));
        let beyond = body.append(&memory, &vec![1; STEP_BYTES + 1]);
        assert!(matches!(beyond, Err(Error::Http(Http::TooLarge))));
        assert!(matches!(memory.begin(1).await, Err(Error::Busy)));
        assert_eq!(memory.refused.get(), 2);
        let memory = BodyMemory { wait_max: WAIT_MAX, ..memory };
        let (next, ()) = tokio::join!(memory.begin(1), async move { drop(body) });
        assert_eq!(next.unwrap().len(), 0);
    }
}
