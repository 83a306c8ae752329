//! What a subscriber gets, and how far it may lag behind.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::Topic;
use crate::bounded::Bounded;
use crate::metrics::{Cause, Metrics};

/// Messages and bytes a subscriber may lag behind.
const QUEUE_ITEMS: usize = 65_536;
const QUEUE_BYTES: usize = 16 << 20;

/// What comes from the bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message, at most once, in its sender's order within its topic.
    Message(Message),
    /// Messages may be missing, before or after those that follow: look at the tables.
    Resync,
}

/// What another replica published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who published it.
    pub from: Uuid,
    /// To whom: this node or all.
    pub topic: Topic,
    /// What.
    pub bytes: Bytes,
}

/// One subscriber's view; see [`Bus::subscribe`](crate::Bus::subscribe).
pub struct Subscription(Arc<Shared>);

pub(crate) struct Shared {
    queue: Mutex<Bounded<Message>>,
    filled: Notify,
    metrics: Arc<Metrics>,
}

impl Shared {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        let queue = Mutex::new(Bounded::new(QUEUE_ITEMS, QUEUE_BYTES));
        Self { queue, filled: Notify::new(), metrics }
    }

    pub(crate) fn push(&self, event: Event) {
        let mut queue = self.queue.lock();
        match event {
            Event::Resync => queue.note_loss(),
            Event::Message(message) => {
                let bytes = message.bytes.len();
                if !queue.push(message, bytes) {
                    self.metrics.missed(Cause::Lag);
                }
            }
        }
        drop(queue);
        self.filled.notify_one();
    }
}

impl Subscription {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// The next event. Cancel-safe. Several losses in a row are told as one, and at once.
    pub async fn next(&mut self) -> Event {
        loop {
            let filled = self.0.filled.notified();
            {
                let mut queue = self.0.queue.lock();
                if queue.take_loss() {
                    return Event::Resync;
                }
                if let Some(message) = queue.pop() {
                    return Event::Message(message);
                }
            }
            filled.await;
        }
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}
