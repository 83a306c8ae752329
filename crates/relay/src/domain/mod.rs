//! What the relay decides: who may write what, what a mailbox may hold, who is woken.

mod groups;
mod mailboxes;
mod maintenance;
mod proofs;
mod quota;
mod rules;
mod wakes;

pub(crate) use groups::Groups;
pub(crate) use mailboxes::{Deposit, Envelopes, Mailboxes, Read, ReadFrom};
pub(crate) use maintenance::{Floor, prepare, spawn as spawn_maintenance};
pub(crate) use proofs::Proofs;
pub(crate) use rules::Rules;
pub(crate) use wakes::CHANNEL;
