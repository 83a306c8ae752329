//! The rules: who owns which pad, who is linked to whom, whose payload goes where.
//!
//! [`pads::Pads`] decides, synchronously. [`desk::Desk`] is the shell around it: it asks the store
//! first and carries out what was decided on the [`line::Line`]s of the clients, which never wait.
//! Payload goes from [`seat::Seat`] to line without asking anybody.

pub(crate) mod desk;
pub(crate) mod event;
pub(crate) mod keeper;
pub(crate) mod line;
pub(crate) mod meter;
pub(crate) mod pads;
pub(crate) mod seat;
pub(crate) mod transfers;
