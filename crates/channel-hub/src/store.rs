//! What outlives the process: the names of channels and their leases in schema `channel_hub`.

use std::time::Duration;

use pg::{Holding, Lease};
use sha2::{Digest, Sha256};

/// The lease of this process; its holdings are rows of `channel_hub.channel`.
pub(crate) fn lease(instance: String, expiry: Duration) -> Lease {
    Lease::new("channel_hub", "channel", instance, expiry)
}

/// The row of a registration: of the channel `name` in a namespace, with the process's own number.
pub(crate) fn row(namespace: u8, name: &[u8], number: u64) -> Holding {
    let digest = Sha256::new().chain_update([namespace]).chain_update(name).finalize();
    Holding { digest: digest.into(), number }
}
