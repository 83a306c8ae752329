//! Generators for the relay.

pub(crate) mod ack;
pub(crate) mod blob;
pub(crate) mod fetch;
pub(crate) mod group;
pub(crate) mod pgbench;
pub(crate) mod prepare;
pub(crate) mod queue;
pub(crate) mod store;
