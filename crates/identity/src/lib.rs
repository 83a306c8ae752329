#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod cache;
mod operator;
mod pins;

use std::fmt;

pub use operator::{Pin, list, release, show};
pub use pins::{CACHE_TTL, CHANNEL, Pins};

/// Longest peer id that can be pinned, in bytes.
pub const PEER_MAX_BYTES: usize = 1024;

/// Who may speak for a peer id; see the crate's documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Policy {
    /// Anybody, as with the original servers.
    Open,
    /// The first key that proved itself for it.
    #[default]
    Pin,
    /// As `pin`, and the checks today's clients may notice.
    Strict,
}

impl Policy {
    /// Whether the original's behaviour is wanted to the letter.
    pub fn is_open(self) -> bool {
        self == Self::Open
    }

    /// Whether the checks today's clients may notice are wanted.
    pub fn is_strict(self) -> bool {
        self == Self::Strict
    }
}

/// The setting, to flatten into a service's `Config`.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Identity")]
pub struct PolicyArgs {
    /// Which key may speak for a peer id. Use the same for every service.
    #[arg(long, env = "IDENTITY_POLICY", value_name = "POLICY", value_enum, default_value = "pin")]
    pub identity_policy: Policy,
}

/// A decoded Ed25519 public key: 32 bytes, nothing else promised.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Key {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Key {
    /// The first four bytes tell keys apart in a log without spelling them out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "Key({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

/// What proved a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// A registration: signed for this moment, over a live connection.
    Register,
    /// A signed write, which may be a copy of an older one.
    Store,
}

impl Proof {
    fn to_sql(self) -> i16 {
        match self {
            Self::Register => 1,
            Self::Store => 2,
        }
    }

    fn from_sql(number: i16) -> Self {
        if number == 1 { Self::Register } else { Self::Store }
    }
}

/// Why a question about an owner has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The database did not answer.
    #[error("pins cannot be read")]
    Storage(#[from] pg::Error),
    /// The peer id is empty or longer than [`PEER_MAX_BYTES`].
    #[error("a peer id has 1 to {PEER_MAX_BYTES} bytes")]
    PeerLength,
}

impl From<sqlx::Error> for Error {
    fn from(why: sqlx::Error) -> Self {
        Self::Storage(why.into())
    }
}
