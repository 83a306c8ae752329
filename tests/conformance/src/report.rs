//! What a replay found.

use std::collections::BTreeMap;
use std::fmt;

/// How one case went.
#[derive(Debug)]
pub enum Outcome {
    /// As the original.
    Passed,
    /// Otherwise, exactly as listed, for this reason.
    Deviates(&'static str),
    /// Neither.
    Failed(String),
}

/// Outcomes of all cases of one replay.
#[derive(Debug)]
pub struct Report {
    title: String,
    rows: Vec<(String, String, Outcome)>,
}

impl Report {
    /// Puts outcomes under a title. The second part of a row says which kind of case it is.
    pub fn new<K: fmt::Debug>(title: impl Into<String>, rows: Vec<(String, K, Outcome)>) -> Self {
        let kind = |kind: K| format!("{kind:?}").to_lowercase();
        let rows = rows.into_iter().map(|(id, of, outcome)| (id, kind(of), outcome));
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        Self { title: title.into(), rows }
    }

    /// How many cases were replayed.
    pub fn cases(&self) -> usize {
        self.rows.len()
    }

    /// How many cases failed.
    pub fn failed(&self) -> usize {
        self.rows.iter().filter(|(_, _, outcome)| matches!(outcome, Outcome::Failed(_))).count()
    }

    /// Cases that deviate as listed.
    pub fn deviating(&self) -> impl Iterator<Item = &str> {
        self.rows
            .iter()
            .filter(|(_, _, outcome)| matches!(outcome, Outcome::Deviates(_)))
            .map(|(id, _, _)| id.as_str())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        let mut counts: BTreeMap<String, [usize; 3]> = BTreeMap::new();
        for (_, kind, outcome) in &self.rows {
            let column = match outcome {
                Outcome::Passed => 0,
                Outcome::Deviates(_) => 1,
                Outcome::Failed(_) => 2,
            };
            counts.entry(kind.clone()).or_default()[column] += 1;
            counts.entry("total".into()).or_default()[column] += 1;
        }
        writeln!(f, "  {:<8}{:>8}{:>11}{:>8}", "kind", "passed", "deviating", "failed")?;
        for (kind, [passed, deviating, failed]) in counts {
            writeln!(f, "  {kind:<8}{passed:>8}{deviating:>11}{failed:>8}")?;
        }
        for (id, _, outcome) in &self.rows {
            match outcome {
                Outcome::Passed => {}
                Outcome::Deviates(reason) => writeln!(f, "  deviates {id}: {reason}")?,
                Outcome::Failed(how) => writeln!(f, "  FAILED   {id}: {how}")?,
            }
        }
        Ok(())
    }
}
