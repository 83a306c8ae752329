//! Posts from other nodes: which are worth looking at, and in which order.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use proto::mesh::link::{Carried, HOPS_MAX, Post};
use proto::mesh::price::{self, Kind};
use tokio::sync::Notify;

use super::{Federation, Link};

/// Posts that wait; beyond it those with the least work go.
const WAITING: usize = 4_096;
/// A post may carry this much less work than its room costs here, in bits: one of grace where it
/// was posted, one for views that differ.
const LENIENCE_BITS: u32 = 2;

/// A post from a link.
pub(crate) struct Arrived {
    pub(crate) carried: Carried,
    pub(crate) post: Post,
    pub(crate) link: Arc<Link>,
}

/// The posts that wait for their turn: those with the most work first.
#[derive(Default)]
pub(crate) struct Ingress {
    queue: Mutex<Queue>,
    more: Notify,
}

#[derive(Default)]
struct Queue {
    /// By first word of the proof's hash, where less is more work, then by arrival.
    waiting: BTreeMap<(u64, u64), Arrived>,
    arrivals: u64,
}

impl Ingress {
    /// Queues a post; the one that had to go for it, if any.
    pub(crate) fn push(&self, arrived: Arrived) -> Option<Arrived> {
        let mut queue = self.queue.lock();
        queue.arrivals += 1;
        let place = (arrived.carried.proof.word(), queue.arrivals);
        queue.waiting.insert(place, arrived);
        let over = if queue.waiting.len() > WAITING { queue.waiting.pop_last() } else { None };
        drop(queue);
        self.more.notify_one();
        over.map(|(_, arrived)| arrived)
    }

    /// The post with the most work, as soon as there is one.
    pub(crate) async fn next(&self) -> Arrived {
        loop {
            let first = self.queue.lock().waiting.pop_first();
            if let Some((_, arrived)) = first {
                return arrived;
            }
            self.more.notified().await;
        }
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.lock().waiting.len()
    }
}

/// What becomes of a post from another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is as good as one of our own clients', its signature aside.
    Fine,
    /// Its room costs more here: its origin cannot know.
    Dear,
    /// No honest node passes this on.
    Bad(&'static str),
}

/// Looks at what is cheap to look at. `recent` are the room's posts of the last minute here,
/// `least` the network's smallest height.
pub(crate) fn judge(
    carried: &Carried,
    post: &Post,
    federation: &Federation,
    (least, recent): (u8, u32),
    now_s: u32,
) -> Verdict {
    if !carried.is_current(now_s) {
        return Verdict::Bad("stale");
    }
    let pays = |recent| {
        let work = price::work(least, Kind::Post, recent);
        carried.proof.word() <= price::target(price::accepted(work, LENIENCE_BITS))
    };
    if !pays(0) {
        return Verdict::Bad("work");
    }
    if !(1..=HOPS_MAX).contains(&post.hop) {
        return Verdict::Bad("hops");
    }
    if !federation.admits(&carried.origin) {
        return Verdict::Bad("stranger");
    }
    if pays(recent) { Verdict::Fine } else { Verdict::Dear }
}
