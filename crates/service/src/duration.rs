//! Durations in settings: `500ms`, `10s`, `2m`, `6h`, `7d`; a bare number is seconds.

use std::time::Duration;

/// Reads a duration; use as `value_parser = service::duration::parse`.
///
/// # Errors
/// Anything but a whole number followed by `ms`, `s`, `m`, `h`, `d` or nothing (seconds), and
/// whatever does not fit.
pub fn parse(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| expected(text))?;
    let factor_ms = match unit.trim() {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(expected(text)),
    };
    number.checked_mul(factor_ms).map(Duration::from_millis).ok_or_else(|| expected(text))
}

fn expected(text: &str) -> String {
    format!("`{text}` is not a duration; write it like 500ms, 10s, 2m, 6h or 7d")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        for (text, ms) in
            [("500ms", 500), ("10s", 10_000), ("3", 3_000), ("2m", 120_000), ("6h", 21_600_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(parse("1d"), Ok(Duration::from_secs(86_400)));
    }

    #[test]
    fn anything_else_is_refused_with_an_example() {
        for text in
            ["", "s", "-1s", "1.5s", "10 parsecs", "99999999999999999999", "99999999999999999d"]
        {
            assert!(parse(text).is_err_and(|why| why.contains("500ms")), "{text}");
        }
    }
}
