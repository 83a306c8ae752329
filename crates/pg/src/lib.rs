#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod connect;
mod error;
mod group;
mod lease;
pub mod partitions;
mod retry;
mod schema;
mod wakeups;

pub use connect::{DatabaseArgs, connect, watch};
pub use error::{Error, is_missing_partition, is_transient};
pub use group::{Batch, GroupCommit, GroupLimits};
pub use lease::{Holding, Lease, LeaseArgs, Renewal, SECRET_BYTES, Sibling, instance, vantage};
pub use retry::{Backoff, retry};
pub use schema::{SCHEMAS, check_schema};
pub use wakeups::{Subscription, Wake, Wakeups};

/// Every migration of the stack, in order. Applied by the operator's tool, never by a service.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// A task for the caller to run; see [`Spawn`].
pub type Task = futures_util::future::BoxFuture<'static, ()>;

/// How this crate starts tasks: through the process that owns them, so that its drain waits.
pub trait Spawn: Fn(&'static str, Task) {}
impl<F: Fn(&'static str, Task)> Spawn for F {}
