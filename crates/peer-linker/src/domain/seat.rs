//! One client's place: where its payload goes.

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{event::ClientId, line::Line, meter::Payer, pads::Namespace};
use edge::LimitKey;

/// One connected client.
///
/// Payload takes the lock of its own seat and the partner's queue, nothing that other pairs use.
/// Invariant: `partner` is changed under the desk's lock only; while a payload is being queued it
/// cannot change, so nothing arrives after the sender was told that the link is over.
pub(crate) struct Seat<L> {
    pub(super) client: ClientId,
    pub(super) namespace: Namespace,
    /// `None` for another process.
    pub(super) origin: Option<Origin>,
    pub(super) line: L,
    partner: Mutex<Option<L>>,
    /// Told when `partner` changes.
    parted: Notify,
}

/// Whom a client counts for.
pub(crate) struct Origin {
    /// Where it comes from.
    pub(crate) address: LimitKey,
    /// Who pays for what it sends.
    pub(crate) payer: Payer,
}

impl<L: Line> Seat<L> {
    pub(super) fn new(
        client: ClientId,
        namespace: Namespace,
        origin: Option<Origin>,
        line: L,
    ) -> Self {
        let (partner, parted) = (Mutex::new(None), Notify::new());
        Self { client, namespace, origin, line, partner, parted }
    }

    pub(super) fn join(&self, partner: &L) {
        *self.partner.lock() = Some(partner.clone());
    }

    pub(super) fn part(&self) {
        *self.partner.lock() = None;
        self.parted.notify_waiters();
    }

    /// Passes payload to the linked client, then waits while that one has more than enough to
    /// read: the caller reads nothing meanwhile. `false` when nobody is linked.
    pub(super) async fn pass(&self, payload: L::Payload) -> bool {
        let parted = self.parted.notified();
        let crowded = {
            let partner = self.partner.lock();
            let Some(line) = &*partner else { return false };
            line.pass(payload).then(|| line.clone())
        };
        if let Some(line) = crowded {
            tokio::select! {
                () = line.ready() => {}
                () = parted => {}
            }
        }
        true
    }
}
