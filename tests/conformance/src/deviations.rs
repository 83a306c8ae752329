//! Where and why our answers differ from the original's, and exactly what they are instead.

mod relay;
mod signal;

use crate::Mode;

pub use relay::RELAY;
pub use signal::SIGNAL;

/// One case in which we answer otherwise.
#[derive(Debug)]
pub struct Deviation {
    /// The case in the vectors.
    pub case: &'static str,
    /// The modes in which it holds.
    pub modes: &'static [Mode],
    /// Why ours is better, or what the original's would cost.
    pub reason: &'static str,
    /// Steps (counted from 0) and what is seen there instead, as JSON in the form of the vectors.
    pub instead: &'static [(usize, &'static str)],
    /// The first step that makes no sense any more; the rest is left out.
    pub until: Option<usize>,
}

/// Both modes.
pub(crate) const ALWAYS: &[Mode] = &[Mode::Exact, Mode::Sound];
/// Only with default settings.
pub(crate) const SOUND: &[Mode] = &[Mode::Sound];

/// The entry for a case in a mode.
pub(crate) fn find(
    table: &'static [Deviation],
    case: &str,
    mode: Mode,
) -> Option<&'static Deviation> {
    table.iter().find(|entry| entry.case == case && entry.modes.contains(&mode))
}

impl Deviation {
    /// What is seen at a step, if it is not what the original shows there.
    pub(crate) fn at(&self, step: usize) -> Option<&'static str> {
        self.instead.iter().find(|(at, _)| *at == step).map(|(_, json)| *json)
    }
}
