//! What this replica wrote last: a database that crashes forgets it, perhaps before the others have read it.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::posts::Paid;

/// Posts kept, each of a kilobyte or two.
const MAX: usize = 4_096;
/// Milliseconds before the newest within which they were written. Telling and reading takes much less.
const KEPT_MS: i64 = 2_000;

/// Posts of the last moment before the last post.
#[derive(Default)]
pub(crate) struct Lately(Mutex<VecDeque<(i64, Paid)>>);

impl Lately {
    /// Keeps what was written just now.
    pub(crate) fn keep(&self, now_ms: i64, paid: Paid) {
        let mut posts = self.0.lock();
        while posts.len() >= MAX || posts.front().is_some_and(|(at, _)| now_ms - at > KEPT_MS) {
            posts.pop_front();
        }
        posts.push_back((now_ms, paid));
    }

    /// All of them, oldest first.
    pub(crate) fn all(&self) -> Vec<Paid> {
        self.0.lock().iter().map(|(_, paid)| paid.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_and_no_more_than_fit() {
        let (lately, paid) = (Lately::default(), |number: u8| Paid {
            hash: [number; 32],
            request: [0; 16],
            post: None,
        });
        lately.keep(1_000, paid(1));
        lately.keep(1_000 + KEPT_MS, paid(2));
        let kept =
            |lately: &Lately| lately.all().iter().map(|paid| paid.hash[0]).collect::<Vec<_>>();
        assert_eq!(kept(&lately), [1, 2], "however long ago the newest is");
        lately.keep(1_001 + KEPT_MS, paid(3));
        assert_eq!(kept(&lately), [2, 3]);
        (0..2 * MAX).for_each(|_| lately.keep(1_001 + KEPT_MS, paid(4)));
        assert_eq!(lately.all().len(), MAX);
    }
}
