//! The peerbook's wire: identities, the two dialects of its WebSocket, what stands in an SDP.
//!
//! A connection speaks one [`Dialect`], chosen by its query. [`Message`] reads what it sends;
//! [`encode`] writes what it is told, in its own dialect.

pub mod channel;
pub mod encode;
mod id;
mod message;
pub mod sdp;

pub use id::{Email, Fingerprint, Label, Name};
pub use message::{Command, Envelope, Ignored, Message, Subject};

/// Longest pile of app properties of one peer, as JSON text in bytes.
pub const PROPERTIES_MAX_BYTES: usize = 4096;

/// Which of the two documented interfaces a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `fp=`: peers are named by fingerprint, status and presence are pushed.
    Readme,
    /// `fingerprint=`: peers are named by name, nothing is pushed but the status.
    Plan,
}
