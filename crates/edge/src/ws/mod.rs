//! WebSockets (RFC 6455, server side): handshake, frames, and a pump that owns the socket.
//!
//! One task per socket reads, writes and keeps time; see [`pump()`]. Others reach the socket
//! through its [`Outbox`], which never blocks and never grows without limit, or through a
//! [`Feed`] that many sockets follow at the cost of one.
//!
//! An idle socket holds no buffer: bytes are read into a buffer of the thread, and what is
//! queued is freed once written.

pub mod codec;
mod conn;
mod feed;
mod frame;
mod outbox;
mod pump;
mod sockets;
mod upgrade;

use std::{borrow::Cow, ops::ControlFlow, time::Duration};

use bytes::Bytes;

pub(crate) use self::sockets::Sockets;
pub use self::{
    feed::Feed,
    frame::Frame,
    outbox::{Outbox, SendError},
    pump::pump,
    upgrade::{Socket, Upgrading, upgrade, upgrade_to},
};

/// What one socket may use, and how long it may take. Shared by all sockets of a service.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest message taken from the peer, in bytes; a longer one is refused with 1009 as
    /// soon as its header tells.
    pub max_message_bytes: usize,
    /// Bytes that may wait for the peer to read them. One frame may be longer when nothing
    /// else waits.
    pub outbox_bytes: usize,
    /// Frames that may wait for the peer to read them.
    pub outbox_frames: usize,
    /// A peer that sent nothing for this long is pinged.
    pub ping_interval: Duration,
    /// A peer that sent nothing, not even a pong, for this long is closed with 1001.
    pub idle_timeout: Duration,
    /// A peer that took nothing of what waits for it for this long is dropped.
    pub write_timeout: Duration,
    /// How long a close handshake may take.
    pub close_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_bytes: 1 << 20,
            outbox_bytes: 1 << 20,
            outbox_frames: 4096,
            ping_interval: Duration::from_secs(25),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
        }
    }
}

/// One whole message. Its bytes share the buffer they were read into, up to 64 KiB: keep a
/// copy, not the slice, of what is to live long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A text message; valid UTF-8.
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
}

impl Message {
    /// The payload, of whichever kind.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => bytes,
        }
    }
}

/// A close code with its reason (at most 123 bytes are sent).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The code, 1000 to 4999.
    pub code: u16,
    /// Why, for people.
    pub reason: Cow<'static, str>,
}

impl Close {
    /// A close with `code` and `reason`.
    pub const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }
}

/// How a session ended, whoever began it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The peer sent a close frame, with this code if any.
    ByPeer(Option<u16>),
    /// We closed it with this code: the session, its outbox's owner, or the drain.
    ByUs(u16),
    /// The peer broke the protocol or a limit and was closed with this code.
    Violation(u16),
    /// The peer was silent for the idle timeout.
    Idle,
    /// The peer did not read fast enough for what it was sent.
    Slow,
    /// The connection broke, or was killed, without a close.
    Lost,
}

/// What a service does with one socket's messages.
pub trait Session: Send {
    /// Handles one message. Messages of one socket come in order, one at a time; while this
    /// future waits the socket is not read, but still written to.
    fn message(&mut self, message: Message) -> impl Future<Output = ControlFlow<Close>> + Send;

    /// Called exactly once, as soon as the session is over and before the close handshake is
    /// waited for. Nothing can be sent any more.
    fn ended(&mut self, how: Ended) -> impl Future<Output = ()> + Send;
}
