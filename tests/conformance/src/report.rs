//! What a replay found.

use std::collections::BTreeMap;
use std::fmt;

use testkit::vectors::Tier;

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
    rows: Vec<(String, Tier, Outcome)>,
}

impl Report {
    /// Puts outcomes under a title.
    pub fn new(title: impl Into<String>, mut rows: Vec<(String, Tier, Outcome)>) -> Self {
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        Self { title: title.into(), rows }
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
        for (_, tier, outcome) in &self.rows {
            let column = match outcome {
                Outcome::Passed => 0,
                Outcome::Deviates(_) => 1,
                Outcome::Failed(_) => 2,
            };
            counts.entry(format!("{tier:?}").to_lowercase()).or_default()[column] += 1;
            counts.entry("total".into()).or_default()[column] += 1;
        }
        writeln!(f, "  {:<8}{:>8}{:>11}{:>8}", "tier", "passed", "deviating", "failed")?;
        for (tier, [passed, deviating, failed]) in counts {
            writeln!(f, "  {tier:<8}{passed:>8}{deviating:>11}{failed:>8}")?;
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
