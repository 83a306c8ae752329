//! Which days a statement has to look at.

use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;

/// Clocks of this process and the database may differ by this much around midnight, in
/// milliseconds.
const SLACK_MS: i64 = 60_000;

const DAY_MS: i64 = 86_400_000;

/// How long envelopes live, and the partitions that can hold live ones. Statements get the days as
/// parameters: computing them in SQL would cost more than the rest of a small read. They only
/// choose partitions; what has expired is decided by the database's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Retention {
    pub(crate) ttl_seconds: u32,
    /// First day with envelopes that may be alive.
    pub(crate) first_day: i32,
    /// First day with ack marks that still count.
    pub(crate) first_ack_day: i32,
    /// Today, and shortly before midnight tomorrow.
    pub(crate) last_day: i32,
}

impl Retention {
    /// The days at `now_ms` of the database's clock.
    pub(crate) fn at(now_ms: i64, ttl_seconds: u32) -> Self {
        let day = |ms: i64| i32::try_from(ms.div_euclid(DAY_MS)).unwrap_or(i32::MAX);
        let ttl_ms = i64::from(ttl_seconds) * 1000;
        let ack_days = 2 * i32::try_from(ttl_seconds.div_ceil(86_400)).unwrap_or(i32::MAX / 2);
        Self {
            ttl_seconds,
            first_day: day(now_ms - ttl_ms - SLACK_MS),
            first_ack_day: day(now_ms - SLACK_MS).saturating_sub(ack_days),
            last_day: day(now_ms + SLACK_MS),
        }
    }

    /// [`Retention::ttl_seconds`] as SQL takes it.
    pub(super) fn seconds(self) -> f64 {
        f64::from(self.ttl_seconds)
    }

    /// The last four parameters of a statement that keeps something: the retention in seconds,
    /// the first and the last day of envelopes, the first day of ack marks.
    pub(super) fn bind<'q, O>(
        self,
        query: QueryAs<'q, Postgres, O, PgArguments>,
    ) -> QueryAs<'q, Postgres, O, PgArguments> {
        query.bind(self.seconds()).bind(self.first_day).bind(self.last_day).bind(self.first_ack_day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_widened_around_midnight() {
        let noon = Retention::at(100 * DAY_MS + DAY_MS / 2, 86_400);
        assert_eq!((noon.first_day, noon.first_ack_day, noon.last_day), (99, 98, 100));
        let before = Retention::at(101 * DAY_MS - 1, 86_400);
        assert_eq!((before.first_day, before.last_day), (99, 101));
        let after = Retention::at(101 * DAY_MS, 86_400);
        assert_eq!((after.first_day, after.first_ack_day, after.last_day), (99, 98, 101));
        assert_eq!(Retention::at(100 * DAY_MS + DAY_MS / 2, 2).first_day, 100);
    }
}
