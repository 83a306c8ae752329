//! The wall clock and deadlines, for code that tests a server from outside.

use std::time::{Duration, Instant};

/// Milliseconds since the epoch, as clients put them into `ts` and `timestampMs`.
pub fn now_ms() -> i64 {
    now_us() / 1000
}

/// Microseconds since the epoch.
pub fn now_us() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "a client outside the service has no service clock"
    )]
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_micros()).expect("microseconds fit for 292 thousand years")
}

/// Calls `check` every few milliseconds until it gives something, at most for `limit`.
pub async fn eventually<T, F>(limit: Duration, mut check: F) -> Option<T>
where
    F: AsyncFnMut() -> Option<T>,
{
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = check().await {
            return Some(found);
        }
        if Instant::now() >= end {
            return None;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
