//! From argv to exit code: everything a service needs before it does anything of its own.
//!
//! [`run()`] reads the settings, starts logging, the metrics and the admin port, calls the
//! service's `serve` and takes the process through its drain. A service's `main` is one line:
//!
//! ```no_run
//! # use service::{About, Context};
//! # const ABOUT: About = About { name: "idle", about: "Does nothing.", listen: "[::]:1", admin: "127.0.0.1:2", aliases: &[], arguments: &[] };
//! # #[derive(clap::Args)] struct Config {}
//! # async fn serve(_: Config, _: Context) -> anyhow::Result<()> { Ok(()) }
//! fn main() -> std::process::ExitCode {
//!     service::run(&ABOUT, serve)
//! }
//! ```
//!
//! # Settings
//! Every setting is a flag, an environment variable named `<SERVICE>_<NAME>`, and a variable
//! `<SERVICE>_<NAME>_FILE` that names a file holding the value. A flag wins over a variable, a
//! variable over a file, both over the default. An empty variable counts as unset. A variable
//! with the service's prefix that no setting knows is refused, with the nearest name.
//!
//! # Exit codes
//! 0 stopped cleanly, 1 failed to start or to go on, 2 wrong settings, 3 the drain took longer
//! than its grace or was cut short by a second signal.

#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod admin;
mod clock;
mod context;
pub mod duration;
mod environment;
mod logs;
mod notify;
mod process;
mod ready;
mod run;
mod settings;
mod shutdown;
pub mod size;

pub use clock::{Clock, ManualClock};
pub use context::Context;
pub use ready::{Gate, Ready};
pub use run::{About, run};
pub use settings::{Common, LogFormat};
pub use shutdown::Stop;

/// The allocator of every process built on this crate: with many small buffers of mixed lifetimes
/// its resident size stays flat where the system's allocator fragments.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
