//! What was measured, as a table or as JSON.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde::Serialize;

use crate::meter::Usage;

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// What is counted, in the plural.
    pub(crate) unit: &'static str,
    pub(crate) count: u64,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    /// CPU time of the server for one of them, microseconds.
    pub(crate) server_cpu_us: Option<f64>,
    /// CPU time of all of Postgres for one of them, microseconds.
    pub(crate) postgres_cpu_us: Option<f64>,
    /// Rate relative to the comparison of the same run.
    pub(crate) ratio: Option<f64>,
    /// Whatever else this measurement is about.
    pub(crate) notes: BTreeMap<&'static str, f64>,
}

impl Row {
    pub(crate) fn new(
        name: impl Into<String>,
        unit: &'static str,
        count: u64,
        usage: Usage,
    ) -> Self {
        let each = |time: Option<std::time::Duration>| {
            Some(time?.as_secs_f64() * 1e6 / count.max(1) as f64)
        };
        Self {
            name: name.into(),
            unit,
            count,
            per_second: count as f64 / usage.elapsed.as_secs_f64(),
            p50_ms: None,
            p99_ms: None,
            server_cpu_us: each(usage.server),
            postgres_cpu_us: each(usage.postgres),
            ratio: None,
            notes: BTreeMap::new(),
        }
    }

    /// Adds percentiles of latencies given in microseconds.
    pub(crate) fn latencies(mut self, mut all: Vec<u32>) -> Self {
        all.sort_unstable();
        let at = |share: f64| {
            let nth = (all.len() as f64 * share) as usize;
            all.get(nth.min(all.len().saturating_sub(1))).map(|&us| f64::from(us) / 1000.0)
        };
        (self.p50_ms, self.p99_ms) = (at(0.5), at(0.99));
        self
    }

    pub(crate) fn note(mut self, name: &'static str, value: f64) -> Self {
        self.notes.insert(name, value);
        self
    }

    /// The row with the median rate; each note's own median, too.
    pub(crate) fn median(mut rows: Vec<Row>) -> Option<Row> {
        rows.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
        let mut middle = rows.get(rows.len() / 2)?.clone();
        for (name, value) in &mut middle.notes {
            let mut all: Vec<f64> =
                rows.iter().filter_map(|r| r.notes.get(name).copied()).collect();
            all.sort_by(f64::total_cmp);
            *value = all.get(all.len() / 2).copied().unwrap_or(*value);
        }
        Some(middle)
    }
}

/// Prints all rows to standard output.
pub(crate) fn print(rows: &[Row], json: bool) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, rows)?;
        return Ok(writeln!(out)?);
    }
    let head = ["", "rate", "p50 ms", "p99 ms", "server us", "postgres us", "ratio", ""];
    let [name, rate, p50, p99, server, postgres, ratio, _] = head;
    writeln!(out, "{name:38} {rate:>20} {p50:>8} {p99:>8} {server:>9} {postgres:>11} {ratio:>6}")?;
    for row in rows {
        let rate = format!("{} {}/s", thousands(row.per_second), row.unit);
        let [p50, p99] = [row.p50_ms, row.p99_ms].map(|value| number(value, 2));
        let [server, postgres] = [row.server_cpu_us, row.postgres_cpu_us].map(|v| number(v, 1));
        let ratio = number(row.ratio, 2);
        let notes: Vec<String> =
            row.notes.iter().map(|(name, value)| format!("{name} {}", thousands(*value))).collect();
        let name = &row.name;
        write!(
            out,
            "{name:38} {rate:>20} {p50:>8} {p99:>8} {server:>9} {postgres:>11} {ratio:>6}"
        )?;
        writeln!(out, "  {}", notes.join(", "))?;
    }
    Ok(())
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.digits$}"))
}

/// `12345.6` as `12,346`, `1.234` as `1.23`.
pub(crate) fn thousands(value: f64) -> String {
    if value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn figures_are_readable() {
        assert_eq!(thousands(1_234_567.8), "1,234,568");
        assert_eq!(thousands(999.0), "999");
        assert_eq!(thousands(1.234), "1.23");
    }

    #[test]
    fn a_row_knows_its_percentiles_and_cost() {
        let second = Duration::from_secs(1);
        let usage = Usage { elapsed: second, server: Some(second), postgres: None };
        let row = Row::new("x", "ops", 1000, usage).latencies((1..=1000).rev().collect());
        assert_eq!((row.per_second, row.server_cpu_us), (1000.0, Some(1000.0)));
        assert_eq!((row.p50_ms, row.p99_ms), (Some(0.501), Some(0.991)));
    }
}
