//! Replays the recorded vectors against running servers and tells where they differ.
//!
//! Two modes. [`Mode::Exact`] asks a server without identity pinning for the original's answers.
//! [`Mode::Sound`] asks a server with its default settings, which refuses what the original should
//! have refused. In both, an answer other than the original's must be the one that
//! [`deviations`] lists for this case, with the reason; anything else fails. Input that ends the
//! original's process must be survived.
#![forbid(unsafe_code)]

pub mod book;
pub mod deviations;
mod http;
mod json;
pub mod pad;
mod relay;
mod report;
pub mod seeds;
mod signal;
mod websocket;

pub use pad::{PadServer, replay_pad};
pub use relay::replay_relay;
pub use report::{Outcome, Report};
pub use signal::replay_signal;

/// Which server the answers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Identity policy `open`: everything as the original does.
    Exact,
    /// Default settings: what the original lets through may be refused.
    Sound,
}

/// Names of one replay, which no other replay against the same server has used.
fn run_name(case: usize) -> String {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static REPLAYS: AtomicUsize = AtomicUsize::new(0);
    let now_ms = usize::try_from(testkit::time::now_ms()).unwrap_or_default();
    // Names stand in one another's order in no case, so that digits of any kind will do.
    let mut rest = (now_ms / 100 + REPLAYS.fetch_add(1, Ordering::Relaxed) * 977) * 1000 + case;
    let mut name = vec![b'r'];
    for _ in 0..7 {
        name.push(b"0123456789abcdefghijklmnopqrstuvwxyz"[rest % 36]);
        rest /= 36;
    }
    String::from_utf8_lossy(&name).into_owned()
}
