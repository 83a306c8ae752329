//! What processes that die in the middle of their work leave behind. The tests are in `tests/`, each
//! with the invariants it checks; this crate holds the load they run under.
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod relay_load;
pub mod replicas;
