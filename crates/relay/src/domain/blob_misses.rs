//! Blob ids are guessable times, so looking for blobs that are not there has a price.

use std::collections::HashMap;
use std::time::Duration;

use edge::LimitKey;
use edge::limit::{Keyed, Rate};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::error::Error;

/// Addresses remembered.
const KEYS_MAX: usize = 100_000;

/// Seconds' worth of look-ups an address may miss at once.
const BURST_SECONDS: u32 = 60;

/// How long an address that missed too often learns nothing more.
const BARRED_FOR: Duration = Duration::from_secs(10);

/// Counts misses by address. Once they are used up every look-up of that address is refused for
/// a while, hits included: otherwise the refusals would tell guesses apart.
pub(crate) struct Misses {
    spent: Option<Keyed>,
    barred: Mutex<HashMap<LimitKey, Instant>>,
}

impl Misses {
    /// Allows `per_second` misses an address in the long run; 0: any number.
    pub(crate) fn new(per_second: u32) -> Self {
        let rate = Rate { burst: per_second.saturating_mul(BURST_SECONDS), per_second };
        let spent = (per_second > 0).then(|| Keyed::new(rate, KEYS_MAX));
        Self { spent, barred: Mutex::default() }
    }

    /// Refuses an address that is barred.
    pub(crate) fn allow(&self, address: LimitKey) -> Result<(), Error> {
        self.allow_at(address, Instant::now())
    }

    fn allow_at(&self, address: LimitKey, now: Instant) -> Result<(), Error> {
        let mut barred = self.barred.lock();
        match barred.get(&address).copied() {
            Some(until) if until > now => Err(too_many(until.duration_since(now))),
            Some(_) => {
                barred.remove(&address);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Counts a miss, and bars the address when it was one too many.
    pub(crate) fn missed(&self, address: LimitKey) -> Result<(), Error> {
        let Some(spent) = &self.spent else { return Ok(()) };
        if spent.check(&address, 1).is_ok() {
            return Ok(());
        }
        let mut barred = self.barred.lock();
        if barred.len() >= KEYS_MAX {
            let now = Instant::now();
            barred.retain(|_, until| *until > now);
        }
        if barred.len() < KEYS_MAX {
            barred.insert(address, Instant::now() + BARRED_FOR);
        }
        Err(too_many(BARRED_FOR))
    }
}

fn too_many(retry_after: Duration) -> Error {
    Error::TooMany { what: "too many look-ups of unknown blobs", retry_after }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_guesses_is_barred_alone_and_for_a_while() {
        let (guesser, other) = (LimitKey::V4([10, 0, 0, 1]), LimitKey::V4([10, 0, 0, 2]));
        let misses = Misses::new(1);
        for _ in 0..BURST_SECONDS {
            misses.missed(guesser).unwrap();
        }
        assert!(misses.missed(guesser).is_err());
        assert!(misses.allow(guesser).is_err());
        assert!(misses.allow(other).is_ok());
        assert!(misses.allow_at(guesser, Instant::now() + BARRED_FOR).is_ok());
    }
}
