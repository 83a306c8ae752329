//! This node among others: its replicas, its lead, its links. Each part is a task or what tasks
//! and requests share; decisions are `domain::mesh`'s.
//!
//! ```text
//! every replica: feed (posts of the others), interest (what it listens to), view (nodes known)
//! the leader:    discovery (who is there), linker (links to them), intake (posts from them)
//! ```

pub(crate) mod carry;
pub(crate) mod discovery;
pub(crate) mod feed;
pub(crate) mod interest;
pub(crate) mod leader;
pub(crate) mod linker;
pub(crate) mod own;
pub(crate) mod verify;
pub(crate) mod view;
