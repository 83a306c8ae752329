//! The rules: who is in whose book, who may reach whom, who is told what.
//!
//! [`book::Book`] is what everybody asks. It keeps a [`circle::Circle`] in memory for every user
//! with an open connection, and decides every message by it; the tables are read when a
//! connection opens and when a version changed, never for a message. Connections whose peer is
//! not approved wait in the [`lobby::Lobby`].

pub(crate) mod book;
pub(crate) mod change;
pub(crate) mod circle;
pub(crate) mod connection;
pub(crate) mod delivery;
pub(crate) mod ice;
pub(crate) mod keeper;
pub(crate) mod line;
pub(crate) mod lobby;
pub(crate) mod mail;
pub(crate) mod overview;
pub(crate) mod page_metrics;
mod pairing;
#[cfg(feature = "webrtc")]
pub(crate) mod pipe;
pub(crate) mod presence;
pub(crate) mod proof;
pub(crate) mod properties;
pub(crate) mod replicas;
pub(crate) mod secret;
pub(crate) mod token;
pub(crate) mod totp;

pub(crate) use crate::store::{Account, Peer, RequireProof, peer::Introduction};
