//! Looks at the newest rows of the shared table: what the bus is about to tell, known a moment earlier.
//!
//! A register is acknowledged when its row is committed; the bus tells the other replicas after that. Whoever
//! asks here about a peer that was acknowledged elsewhere is answered after a look that began when it had
//! asked. One look runs at a time, and the next serves everybody who asked meanwhile.

use std::{
    collections::HashSet,
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, oneshot},
    time::timeout,
};
use uuid::Uuid;

use super::{desk::Desk, registry::Row};
use crate::store::{NodeId, session::Latest};

/// Askers that wait at a time; more are answered with what is known.
const WAITING: usize = 16_384;

/// How long one look may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// Who waits for a look.
#[derive(Default)]
pub(super) struct Curious {
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
    asked: Notify,
}

impl Curious {
    /// Asks for a look that begins from now on; over when it is done. `None` when too many wait.
    pub(super) fn ask(&self) -> Option<oneshot::Receiver<()>> {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= WAITING {
            return None;
        }
        let (done, seen) = oneshot::channel();
        waiting.push(done);
        self.asked.notify_one();
        Some(seen)
    }

    /// Somebody has asked.
    pub(super) async fn asked(&self) {
        self.asked.notified().await;
    }
}

type Reading = Pin<Box<dyn Future<Output = Option<Latest>> + Send>>;

/// The look that runs, and where the next one begins.
#[derive(Default)]
pub(super) struct CatchUp {
    since: i64,
    look: Option<Look>,
}

struct Look {
    reading: Reading,
    began_ms: i64,
    answers: Vec<oneshot::Sender<()>>,
    /// Sessions the bus told of since: what it says is newer.
    overtaken: HashSet<Uuid>,
    /// The whole table has been read since, and may be newer.
    repeat: bool,
}

impl CatchUp {
    pub(super) fn is_idle(&self) -> bool {
        self.look.is_none()
    }

    /// Begins a look for everybody who waits.
    pub(super) fn begin(&mut self, desk: &Arc<Desk>) {
        let answers = std::mem::take(&mut *desk.exchange.curious.waiting.lock());
        self.begin_for(desk, answers);
    }

    fn begin_for(&mut self, desk: &Arc<Desk>, answers: Vec<oneshot::Sender<()>>) {
        desk.metrics.looks.inc();
        let reading = Box::pin(look(desk.clone(), self.since));
        let began_ms = desk.clock.now_ms();
        let (overtaken, repeat) = Default::default();
        self.look = Some(Look { reading, began_ms, answers, overtaken, repeat });
    }

    /// What the look finds; never over while there is none.
    pub(super) async fn read(&mut self) -> Option<Latest> {
        match &mut self.look {
            Some(look) => look.reading.as_mut().await,
            None => pending().await,
        }
    }

    /// Notes that the bus told of a session.
    pub(super) fn overtake(&mut self, session: Option<Uuid>) {
        if let Some(look) = &mut self.look {
            look.overtaken.extend(session);
        }
    }

    /// Notes that the whole table has been taken over.
    pub(super) fn repeat(&mut self) {
        if let Some(look) = &mut self.look {
            look.repeat = true;
        }
    }

    /// Takes over what was found and answers who asked; the sessions that were found.
    pub(super) fn end(&mut self, desk: &Arc<Desk>, latest: Option<Latest>) -> Vec<Uuid> {
        let Some(look) = self.look.take() else { return Vec::new() };
        if look.repeat && latest.is_some() {
            self.begin_for(desk, look.answers);
            return Vec::new();
        }
        let Some(latest) = latest else { return Vec::new() }; // answered with what is known
        self.since = latest.until;
        let mut sessions = Vec::with_capacity(latest.seated.len());
        // Newest first; in the order in which they registered they are told.
        for Row { peer, at } in latest.seated.into_iter().rev().map(Row::from) {
            if !look.overtaken.contains(&at.session) {
                let replaced = desk.registry.discover(&peer, at, look.began_ms);
                desk.metrics.replaced.inc_by(u64::from(replaced));
                sessions.push(at.session);
            }
        }
        for answer in look.answers {
            let _ = answer.send(()); // who asked may have left
        }
        sessions
    }
}

async fn look(desk: Arc<Desk>, since: i64) -> Option<Latest> {
    let node = NodeId(desk.exchange.bus.node());
    let reading = crate::store::session::latest(&desk.pool, node, since);
    match timeout(PATIENCE, reading).await {
        Ok(Ok(latest)) => Some(latest),
        Ok(Err(why)) => {
            tracing::debug!(%why, "newest sessions not read");
            None
        }
        Err(_) => None,
    }
}
