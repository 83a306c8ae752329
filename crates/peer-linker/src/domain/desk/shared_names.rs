//! Names of HTTP pads, of which the processes of the service have each but once.
//!
//! Who comes first at any process takes the name for that one. Whoever comes later, at whatever
//! process, is brought there.

use std::{
    collections::HashMap,
    slice,
    sync::{Arc, Weak, atomic::Ordering},
};

use parking_lot::Mutex;
use pg::{Holding, Sibling};
use tokio::{sync::OnceCell, time::timeout};

use super::{Desk, LOCATE};
use crate::domain::{line::Line, pads::transfer_digest, transfers::Row};

/// How often a name is asked for that somebody had, and then nobody.
const TRIES: usize = 3;

/// The names that requests here have or ask for now.
pub(super) type SharedNames<L> = Mutex<HashMap<[u8; 32], Weak<SharedName<L>>>>;

/// One name. Every request here for it has the same; with the last of them the row goes.
pub(super) struct SharedName<L: Line> {
    desk: Arc<Desk<L>>,
    held: Holding,
    /// Empty until the database was asked. Then who has the name, if not this process.
    elsewhere: OnceCell<Option<Sibling>>,
}

impl<L: Line> Desk<L> {
    /// Has the name of an HTTP pad among the processes until what is returned is dropped, together
    /// with whoever has it here already; nothing is returned while the database is away.
    ///
    /// # Errors
    /// The process that has it.
    pub(crate) async fn share_name(self: &Arc<Self>, name: &[u8]) -> Result<Option<Row>, Sibling> {
        if !self.storage_up.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let shared = self.shared_name(transfer_digest(name));
        let elsewhere = shared.elsewhere.get_or_init(|| shared.ask()).await.clone();
        elsewhere.map_or_else(|| Ok(Some(shared as Row)), Err)
    }

    fn shared_name(self: &Arc<Self>, digest: [u8; 32]) -> Arc<SharedName<L>> {
        let mut names = self.shared_names.lock();
        if let Some(shared) = names.get(&digest).and_then(Weak::upgrade) {
            return shared;
        }
        let number = self.next_shared_name.fetch_add(1, Ordering::Relaxed);
        let held = Holding { digest, number };
        let shared =
            Arc::new(SharedName { desk: self.clone(), held, elsewhere: OnceCell::default() });
        names.insert(digest, Arc::downgrade(&shared));
        shared
    }

    /// Every name of an HTTP pad that this process has.
    pub(in crate::domain) fn names_held(&self) -> Vec<Holding> {
        // Not dropped under the lock, which their end takes.
        let shared: Vec<_> = self.shared_names.lock().values().filter_map(Weak::upgrade).collect();
        let ours = shared.iter().filter(|shared| matches!(shared.elsewhere.get(), Some(None)));
        ours.map(|shared| shared.held.clone()).collect()
    }
}

impl<L: Line> SharedName<L> {
    /// Asks the database for the name. When it does not say that another process has it, it counts
    /// as ours: the two sides may still meet here.
    async fn ask(&self) -> Option<Sibling> {
        let Desk { pool, lease, .. } = &*self.desk;
        for _ in 0..TRIES {
            let taken = timeout(LOCATE, lease.hold(pool, slice::from_ref(&self.held))).await;
            if !matches!(taken, Ok(Ok(taken)) if taken == [false]) {
                return None;
            }
            match timeout(LOCATE, lease.holder(pool, &self.held.digest)).await {
                Ok(Ok(None)) => {} // given back since
                Ok(Ok(elsewhere)) => return elsewhere,
                Ok(Err(_)) | Err(_) => return None,
            }
        }
        None
    }
}

impl<L: Line> Drop for SharedName<L> {
    fn drop(&mut self) {
        let mut names = self.desk.shared_names.lock();
        // Another one may have come to its place already.
        if names.get(&self.held.digest).is_some_and(|shared| shared.strong_count() == 0) {
            names.remove(&self.held.digest);
        }
        drop(names);
        // Without an answer the row may be there all the same.
        if !matches!(self.elsewhere.get(), Some(Some(_))) {
            self.desk.state.lock().releases.push_back(self.held.clone());
            self.desk.released.notify_one();
        }
    }
}
