//! Posts whose clients wait for a home to take them.

use std::collections::{HashMap, VecDeque};

use parking_lot::Mutex;
use proto::mesh::{hex, unhex};
use tokio::sync::mpsc;

/// Answers one post waits for: homes, and some more when views differ.
const ANSWERS: usize = 8;

/// What a home said of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) taken: bool,
    /// Whether it costs more there.
    pub(crate) too_cheap: bool,
    /// Posts of the last minute there.
    pub(crate) recent: u32,
}

/// Posts of other replicas whose answers are passed on, at most; the oldest are forgotten.
const RELAYED: usize = 4_096;

/// Who waits. No more than requests in flight.
#[derive(Default)]
pub(crate) struct Acks {
    waiting: Mutex<HashMap<[u8; 32], mpsc::Sender<Ack>>>,
    /// Posts that other replicas may wait for.
    relayed: Mutex<VecDeque<[u8; 32]>>,
}

/// Waiting; ends with this.
pub(crate) struct Waiting<'a> {
    acks: &'a Acks,
    id: [u8; 32],
    pub(crate) answers: mpsc::Receiver<Ack>,
}

impl Acks {
    /// Waits from now on.
    pub(crate) fn wait(&self, id: [u8; 32]) -> Waiting<'_> {
        let (sender, answers) = mpsc::channel(ANSWERS);
        self.waiting.lock().insert(id, sender);
        Waiting { acks: self, id, answers }
    }

    /// Another replica may wait for this one.
    pub(crate) fn relay(&self, id: [u8; 32]) {
        let mut relayed = self.relayed.lock();
        if relayed.len() >= RELAYED {
            relayed.pop_front();
        }
        relayed.push_back(id);
    }

    /// Whether an answer is to be passed to other replicas; the first of each post is.
    pub(crate) fn take_relayed(&self, id: &[u8; 32]) -> bool {
        let mut relayed = self.relayed.lock();
        let at = relayed.iter().rposition(|known| known == id);
        at.is_some_and(|at| relayed.remove(at).is_some())
    }

    /// Passes an answer to who waits for it; whether anybody does.
    pub(crate) fn answer(&self, id: &[u8; 32], ack: Ack) -> bool {
        let waiting = self.waiting.lock();
        // More answers than homes are nobody's loss.
        waiting.get(id).is_some_and(|sender| sender.try_send(ack).is_ok())
    }
}

impl Ack {
    /// As replicas tell each other, with the post's id.
    pub(crate) fn told(&self, id: &[u8; 32]) -> String {
        let Self { taken, too_cheap, recent } = self;
        format!("{}:{}:{}:{recent}", hex(id), u8::from(*taken), u8::from(*too_cheap))
    }

    /// What another replica told.
    pub(crate) fn heard(payload: &str) -> Option<([u8; 32], Self)> {
        let mut parts = payload.split(':');
        let id = unhex(parts.next()?)?;
        let taken = parts.next()? == "1";
        let too_cheap = parts.next()? == "1";
        let recent = parts.next()?.parse().ok()?;
        Some((id, Self { taken, too_cheap, recent }))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.acks.waiting.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_reach_who_waits_on_this_replica_or_another() {
        let acks = Acks::default();
        let ack = Ack { taken: false, too_cheap: true, recent: 7 };
        assert!(!acks.answer(&[1; 32], ack));
        let mut waiting = acks.wait([1; 32]);
        assert!(acks.answer(&[1; 32], ack));
        assert_eq!(waiting.answers.try_recv(), Ok(ack));
        drop(waiting);
        assert!(!acks.answer(&[1; 32], ack));
        assert_eq!(Ack::heard(&ack.told(&[2; 32])), Some(([2; 32], ack)));
        assert_eq!(Ack::heard("00:1:1:1"), None);
        acks.relay([3; 32]);
        assert!(acks.take_relayed(&[3; 32]) && !acks.take_relayed(&[3; 32]));
    }
}
