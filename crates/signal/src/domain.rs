//! The rules: who holds which peer id, who is told what, what is kept for whom.
//!
//! [`registry::Registry`] is synchronous: it takes what happened and the time, changes its state and
//! writes to [`line::Line`]s, which never wait. [`desk::Desk`] is the thin shell around it which
//! asks the store and the pins first.

mod catch_up;
pub(crate) mod departed;
pub(crate) mod desk;
pub(crate) mod exchange;
pub(crate) mod ice;
pub(crate) mod keeper;
pub(crate) mod line;
pub(crate) mod registry;
pub(crate) mod replay;
pub(crate) mod roster;
pub(crate) mod seat;
pub(crate) mod waiting;
