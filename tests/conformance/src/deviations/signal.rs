//! Signal's deviations.

use super::Deviation;

/// Sorted by case.
pub const SIGNAL: &[Deviation] = &[];
