//! Which channels there are, who waits for an answer about them, and what everybody is told.

pub(crate) mod desk;
pub(crate) mod hub;
pub(crate) mod keeper;
mod listing;
