//! Homes that are needed and not linked: whom to dial, and what they are to get once they are there.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use proto::mesh::NodeKey;

/// Homes wanted at once, and posts that wait for each: 17 MiB at most.
const HOMES_MAX: usize = 256;
const POSTS_MAX: usize = 32;
/// A home that is not linked by then is not waited for any more, in milliseconds.
const PATIENCE_MS: i64 = 20_000;

/// The homes.
#[derive(Default)]
pub(crate) struct Demand(HashMap<NodeKey, Wanted>);

struct Wanted {
    until_ms: i64,
    posts: VecDeque<Bytes>,
}

impl Demand {
    /// A home is needed from now on, for a while.
    pub(crate) fn want(&mut self, key: NodeKey, now_ms: i64) {
        if self.0.len() >= HOMES_MAX && !self.0.contains_key(&key) {
            return; // rooms have other homes, and this one is asked for again
        }
        let until_ms = now_ms + PATIENCE_MS;
        let wanted = self.0.entry(key);
        wanted.or_insert(Wanted { until_ms, posts: VecDeque::new() }).until_ms = until_ms;
    }

    /// A home is needed for a post; whether that can wait for it. The oldest make room.
    pub(crate) fn want_for(&mut self, key: NodeKey, post: Bytes, now_ms: i64) -> bool {
        self.want(key, now_ms);
        let Some(wanted) = self.0.get_mut(&key) else { return false };
        let full = wanted.posts.len() >= POSTS_MAX;
        if full {
            wanted.posts.pop_front();
        }
        wanted.posts.push_back(post);
        !full
    }

    /// A home is there: what it is to get, oldest first.
    pub(crate) fn take(&mut self, key: &NodeKey) -> VecDeque<Bytes> {
        self.0.remove(key).map(|wanted| wanted.posts).unwrap_or_default()
    }

    /// The homes still wanted; how many posts the others never got.
    pub(crate) fn due(&mut self, now_ms: i64) -> (Vec<NodeKey>, usize) {
        let mut lost = 0;
        self.0.retain(|_, wanted| {
            let stays = now_ms < wanted.until_ms;
            lost += if stays { 0 } else { wanted.posts.len() };
            stays
        });
        (self.0.keys().copied().collect(), lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posts_wait_for_their_home_in_order_and_not_for_ever() {
        let mut demand = Demand::default();
        demand.want([1; 32], 0);
        for at in 0..40_u8 {
            let room = demand.want_for([2; 32], Bytes::from(vec![at]), 10_000);
            assert_eq!(room, usize::from(at) < POSTS_MAX);
        }
        assert_eq!(demand.due(19_999).0.len(), 2);
        assert_eq!(demand.due(20_000), (vec![[2; 32]], 0));
        let posts = demand.take(&[2; 32]);
        assert!(posts.len() == POSTS_MAX && posts[0][..] == [8] && posts[31][..] == [39]);
        assert!(demand.take(&[2; 32]).is_empty() && demand.due(0).0.is_empty());
        demand.want_for([3; 32], Bytes::new(), 0);
        assert_eq!(demand.due(PATIENCE_MS), (Vec::new(), 1));
        (0..=255_u8).for_each(|at| demand.want([at; 32], 0));
        let mut other = [0; 32];
        other[0] = 1;
        assert!(!demand.want_for(other, Bytes::new(), 0) && demand.0.len() == HOMES_MAX);
    }
}
