//! What outlives the process: sessions, nonces, leases and last-seen times in schema `signal`.

pub(crate) mod last_seen;
pub(crate) mod node;
pub(crate) mod nonce;
pub(crate) mod session;

/// The process a row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(pub(crate) uuid::Uuid);

impl NodeId {
    /// As the table has it; the nil number for what is none.
    fn read(text: &str) -> uuid::Uuid {
        uuid::Uuid::try_parse(text).unwrap_or_default()
    }

    /// As it is bound: statements cast it, so that the driver need not know the type.
    fn text(self) -> String {
        self.0.to_string()
    }
}

/// A peer that left, and when, in milliseconds since the epoch. The peer as WTF-8.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LastSeen {
    pub(crate) peer: Vec<u8>,
    pub(crate) at_ms: i64,
}
