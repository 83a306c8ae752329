//! Every open socket of one port, so that a drain can tell them.

use std::sync::Arc;

use parking_lot::Mutex;

use super::outbox::Shared;

/// Cheaper for each socket than a waiter of its own on the process's stop signal.
#[derive(Default)]
pub(crate) struct Sockets(Mutex<Places>);

#[derive(Default)]
struct Places {
    sockets: Vec<Option<Arc<Shared>>>,
    free: Vec<usize>,
    draining: bool,
}

/// One socket's entry; gone when dropped.
pub(super) struct Place {
    port: Arc<crate::listener::Shared>,
    index: usize,
}

impl Place {
    pub(super) fn enter(port: &Arc<crate::listener::Shared>, socket: &Arc<Shared>) -> Self {
        let mut places = port.sockets.0.lock();
        if places.draining {
            socket.drain();
        }
        let index = places.free.pop().unwrap_or_else(|| {
            places.sockets.push(None);
            places.sockets.len() - 1
        });
        places.sockets[index] = Some(socket.clone());
        port.metrics.sockets.inc();
        Self { port: port.clone(), index }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.port.sockets.0.lock();
        places.sockets[self.index] = None;
        places.free.push(self.index);
        self.port.metrics.sockets.dec();
    }
}

impl Sockets {
    /// Tells every socket, and those that come later, that the process drains.
    pub(crate) fn drain(&self) {
        let mut places = self.0.lock();
        places.draining = true;
        for socket in places.sockets.iter().flatten() {
            socket.drain();
        }
    }
}
