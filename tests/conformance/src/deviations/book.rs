//! Peerbook's deviations.

mod documents;
mod head;
mod old;

use std::ops::Range;

/// Steps of one scenario that we answer otherwise.
#[derive(Debug)]
pub struct BookDeviation {
    /// The build's short name and the scenario's.
    pub scenario: &'static str,
    /// The steps that are left out, counted from 0.
    pub steps: Range<usize>,
    /// What is played in their place, in the form of the vectors, or in short: what is `call`ed,
    /// what that `gives`, and where it leads `to`.
    pub instead: &'static [&'static str],
    /// Why.
    pub reason: &'static str,
}

/// A record of a list: fingerprint, name, address or id of its user, kind, verified, online.
macro_rules! record {
    ($fp:literal, $name:literal, $user:literal, $kind:literal, $verified:literal, $online:literal) => {
        concat!(
            r#"{"fp":""#,
            $fp,
            r#"","name":""#,
            $name,
            r#"","user":""#,
            $user,
            r#"","kind":""#,
            $kind,
            r#"","verified":"#,
            $verified,
            r#","created_on":"<UNIX_TIME>","online":"#,
            $online,
            "}"
        )
    };
}
/// A socket, or with `dc` a data channel, receives the list of these records.
macro_rules! peers {
    (@ $line:literal $peer:literal, $first:expr $(, $more:expr)*) => {
        concat!(
            r#"{""#, $line, r#"":""#, $peer, r#"","recv":{"peers":["#,
            $first $(, ",", $more)*, "]}}"
        )
    };
    (dc $($all:tt)+) => { peers!(@ "dc" $($all)+) };
    ($($all:tt)+) => { peers!(@ "ws" $($all)+) };
}
/// A socket, or with `dc` a data channel, receives how a peer is: fingerprint, name, verified,
/// online.
macro_rules! update {
    (@ $line:literal $peer:literal, $fp:literal, $name:literal, $verified:literal, $online:literal) => {
        concat!(
            r#"{""#,
            $line,
            r#"":""#,
            $peer,
            r#"","recv":{"peer_update":{"verified":"#,
            $verified,
            r#","online":"#,
            $online,
            r#","name":""#,
            $name,
            r#""},"source_fp":""#,
            $fp,
            r#""}}"#
        )
    };
    (dc $($all:tt)+) => { update!(@ "dc" $($all)+) };
    ($($all:tt)+) => { update!(@ "ws" $($all)+) };
}
use {peers, record, update};

/// Every entry, in the order of the builds.
pub const BOOK: &[&[BookDeviation]] = &[old::OLD, head::HEAD, documents::DOCUMENTS];

/// The entries of a scenario, in the order of its steps.
pub(crate) fn of_book(scenario: &str) -> Vec<&'static BookDeviation> {
    BOOK.iter().copied().flatten().filter(|entry| entry.scenario == scenario).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_replace_steps_that_exist_and_are_in_the_compatibility_page() {
        let page = include_str!("../../README.md");
        let scenarios = crate::book::scenarios();
        for entry in BOOK.iter().copied().flatten() {
            let scenario = scenarios.iter().find(|scenario| scenario.id == entry.scenario);
            let scenario = scenario.unwrap_or_else(|| panic!("no scenario {}", entry.scenario));
            assert!(entry.steps.end <= scenario.steps.len(), "{}", entry.scenario);
            for json in entry.instead {
                serde_json::from_str::<serde_json::Value>(json).expect(entry.scenario);
            }
            let steps = match entry.steps.len() {
                1 => entry.steps.start.to_string(),
                _ => format!("{}–{}", entry.steps.start, entry.steps.end - 1),
            };
            let row = format!("| `{}` | {steps} | {} |", entry.scenario, entry.reason);
            assert!(page.contains(&row), "not listed:\n{row}");
        }
        for scenario in &scenarios {
            let entries = of_book(&scenario.id);
            let apart = entries.windows(2).all(|pair| pair[0].steps.end <= pair[1].steps.start);
            assert!(apart, "{}", scenario.id);
        }
    }
}
