//! The relay's deviations.

use super::Deviation;

/// Sorted by case.
pub const RELAY: &[Deviation] = &[];
