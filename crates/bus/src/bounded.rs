//! A queue that never grows beyond its limits and remembers that it refused something.

use std::collections::VecDeque;

/// Items waiting, oldest first, within a number and a sum of bytes.
#[derive(Debug)]
pub(crate) struct Bounded<T> {
    items: VecDeque<(T, usize)>,
    bytes: usize,
    max_items: usize,
    max_bytes: usize,
    lost: bool,
}

impl<T> Bounded<T> {
    pub(crate) fn new(max_items: usize, max_bytes: usize) -> Self {
        Self { items: VecDeque::new(), bytes: 0, max_items, max_bytes, lost: false }
    }

    /// Appends an item that counts as `bytes`; `false` when it was dropped instead.
    pub(crate) fn push(&mut self, item: T, bytes: usize) -> bool {
        if self.items.len() >= self.max_items || self.bytes + bytes > self.max_bytes {
            self.lost = true;
            return false;
        }
        self.bytes += bytes;
        self.items.push_back((item, bytes));
        true
    }

    pub(crate) fn pop(&mut self) -> Option<T> {
        let (item, bytes) = self.items.pop_front()?;
        self.bytes -= bytes;
        if self.items.is_empty() {
            self.items.shrink_to(64);
        }
        Some(item)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Notes that something is missing which never came this far.
    pub(crate) fn note_loss(&mut self) {
        self.lost = true;
    }

    /// Whether something was dropped since the last call.
    pub(crate) fn take_loss(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }

    /// Whether there is nothing to take, neither an item nor a loss.
    pub(crate) fn is_idle(&self) -> bool {
        self.items.is_empty() && !self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_remembered_once() {
        let mut queue = Bounded::new(2, 10);
        assert!(queue.push('a', 6) && !queue.push('b', 5) && queue.push('c', 4));
        assert!(!queue.push('d', 0), "two are enough");
        assert!(queue.take_loss() && !queue.take_loss());
        assert_eq!((queue.pop(), queue.pop(), queue.pop()), (Some('a'), Some('c'), None));
        assert!(queue.is_idle() && queue.bytes() == 0);
    }
}
