//! Where a connection's frames go.

use edge::ws::{Frame, Outbox};

#[cfg(feature = "webrtc")]
use super::{ice::Ice, pipe::Pipe};

/// Where a connection's frames go: a WebSocket or a data channel. Never blocks.
pub(crate) enum Line {
    /// A WebSocket.
    Socket(Outbox),
    /// A WebRTC data channel, whose peer is told the ICE servers when it is let in.
    #[cfg(feature = "webrtc")]
    Channel(Pipe, Ice),
}

impl Line {
    /// Queues a frame; `false` when the connection is over.
    pub(crate) fn send(&self, frame: Frame) -> bool {
        match self {
            Self::Socket(outbox) => outbox.send(frame).is_ok(),
            #[cfg(feature = "webrtc")]
            Self::Channel(pipe, _) => pipe.send(frame),
        }
    }

    /// Ends the connection: what is queued is dropped, `frame` is sent, then it is closed.
    pub(crate) fn end_with(&self, frame: Frame, code: u16, reason: &'static str) {
        match self {
            Self::Socket(outbox) => outbox.end_with(frame, code, reason),
            #[cfg(feature = "webrtc")]
            Self::Channel(pipe, _) => pipe.end_with(frame),
        }
    }

    /// Whether the connection is over.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Socket(outbox) => outbox.is_closed(),
            #[cfg(feature = "webrtc")]
            Self::Channel(pipe, _) => pipe.is_closed(),
        }
    }

    /// What a peer of this user is told besides, once it is let in.
    #[cfg_attr(not(feature = "webrtc"), expect(unused_variables, reason = "of data channels only"))]
    pub(super) fn equipment(&self, uid: &str) -> Option<Frame> {
        match self {
            Self::Socket(_) => None,
            #[cfg(feature = "webrtc")]
            Self::Channel(_, ice) => {
                let servers = if ice.is_set() { ice.text(uid) } else { "null".to_owned() };
                Some(Frame::text(format!("{{\"ice_servers\":{servers}}}")))
            }
        }
    }

    /// Whether it is a data channel, whose clients are told a little less.
    pub(crate) fn is_channel(&self) -> bool {
        !matches!(self, Self::Socket(_))
    }
}
