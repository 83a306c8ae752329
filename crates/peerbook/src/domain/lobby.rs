//! Connections whose peer is not let in: they are told once, and wait.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use proto::book::Fingerprint;
use smallvec::SmallVec;

use super::connection::Connection;

type Waiting = SmallVec<[Arc<Connection>; 1]>;

/// Everybody who waits, by fingerprint. Bounded by the connections the port takes.
///
/// Lock order: a circle's lock may be held while taking this one, never the other way round.
#[derive(Default)]
pub(crate) struct Lobby {
    waiting: Mutex<HashMap<Fingerprint, Waiting>>,
    /// Approvals that went through here; see [`Lobby::calls`].
    calls: AtomicU64,
}

impl Lobby {
    /// Seats a connection.
    pub(crate) fn enter(&self, connection: &Arc<Connection>) {
        let mut waiting = self.waiting.lock();
        waiting.entry(connection.fp.clone()).or_default().push(connection.clone());
    }

    /// Takes a connection out, if it is here.
    pub(crate) fn leave(&self, connection: &Arc<Connection>) -> bool {
        let mut waiting = self.waiting.lock();
        let Some(seats) = waiting.get_mut(&connection.fp) else { return false };
        let Some(at) = seats.iter().position(|seat| Arc::ptr_eq(seat, connection)) else {
            return false;
        };
        seats.swap_remove(at);
        if seats.is_empty() {
            waiting.remove(&connection.fp);
        }
        true
    }

    /// Takes out everybody of a fingerprint for whom `admits` holds.
    pub(crate) fn call(
        &self,
        fp: &Fingerprint,
        mut admits: impl FnMut(&Connection) -> bool,
    ) -> Waiting {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let mut waiting = self.waiting.lock();
        let Some(seats) = waiting.remove(fp) else { return Waiting::new() };
        let (called, rest): (Waiting, Waiting) = seats.into_iter().partition(|seat| admits(seat));
        if !rest.is_empty() {
            waiting.insert(fp.clone(), rest);
        }
        called
    }

    /// Notes an approval for which nobody was here.
    pub(crate) fn call_nobody(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
    }

    /// Who waits under a fingerprint.
    pub(crate) fn of(&self, fp: &Fingerprint) -> Waiting {
        self.waiting.lock().get(fp).cloned().unwrap_or_default()
    }

    /// Whether somebody waits under a fingerprint.
    pub(crate) fn has(&self, fp: &str) -> bool {
        self.waiting.lock().contains_key(fp)
    }

    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty()
    }

    /// How many fingerprints wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Grows with every approval. Who looked a peer up before it grew and enters after has to look
    /// again: it was not here to be called.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }
}
