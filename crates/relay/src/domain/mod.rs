//! What the relay decides: who may write what, what a mailbox may hold, who is woken.

pub(crate) mod blob;
mod blob_metrics;
mod blob_misses;
mod blob_part;
pub(crate) mod blob_reader;
mod blob_settings;
#[cfg(test)]
mod blob_tests;
pub(crate) mod blob_upload;
mod groups;
mod mailboxes;
mod maintenance;
mod proofs;
mod quota;
mod rules;
mod wakes;

pub use blob_settings::{BlobArgs, BlobMembership};
pub(crate) use groups::Groups;
pub(crate) use mailboxes::{Deposit, Envelopes, Mailboxes, Read, ReadFrom};
pub(crate) use maintenance::{Present, prepare, spawn as spawn_maintenance};
pub(crate) use proofs::Proofs;
pub(crate) use rules::Rules;
pub(crate) use wakes::CHANNEL;
