//! What clients may spend: frames and bytes, by socket and by address.

use std::time::{Duration, Instant};

use crate::{
    client::LimitKey,
    limit::{Keyed, Rate},
};

/// Addresses being limited at once; see [`Keyed`].
const ADDRESSES: usize = 65_536;

/// Frames and bytes a socket takes from its address's allowance at a time, so that most frames
/// touch nothing shared.
const FRAMES_AHEAD: u32 = 16;
const BYTES_AHEAD: u32 = 64 * 1024;

/// Refusals in a row after which a socket is not argued with any longer.
const PATIENCE: u32 = 1_000;

/// Rates in force; `None` is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowances {
    /// Frames from one socket.
    pub peer_frames: Option<Rate>,
    /// Bytes from one socket.
    pub peer_bytes: Option<Rate>,
    /// Frames from one address.
    pub address_frames: Option<Rate>,
    /// Bytes from one address.
    pub address_bytes: Option<Rate>,
}

/// The allowances of one process.
pub struct Limiter {
    peer_frames: Option<Rate>,
    peer_bytes: Option<Rate>,
    address_frames: Option<Keyed>,
    address_bytes: Option<Keyed>,
}

impl Limiter {
    /// Nothing spent so far.
    pub fn new(rates: &Allowances) -> Self {
        let keyed = |rate: Option<Rate>| rate.map(|rate| Keyed::new(rate, ADDRESSES));
        Self {
            peer_frames: rates.peer_frames,
            peer_bytes: rates.peer_bytes,
            address_frames: keyed(rates.address_frames),
            address_bytes: keyed(rates.address_bytes),
        }
    }
}

/// What one socket has spent.
pub struct Meter {
    address: LimitKey,
    frames: Bucket,
    bytes: Bucket,
    frames_ahead: u32,
    bytes_ahead: u32,
    refused: u32,
}

/// Why a frame is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// Come back after this time.
    RetryIn(Duration),
    /// Too often refused: the socket is closed.
    OutOfPatience,
}

impl Meter {
    /// A socket of `address` that has spent nothing.
    pub fn new(address: LimitKey) -> Self {
        let (frames, bytes) = (Bucket::default(), Bucket::default());
        Self { address, frames, bytes, frames_ahead: 0, bytes_ahead: 0, refused: 0 }
    }

    /// Whose allowance it shares.
    pub fn address(&self) -> &LimitKey {
        &self.address
    }

    /// Pays for one frame of so many bytes.
    ///
    /// # Errors
    /// What to do instead of reading it.
    pub fn spend(&mut self, limiter: &Limiter, bytes: usize) -> Result<(), Exceeded> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        match self.pay(limiter, bytes) {
            Ok(()) => {
                self.refused = 0;
                Ok(())
            }
            Err(_) if self.refused >= PATIENCE => Err(Exceeded::OutOfPatience),
            Err(wait) => {
                self.refused += 1;
                Err(Exceeded::RetryIn(wait))
            }
        }
    }

    fn pay(&mut self, limiter: &Limiter, bytes: u32) -> Result<(), Duration> {
        if limiter.peer_frames.is_some() || limiter.peer_bytes.is_some() {
            let now = Instant::now();
            self.frames.take(limiter.peer_frames, 1, now)?;
            self.bytes.take(limiter.peer_bytes, bytes, now)?;
        }
        let address = &self.address;
        draw(limiter.address_frames.as_ref(), address, 1, FRAMES_AHEAD, &mut self.frames_ahead)?;
        draw(limiter.address_bytes.as_ref(), address, bytes, BYTES_AHEAD, &mut self.bytes_ahead)
    }
}

/// Pays from what was drawn ahead, or draws more.
fn draw(
    limit: Option<&Keyed>,
    address: &LimitKey,
    cost: u32,
    ahead: u32,
    drawn: &mut u32,
) -> Result<(), Duration> {
    let Some(limit) = limit else { return Ok(()) };
    if *drawn < cost {
        let missing = cost - *drawn;
        let more = missing.max(ahead);
        match limit.check(address, more) {
            Ok(()) => *drawn += more,
            // Nearly at the limit: pay to the token instead of ahead.
            Err(_) => {
                limit.check(address, missing)?;
                *drawn += missing;
            }
        }
    }
    *drawn -= cost;
    Ok(())
}

/// A token bucket that only its owner touches: when it will be full again.
#[derive(Default)]
struct Bucket(Option<Instant>);

impl Bucket {
    fn take(&mut self, rate: Option<Rate>, cost: u32, now: Instant) -> Result<(), Duration> {
        let Some(rate) = rate else { return Ok(()) };
        let time = |tokens: u32| Duration::from_secs(tokens.into()) / rate.per_second;
        let full_at = self.0.map_or(now, |full_at| full_at.max(now)) + time(cost);
        // A single cost above the burst passes when the bucket is full, or it never would.
        let room = time(rate.burst.max(cost));
        match (full_at - now).checked_sub(room).filter(|over| !over.is_zero()) {
            Some(over) => Err(over),
            None => {
                self.0 = Some(full_at);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Option<Rate> = Some(Rate { burst: 3, per_second: 10 });

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let start = Instant::now();
        let mut bucket = Bucket::default();
        for _ in 0..3 {
            assert_eq!(bucket.take(RATE, 1, start), Ok(()));
        }
        assert_eq!(bucket.take(RATE, 1, start), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take(RATE, 1, start + Duration::from_millis(100)), Ok(()));
    }

    #[test]
    fn a_full_bucket_lets_one_large_message_through() {
        let start = Instant::now();
        let mut bucket = Bucket::default();
        assert_eq!(bucket.take(RATE, 5, start), Ok(()));
        assert!(bucket.take(RATE, 1, start).is_err());
    }

    #[test]
    fn an_address_is_limited_over_all_its_sockets_and_patience_ends() {
        let off = Allowances {
            peer_frames: None,
            peer_bytes: None,
            address_frames: Some(Rate { burst: 20, per_second: 1 }),
            address_bytes: None,
        };
        let limiter = Limiter::new(&off);
        let address = LimitKey::from(std::net::IpAddr::from([192, 0, 2, 1]));
        let (mut one, mut two) = (Meter::new(address), Meter::new(address));
        let passed = (0..30).filter(|_| one.spend(&limiter, 5).is_ok()).count();
        assert!((20..=21).contains(&passed), "{passed}");
        let mut last = Ok(());
        for _ in 0..=PATIENCE {
            last = two.spend(&limiter, 5);
        }
        assert_eq!(last, Err(Exceeded::OutOfPatience));
    }
}
