//! The tool's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since the epoch.
#[expect(clippy::disallowed_methods, reason = "the tool has no service clock; this is its one")]
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> i64 {
    i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX)
}

/// `(year, month, day)` in UTC of a number of days since the epoch.
pub(crate) fn civil(days_since_epoch: i64) -> (i64, u32, u32) {
    // Counting from 1 March of year 0 puts the leap day last, so that months have fixed offsets.
    let shifted = days_since_epoch + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = u32::try_from(day_of_year - (153 * month_from_march + 2) / 5 + 1).unwrap_or(1);
    let month = u32::try_from((month_from_march + 2) % 12 + 1).unwrap_or(1);
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// `20261121-034500` for file names, in UTC.
pub(crate) fn stamp() -> String {
    stamp_of(since_epoch().as_secs())
}

fn stamp_of(seconds: u64) -> String {
    let (year, month, day) = civil(i64::try_from(seconds / 86_400).unwrap_or(0));
    let second = seconds % 86_400;
    format!(
        "{year:04}{month:02}{day:02}-{:02}{:02}{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_follow_the_calendar_across_leap_days() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(19_783), (2024, 3, 1));
        assert_eq!(civil(20_088), (2024, 12, 31));
    }

    #[test]
    fn stamps_sort_by_time() {
        assert_eq!(stamp_of(1_795_232_645), "20261121-034405");
        assert!(stamp_of(1_795_232_645) < stamp_of(1_795_232_646));
    }
}
