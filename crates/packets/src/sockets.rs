//! Every open connection, so that a drain can tell them.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{line::Shared, serve::Common};

/// Cheaper for each connection than a waiter of its own on the process's stop signal.
#[derive(Default)]
pub(crate) struct Sockets(Mutex<Places>);

#[derive(Default)]
struct Places {
    lines: Vec<Option<Arc<Shared>>>,
    free: Vec<usize>,
    draining: bool,
}

/// One connection's entry; gone when dropped.
pub(crate) struct Place {
    common: Arc<Common>,
    index: usize,
}

impl Place {
    pub(crate) fn enter(common: &Arc<Common>, line: &Arc<Shared>) -> Self {
        let mut places = common.sockets.0.lock();
        if places.draining {
            line.drain();
        }
        let index = places.free.pop().unwrap_or_else(|| {
            places.lines.push(None);
            places.lines.len() - 1
        });
        places.lines[index] = Some(line.clone());
        common.open[line.wire as usize].inc();
        Self { common: common.clone(), index }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.common.sockets.0.lock();
        if let Some(line) = places.lines[self.index].take() {
            self.common.open[line.wire as usize].dec();
        }
        places.free.push(self.index);
    }
}

impl Sockets {
    /// Tells every connection, and those that come later, that the process drains.
    pub(crate) fn drain(&self) {
        let mut places = self.0.lock();
        places.draining = true;
        places.lines.iter().flatten().for_each(|line| line.drain());
    }
}
