//! Real binaries, started and ended the way an operator, a kernel or a power cut would.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use testkit::{database::Database, process::Service};
//! let database = Database::fresh().await?;
//! let mut relay = Service::named("relay").database(&database.url()).start().await?;
//! relay.kill(); // as `kill -9`
//! relay.start_again().await?; // same ports, same settings
//! assert_eq!(relay.terminate().await?.code(), Some(0));
//! # Ok(()) }
//! ```
//!
//! The binary comes from beside the test (`target/debug/relay`) and is built first when a source
//! it was made from is newer; `SWITCHYARD_BIN_DIR` names a directory of finished ones instead.

mod binary;
mod child;
mod ports;
mod service;
mod stack;

pub use binary::{binary, workspace};
pub use child::Process;
pub use ports::Port;
pub use service::{Builder, Service};
pub use stack::{Place, Stack};
