//! Connections that a service takes from HTTP once it has a request's answer: for answers that last,
//! of which HTTP would hold two buffers and a state machine each.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, Response, header::CONNECTION};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::{body::Body, stream::Stream};

/// A connection that is the service's own from now on.
pub struct Raw {
    /// The answer's head as it goes over the wire, to be written first. The body ends with the
    /// connection.
    pub head: Bytes,
    /// The connection. What a client sent behind its request is lost.
    pub stream: Stream,
}

/// The connection to be; see [`Body::raw`].
pub struct Waiting(pub(crate) oneshot::Sender<Raw>);

/// What is to be done with a connection whose request has such an answer.
#[derive(Default)]
pub(crate) struct Handover(Mutex<Option<(Bytes, Waiting)>>);

impl Handover {
    /// The stream is to go to whoever waits for it.
    pub(crate) fn ask(&self, response: Response<()>, waiting: Waiting) {
        *self.0.lock() = Some((head(response), waiting));
    }

    /// Whether it is still to.
    pub(crate) fn is_due(&self) -> bool {
        self.0.lock().is_some()
    }

    /// Hands the stream over, unless nobody waits any more.
    pub(crate) fn give(&self, stream: Stream) {
        if let Some((head, Waiting(to))) = self.0.lock().take() {
            // Dropped with its stream when the service has thought better of it.
            let _ = to.send(Raw { head, stream });
        }
    }
}

/// A response's head; its body has no length and ends with the connection.
fn head(mut response: Response<()>) -> Bytes {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let status = response.status();
    let mut head = BytesMut::with_capacity(512);
    head.put_slice(b"HTTP/1.1 ");
    head.put_slice(status.as_str().as_bytes());
    head.put_slice(b" ");
    head.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    head.put_slice(b"\r\n");
    for (name, value) in response.headers() {
        head.put_slice(name.as_str().as_bytes());
        head.put_slice(b": ");
        head.put_slice(value.as_bytes());
        head.put_slice(b"\r\n");
    }
    head.put_slice(b"\r\n");
    // A copy of its own size.
    Bytes::copy_from_slice(&head)
}

impl Body {
    /// A body that is not sent by HTTP: as soon as all answers before this one are out, the connection goes to
    /// the receiver, who writes head and body. It hears nothing when the client has gone before.
    ///
    /// For HTTP/1.1 and GET only; the service sets the head's `Date`.
    pub fn raw() -> (Self, oneshot::Receiver<Raw>) {
        let (sender, receiver) = oneshot::channel();
        (Self::Raw(Waiting(sender)), receiver)
    }
}
