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
    pub(super) address: LimitKey,
    pub(super) line: L,
    /// Who pays for what it sends.
    pub(super) payer: Payer,
    partner: Mutex<Option<L>>,
    /// Told when `partner` changes.
    parted: Notify,
}

impl<L: Line> Seat<L> {
    pub(super) fn new(
        client: ClientId,
        namespace: Namespace,
        address: LimitKey,
        line: L,
        payer: Payer,
    ) -> Self {
        let (partner, parted) = (Mutex::new(None), Notify::new());
        Self { client, namespace, address, line, payer, partner, parted }
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
