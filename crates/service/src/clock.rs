//! Wall time as a value, so that a test can decide what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, from the system or from a test.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<AtomicI64>),
}

/// Moves the time of the [`Clock`]s it was made with.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicI64>);

impl Clock {
    /// The machine's wall clock. It may step; never measure durations with it.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `start_ms` until it is moved.
    pub fn manual(start_ms: i64) -> (Self, ManualClock) {
        let now_ms = Arc::new(AtomicI64::new(start_ms));
        (Self(Source::Manual(now_ms.clone())), ManualClock(now_ms))
    }

    /// Now, in milliseconds since the Unix epoch; never negative for the system's clock.
    #[expect(clippy::disallowed_methods, reason = "this is the clock everybody else asks")]
    pub fn now_ms(&self) -> i64 {
        match &self.0 {
            Source::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
            Source::Manual(now_ms) => now_ms.load(Ordering::SeqCst),
        }
    }
}

impl ManualClock {
    /// Moves the time forward, or back when `by_ms` is negative.
    pub fn advance(&self, by_ms: i64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// Sets the time.
    pub fn set(&self, now_ms: i64) {
        self.0.store(now_ms, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told() {
        let (clock, hand) = Clock::manual(1_000);
        let copy = clock.clone();
        hand.advance(5);
        assert_eq!((clock.now_ms(), copy.now_ms()), (1_005, 1_005));
        hand.set(7);
        assert_eq!(clock.now_ms(), 7);
    }

    #[test]
    fn the_system_clock_is_past_the_year_2020() {
        assert!(Clock::system().now_ms() > 1_577_836_800_000);
    }
}
