//! One open WebSocket or data channel, as the rules see it.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use edge::{LimitKey, ws::Frame};
use proto::book::{
    Dialect, Fingerprint,
    encode::{self, Extras},
};

use super::{
    circle::{Circle, VERIFIED},
    line::Line,
    presence::Place,
};
use crate::store::peer::Introduction;

/// One open WebSocket or data channel.
pub(crate) struct Connection {
    pub(crate) fp: Fingerprint,
    pub(crate) dialect: Dialect,
    pub(crate) line: Line,
    /// What a proof made on this connection has to be made over.
    pub(crate) nonce: String,
    pub(crate) address: LimitKey,
    /// What the peer said of itself, until it is verified.
    pub(crate) introduction: Introduction,
    /// Its row, for the other replicas.
    pub(super) place: Place,
    /// The fingerprint was proven on this connection.
    proven: AtomicBool,
    /// Where it was let in; a connection is let in once and closed when it is put out.
    circle: OnceLock<Arc<Circle>>,
}

impl Connection {
    pub(crate) fn new(
        introduction: Introduction,
        dialect: Dialect,
        line: Line,
        nonce: String,
        address: LimitKey,
        (place, proven): (Place, bool),
    ) -> Self {
        Self {
            fp: introduction.fp.clone(),
            dialect,
            line,
            nonce,
            address,
            introduction,
            place,
            proven: AtomicBool::new(proven),
            circle: OnceLock::new(),
        }
    }

    /// Queues a frame; a connection that is over needs none.
    pub(crate) fn tell(&self, frame: &Frame) {
        self.line.send(frame.clone());
    }

    /// Tells a status.
    pub(crate) fn status(&self, code: u16, text: &str, extras: Extras<'_>) {
        self.tell(&Frame::text(encode::status(code, text, extras)));
    }

    /// Tells that it is in.
    pub(super) fn welcome(&self, uid: &str, token: Option<&str>) {
        let extras = Extras { uid: Some(uid), nonce: Some(&self.nonce), token };
        // Clients of data channels take the text of a 200 for the user's id.
        let text = if self.line.is_channel() { uid } else { VERIFIED };
        self.status(200, text, extras);
    }

    /// Tells that nothing else is heard until the peer is approved, or proves itself. Clients of
    /// data channels ask instead.
    pub(crate) fn wait(&self, text: &str) {
        if self.line.is_channel() {
            return;
        }
        self.status(401, text, Extras { nonce: Some(&self.nonce), ..Extras::default() });
    }

    /// The circle it was let into.
    pub(crate) fn circle(&self) -> Option<&Arc<Circle>> {
        self.circle.get()
    }

    /// Lets it into a circle; `false` when it is in one.
    pub(super) fn let_in(&self, circle: &Arc<Circle>) -> bool {
        let is_new = self.circle.set(circle.clone()).is_ok();
        if is_new {
            self.place.let_in(&circle.uid);
        }
        is_new
    }

    /// Whether the fingerprint was proven here.
    pub(crate) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Acquire)
    }

    /// Notes that it was.
    pub(crate) fn set_proven(&self) {
        self.proven.store(true, Ordering::Release);
        self.place.proven();
    }
}
