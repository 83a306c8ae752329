//! What processes that die in the middle of their work leave behind. The tests are in `tests/`, each
//! with the invariants it checks; this crate holds the load they run under.
//!
//! [`run`] puts a seeded [`Fault`] before the replicas of one service and its [`Players`], which are
//! [`signal`] (with relay), [`pads`] (peer-linker), [`channels`] (channel-hub), [`book`] (peerbook) and
//! [`posts`] (mesh).
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod book;
pub mod channels;
mod clock;
mod drama;
pub mod pads;
pub mod posts;
pub mod relay_load;
pub mod signal;
mod stage;

pub use clock::installed as faketime_installed;
pub use drama::{Fault, Over, Players, Scene, run};
pub use stage::Stage;
