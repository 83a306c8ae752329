//! Trying again what may pass by itself.

use std::future::Future;
use std::time::Duration;

use rand::RngExt;
use tokio::time::{Instant, sleep};

use crate::{Error, is_transient};

/// Growing pauses between attempts, each cut by up to half so that callers spread.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    /// Pauses from `first`, doubling up to `most`.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { next: first.min(most), most }
    }

    /// How long to pause now.
    pub fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.most);
        pause.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

impl Default for Backoff {
    /// From 20 ms to a second.
    fn default() -> Self {
        Self::new(Duration::from_millis(20), Duration::from_secs(1))
    }
}

/// Repeats `attempt` while its error is transient and `within` has not passed. What it does must
/// be harmless when done twice: a lost connection may hide a commit.
///
/// # Errors
/// The last error, as [`Error::Unavailable`] when time ran out.
pub async fn retry<T, F, Fut>(within: Duration, mut attempt: F) -> Result<T, Error>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, sqlx::Error>>,
{
    let deadline = Instant::now() + within;
    let mut backoff = Backoff::default();
    loop {
        match attempt().await {
            Ok(value) => return Ok(value),
            Err(why) if is_transient(&why) => {
                let pause = backoff.pause();
                if Instant::now() + pause >= deadline {
                    return Err(why.into());
                }
                tracing::debug!(%why, "database away, trying again");
                sleep(pause).await;
            }
            Err(why) => return Err(why.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test]
    async fn transient_errors_are_tried_again_until_time_is_up() {
        let tries = Cell::new(0);
        let twice = retry(Duration::from_secs(5), || async {
            tries.set(tries.get() + 1);
            if tries.get() < 3 { Err(sqlx::Error::PoolTimedOut) } else { Ok(tries.get()) }
        });
        assert!(matches!(twice.await, Ok(3)));
        let never =
            retry(Duration::from_secs(5), || async { Err::<(), _>(sqlx::Error::PoolTimedOut) });
        assert!(matches!(never.await, Err(Error::Unavailable(_))));
    }

    #[tokio::test]
    async fn other_errors_are_final() {
        let tries = Cell::new(0);
        let refused = retry(Duration::from_secs(5), || async {
            tries.set(tries.get() + 1);
            Err::<(), _>(sqlx::Error::RowNotFound)
        });
        assert!(matches!(refused.await, Err(Error::Refused(_))));
        assert_eq!(tries.get(), 1);
    }
}
