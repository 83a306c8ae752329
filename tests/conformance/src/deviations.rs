//! Where and why our answers differ from the original's, and exactly what they are instead.

mod book;
mod pad;
mod relay;
mod signal;

use crate::Mode;

pub(crate) use book::of_book;
pub use book::{BOOK, BookDeviation};
pub(crate) use pad::rewrite;
pub use pad::{PAD, Rewrite};
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
    /// Steps (counted from 0) and what is seen there instead.
    pub instead: &'static [(usize, Seen)],
    /// The first step that makes no sense any more; the rest is left out.
    pub until: Option<usize>,
}

/// What is seen instead of what the original shows.
#[derive(Clone, Copy, Debug)]
pub enum Seen {
    /// An HTTP answer: its status and its JSON body, a template.
    Answer(u16, &'static str),
    /// An HTML page with this status.
    Page(u16),
    /// An event of a scenario in the form of the vectors; also one of another client `c`, or none:
    /// `{"kind":"timeout"}`.
    Event(&'static str),
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
    pub(crate) fn at(&self, step: usize) -> Option<Seen> {
        self.instead.iter().find(|(at, _)| *at == step).map(|(_, seen)| *seen)
    }
}

#[cfg(test)]
mod tests {
    use testkit::vectors::{RelayStep, Vectors};

    use super::*;

    #[test]
    fn relay_entries_stay_within_what_the_vectors_call_as_good() {
        let vectors = Vectors::load();
        for entry in RELAY {
            let case = vectors.relay.iter().find(|case| case.id == entry.case);
            let case = case.unwrap_or_else(|| panic!("no case {}", entry.case));
            for (at, seen) in entry.instead {
                let RelayStep::Request(request) = &case.steps[*at] else { panic!("a pause") };
                let (Seen::Answer(status, _) | Seen::Page(status)) = seen else {
                    panic!("an event")
                };
                let requests = &case.steps[..*at];
                let sent = requests.iter().filter(|step| matches!(step, RelayStep::Request(_)));
                let original = case.expect[sent.count()].status;
                let good = request.alt.iter().any(|alternative| alternative.status == *status);
                assert!(good || *status == original, "{} step {at}: {status}", entry.case);
            }
        }
    }

    #[test]
    fn signal_entries_name_scenarios_that_admit_an_alternative() {
        let vectors = Vectors::load();
        for entry in SIGNAL {
            let case = vectors.signal.iter().find(|case| case.id == entry.case);
            let case = case.unwrap_or_else(|| panic!("no scenario {}", entry.case));
            for (at, seen) in entry.instead {
                let Seen::Event(json) = seen else { panic!("{} has answers", entry.case) };
                serde_json::from_str::<serde_json::Value>(json).expect(entry.case);
                assert!(*at < case.actions.len(), "{}", entry.case);
            }
            // Close codes are the original's in all of them, only their reasons are not.
            assert!(case.alt.is_some() || entry.case.starts_with("ws."), "{}", entry.case);
        }
    }

    #[test]
    fn every_entry_is_in_the_compatibility_page() {
        assert!([RELAY, SIGNAL].iter().all(|table| table.is_sorted_by_key(|entry| entry.case)));
        let page = include_str!("../README.md");
        assert!(PAD.is_sorted_by_key(|entry| entry.case));
        let others = RELAY.iter().chain(SIGNAL).map(|entry| (entry.case, entry.reason));
        for (case, reason) in others.chain(PAD.iter().map(|entry| (entry.case, entry.reason))) {
            let row = page.lines().find(|line| line.contains(&format!("`{case}`")));
            assert!(row.is_some(), "{case} is not listed");
            let about_close_codes = case.starts_with("ws.");
            assert!(about_close_codes || row.unwrap().contains(reason), "{case}: {reason}");
        }
    }
}
