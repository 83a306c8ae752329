//! Sockets that have not registered yet.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::line::Line;

/// Close code and reason for a socket that did not register in time.
const LATE: (u16, &str) = (1008, "registration deadline");

/// Sockets that have to register before a deadline; most are probes that leave by themselves.
pub(crate) struct Waiting<L> {
    deadline_ms: i64,
    /// By socket number, and so by deadline.
    sockets: Mutex<BTreeMap<u64, (i64, L)>>,
}

impl<L: Line> Waiting<L> {
    pub(crate) fn new(deadline_ms: i64) -> Self {
        Self { deadline_ms, sockets: Mutex::default() }
    }

    pub(crate) fn enter(&self, socket: u64, line: &L, now_ms: i64) {
        self.sockets.lock().insert(socket, (now_ms + self.deadline_ms, line.clone()));
    }

    /// A socket registered or ended; `false` when it was not waiting any more.
    pub(crate) fn leave(&self, socket: u64) -> bool {
        self.sockets.lock().remove(&socket).is_some()
    }

    /// Closes sockets whose time is over; returns how many.
    pub(crate) fn close_late(&self, now_ms: i64) -> usize {
        let mut late = Vec::new();
        let mut sockets = self.sockets.lock();
        while let Some(first) = sockets.first_entry() {
            if first.get().0 > now_ms {
                break;
            }
            late.push(first.remove().1);
        }
        drop(sockets);
        late.iter().for_each(|line| line.close(LATE.0, LATE.1));
        late.len()
    }
}
