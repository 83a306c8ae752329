//! How many there may be at a time, in all and from one address.

use std::{collections::HashMap, sync::Arc};

use edge::LimitKey;
use parking_lot::Mutex;

/// Counts who sits. Bounded by the seats there are.
pub(super) struct Seats {
    most: usize,
    most_per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<LimitKey, usize>,
}

/// A seat, free again when dropped.
pub(super) struct Seat {
    seats: Arc<Seats>,
    address: LimitKey,
}

impl Seats {
    pub(super) fn new(most: usize, most_per_address: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_address, taken: Mutex::default() })
    }

    /// A seat, if one is free.
    pub(super) fn take(self: &Arc<Self>, address: LimitKey) -> Option<Seat> {
        let mut taken = self.taken.lock();
        let here = taken.by_address.get(&address).copied().unwrap_or(0);
        if taken.all >= self.most || here >= self.most_per_address {
            return None;
        }
        taken.all += 1;
        taken.by_address.insert(address, here + 1);
        Some(Seat { seats: self.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken.lock();
        taken.all -= 1;
        if let Some(here) = taken.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_counted_in_all_and_by_address_and_come_back() {
        let seats = Seats::new(3, 2);
        let at = |last| LimitKey::V4([192, 0, 2, last]);
        let first = seats.take(at(1));
        let _second = seats.take(at(1)).unwrap();
        assert!(first.is_some() && seats.take(at(1)).is_none());
        let _third = seats.take(at(2)).unwrap();
        assert!(seats.take(at(3)).is_none());
        drop(first);
        assert!(seats.take(at(1)).is_some() && seats.taken.lock().by_address.len() == 2);
    }
}
