//! What outlives the process: users, peers and pairing codes in schema `peerbook`.

pub(crate) mod account;
pub(crate) mod mail;
pub(crate) mod pairing;
pub(crate) mod peer;
pub(crate) mod session;
pub(crate) mod throttle;
pub(crate) mod token;
pub(crate) mod totp;

pub(crate) use account::{Account, RequireProof};
pub(crate) use peer::Peer;

/// One user with everything they have, as of one version.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    pub(crate) account: Account,
    pub(crate) peers: Vec<Peer>,
}
