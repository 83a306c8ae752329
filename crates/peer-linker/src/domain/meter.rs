//! How much each identity may send.

use std::sync::Arc;

use edge::{
    LimitKey,
    limit::{Keyed, Rate},
};
use tokio::time::{Instant, sleep_until};

/// Identities metered at once; beyond, the one nearest to a full allowance starts anew.
const MAX_PAYERS: usize = 100_000;

/// Whose allowance is spent: the verified content of a certificate, or the address of a client
/// that showed none.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Payer {
    /// Content of a user certificate.
    Identity(Arc<[u8]>),
    /// An address.
    Address(LimitKey),
}

/// Token buckets by identity; no limit at all unless one is set.
pub(crate) struct Meter {
    buckets: Option<Keyed<Payer>>,
    paused: prometheus::IntCounter,
    burst: u32,
}

impl Meter {
    /// Bytes per second and at once. `paused` counts the waits.
    pub(crate) fn new(rate: Option<Rate>, paused: prometheus::IntCounter) -> Self {
        let burst = rate.map_or(u32::MAX, |rate| rate.burst);
        Self { buckets: rate.map(|rate| Keyed::new(rate, MAX_PAYERS)), paused, burst }
    }

    /// Waits until `payer` may send `bytes` more. More than the burst at once is paid in parts.
    pub(crate) async fn spend(&self, payer: &Payer, bytes: usize) {
        let Some(buckets) = &self.buckets else { return };
        let mut left = bytes;
        let mut waited = false;
        while left > 0 {
            let part = u32::try_from(left).unwrap_or(u32::MAX).min(self.burst);
            match buckets.check(payer, part) {
                Ok(()) => left -= usize::try_from(part).unwrap_or(left),
                Err(pause) => {
                    if !waited {
                        self.paused.inc();
                    }
                    waited = true;
                    sleep_until(Instant::now() + pause).await;
                }
            }
        }
    }
}
