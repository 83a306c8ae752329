//! Token buckets by address or by any other key, in bounded memory.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    str::FromStr,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::client::LimitKey;

const SHARDS: usize = 16;
/// Entries looked at when a full shard needs room; the one nearest to expiry leaves.
const EVICTION_SAMPLE: usize = 8;

/// How much one key may spend.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// What it may spend at once after a pause.
    pub burst: u32,
    /// What comes back per second.
    pub per_second: u32,
}

/// A [`Rate`] as settings have it, `PER_SECOND:BURST` in units or bytes, or `off`.
#[derive(Clone, Copy, Debug)]
pub struct Allowance(pub Option<Rate>);

impl FromStr for Allowance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self(None));
        }
        let wrong = || "expected PER_SECOND:BURST, such as 200:1000 or 4mb:16mb, or off".to_owned();
        let (per_second, burst) = text.split_once(':').ok_or_else(wrong)?;
        let amount = |text| u32::try_from(service::size::parse(text)?).map_err(|_| wrong());
        let (per_second, burst) = (amount(per_second)?, amount(burst)?);
        if per_second == 0 || burst == 0 {
            return Err(wrong());
        }
        Ok(Self(Some(Rate { burst, per_second })))
    }
}

/// One token bucket per key. Keys that have their full burst again take no memory for long.
///
/// Stored is only when a key's bucket will be full again (the virtual scheduling form of
/// the generic cell rate algorithm): one word per key. When `max_keys` are being limited at
/// once, the one nearest to a full bucket is forgotten, which errs in its favour.
pub struct Keyed<K = LimitKey> {
    shards: Box<[Mutex<Shard<K>>]>,
    hasher: RandomState,
    epoch: Instant,
    nanos_per_token: u64,
    burst_nanos: u64,
    max_keys_per_shard: usize,
}

struct Shard<K> {
    /// Nanoseconds since `epoch` at which the key's bucket is full.
    full_at: HashMap<K, u64>,
    sweep_at: u64,
}

impl<K: Hash + Eq + Clone> Keyed<K> {
    /// Buckets of `rate` for at most `max_keys` keys. A rate of 0 per second lets nothing back in
    /// for a day.
    pub fn new(rate: Rate, max_keys: usize) -> Self {
        let day = Duration::from_hours(24).as_nanos();
        let nanos_per_token = 1_000_000_000_u64.checked_div(u64::from(rate.per_second));
        let nanos_per_token = nanos_per_token.unwrap_or(u64::try_from(day).expect("fits")).max(1);
        let shard = || Mutex::new(Shard { full_at: HashMap::new(), sweep_at: 0 });
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: RandomState::new(),
            epoch: Instant::now(),
            nanos_per_token,
            burst_nanos: nanos_per_token.saturating_mul(u64::from(rate.burst)),
            max_keys_per_shard: max_keys.div_ceil(SHARDS).max(1),
        }
    }

    /// Spends `cost` tokens of `key`, all or nothing.
    ///
    /// # Errors
    /// How long until the same cost can be paid. A cost above the burst can never be paid;
    /// it is told to wait as long as that many tokens take.
    pub fn check(&self, key: &K, cost: u32) -> Result<(), Duration> {
        self.check_at(key, cost, Instant::now())
    }

    fn check_at(&self, key: &K, cost: u32, at: Instant) -> Result<(), Duration> {
        let now = u64::try_from(at.duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX);
        let price = self.nanos_per_token.saturating_mul(u64::from(cost));
        let shard = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or(0);
        let mut shard = self.shards[shard].lock();
        let known = shard.full_at.get_mut(key);
        let full_at = known.as_deref().copied().unwrap_or(0).max(now).saturating_add(price);
        let over = (full_at - now).saturating_sub(self.burst_nanos);
        if over > 0 {
            return Err(Duration::from_nanos(over));
        }
        match known {
            Some(known) => *known = full_at,
            None => {
                shard.make_room(now, self.burst_nanos, self.max_keys_per_shard);
                shard.full_at.insert(key.clone(), full_at);
            }
        }
        Ok(())
    }
}

impl<K: Hash + Eq + Clone> Shard<K> {
    fn make_room(&mut self, now: u64, burst_nanos: u64, max_keys: usize) {
        if now >= self.sweep_at {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.full_at.shrink_to(self.full_at.len() * 2);
            // Every bucket is full one burst after its last use, so sweeping once per burst
            // keeps at most twice what is needed.
            self.sweep_at = now.saturating_add(burst_nanos.max(1_000_000_000));
        }
        if self.full_at.len() >= max_keys {
            let nearest = self.full_at.iter().take(EVICTION_SAMPLE).min_by_key(|entry| *entry.1);
            if let Some(key) = nearest.map(|entry| entry.0.clone()) {
                self.full_at.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 10, per_second: 5 };

    fn keyed(max_keys: usize) -> (Keyed<u32>, Instant) {
        let keyed = Keyed::new(RATE, max_keys);
        let epoch = keyed.epoch;
        (keyed, epoch)
    }

    fn held(keyed: &Keyed<u32>) -> usize {
        keyed.shards.iter().map(|shard| shard.lock().full_at.len()).sum()
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds() {
        let (keyed, now) = keyed(100);
        assert_eq!(keyed.check_at(&1, 10, now), Ok(()));
        assert_eq!(keyed.check_at(&1, 1, now), Err(Duration::from_millis(200)));
        assert_eq!(keyed.check_at(&2, 1, now), Ok(()), "another key is not concerned");
        assert!(keyed.check_at(&1, 5, now + Duration::from_millis(999)).is_err());
        assert_eq!(keyed.check_at(&1, 5, now + Duration::from_secs(1)), Ok(()));
        let later = now + Duration::from_secs(60);
        assert_eq!(keyed.check_at(&1, 10, later), Ok(()), "no more than the burst is saved up");
        assert!(keyed.check_at(&1, 1, later).is_err());
    }

    #[test]
    fn a_refusal_costs_nothing() {
        let (keyed, now) = keyed(100);
        keyed.check_at(&1, 8, now).unwrap();
        assert_eq!(keyed.check_at(&1, 11, now), Err(Duration::from_millis(1800)));
        assert_eq!(keyed.check_at(&1, 2, now), Ok(()));
    }

    #[test]
    fn keys_at_rest_are_forgotten() {
        let (keyed, now) = keyed(1_000_000);
        for second in 0..100_u32 {
            let at = now + Duration::from_secs(second.into());
            for key in 0..100 {
                keyed.check_at(&(second * 100 + key), 1, at).unwrap();
            }
        }
        assert!(held(&keyed) <= 800, "{} of 10,000 keys are held", held(&keyed));
    }

    #[test]
    fn memory_is_bounded_while_everybody_is_limited() {
        let (keyed, now) = keyed(160);
        for key in 0..10_000 {
            keyed.check_at(&key, 10, now).unwrap();
        }
        assert!(held(&keyed) <= 160);
    }

    #[test]
    fn rates_are_read_as_they_are_written_in_the_help() {
        let rate = |text: &str| text.parse::<Allowance>().map(|Allowance(rate)| rate);
        let mb = rate("4mb:16mb").unwrap().unwrap();
        assert_eq!((mb.per_second, mb.burst), (4 << 20, 16 << 20));
        assert!(rate("off").unwrap().is_none());
        for wrong in ["", "5", "0:5", "5:0", "5:x", "8gb:9gb"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
