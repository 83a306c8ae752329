//! How long to wait before starting something again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// Doubling pauses with jitter: 0.2 s, 0.4 s … 30 s, each shortened by up to half so that
/// programs that died together do not come back together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    deaths: u32,
}

impl Backoff {
    /// The next pause; `random` is uniform over all values.
    pub(crate) fn next(&mut self, random: u32) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.deaths.min(16)).min(LONGEST);
        self.deaths = self.deaths.saturating_add(1);
        whole.mul_f64(1.0 - 0.5 * f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..10).map(|_| backoff.next(0).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        let shortest = Backoff::default().next(u32::MAX);
        assert_eq!(shortest, FIRST / 2);
    }

    #[test]
    fn many_deaths_do_not_overflow() {
        let mut backoff = Backoff { deaths: u32::MAX };
        assert_eq!(backoff.next(0), LONGEST);
    }
}
