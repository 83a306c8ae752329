//! A peer's place: taken by a connected session, or kept for one that may come back.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use edge::ws::Frame;
use parking_lot::Mutex;
use proto::signal::PeerId;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::{line::Line, replay::Replay};

/// One registration of one peer on one socket.
#[derive(Debug)]
pub(crate) struct Seat<L> {
    pub(crate) peer: PeerId,
    /// Names this registration in the store.
    pub(crate) session: Uuid,
    /// Orders registrations of one peer: the highest holds it.
    pub(crate) generation: i64,
    /// Number of the socket, unique in this process.
    pub(crate) socket: u64,
    pub(crate) line: L,
    /// Place in the order of registration; kept by whoever takes the peer over.
    pub(crate) order: u64,
    /// What a reconnect with the token would receive; for sessions that asked.
    pub(crate) resume: Option<Arc<Kept>>,
    /// Cleared once, when the seat is lost: after that the session is mute.
    pub(crate) live: AtomicBool,
}

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Queued for the peer's socket.
    Sent,
    /// Kept for a peer that may come back.
    Kept,
    /// The peer is at another replica: to be passed on to it.
    Elsewhere(Uuid),
    /// Nobody is there to receive it.
    NotFound,
}

/// A resume token and the signals it stands for.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) token: String,
    pub(crate) replay: Mutex<Replay>,
}

impl Kept {
    /// Whether `token` is this one's, in time that does not depend on where they differ.
    pub(crate) fn opens_to(&self, token: &[u8]) -> bool {
        self.token.as_bytes().ct_eq(token).into()
    }
}

impl<L: Line> Seat<L> {
    /// Whether the session still holds its peer.
    pub(crate) fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }

    /// Sends a signal.
    pub(crate) fn deliver(&self, frame: &Frame) -> Delivery {
        let Some(kept) = &self.resume else {
            return if self.line.send(frame) { Delivery::Sent } else { Delivery::NotFound };
        };
        // Kept in the order in which they are sent, whoever sends them.
        let mut replay = kept.replay.lock();
        if self.line.send(frame) {
            replay.sent(frame);
            return Delivery::Sent;
        }
        // The socket is over but its end is not noted yet: this one is missed, not lost.
        if replay.missed(frame) { Delivery::Kept } else { Delivery::NotFound }
    }
}

/// What is found under a peer id.
#[derive(Debug)]
pub(crate) enum Place<L> {
    /// Connected.
    Here(Arc<Seat<L>>),
    /// Left, and may come back with its token until the registry's window ends.
    Away {
        /// The session that left.
        session: Uuid,
        /// What it would receive.
        kept: Arc<Kept>,
    },
    /// At another replica.
    There(There),
}

/// A session at another replica.
#[derive(Clone, Debug)]
pub(crate) struct There {
    pub(crate) node: Uuid,
    pub(crate) session: Uuid,
    pub(crate) generation: i64,
    /// As [`Seat::order`].
    pub(crate) order: u64,
    /// Cleared when it left and may come back: signals for it still go to its replica.
    pub(crate) online: bool,
    /// What the other replica kept, for a register here that is about to be seated.
    pub(crate) moving: Option<Arc<Kept>>,
}

impl<L> Place<L> {
    pub(crate) fn kept(&self) -> Option<&Arc<Kept>> {
        match self {
            Self::Here(seat) => seat.resume.as_ref(),
            Self::Away { kept, .. } => Some(kept),
            Self::There(there) => there.moving.as_ref(),
        }
    }
}
