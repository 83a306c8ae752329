//! Reading a mailbox.

use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, PgPool, Row};

use super::Retention;

/// Where a page starts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start<'c> {
    /// At the oldest envelope.
    Oldest,
    /// After the envelope of this id; at the oldest when it is not there.
    Id(&'c [u8]),
    /// After this number, showing only what can no longer be overtaken.
    After(i64),
}

/// What to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page<'c> {
    pub(crate) mailbox: i64,
    pub(crate) start: Start<'c>,
    pub(crate) limit: i64,
    /// The page ends before the envelope that would exceed this many bytes, its first excepted.
    pub(crate) max_bytes: i64,
    /// From `expired_before`.
    pub(crate) expired_before: i64,
    pub(crate) retention: Retention,
}

/// One envelope of a page: its text is `head`, and with a `tail` the recipient's id between them.
pub(crate) struct PageRow(PgRow);

impl PageRow {
    pub(crate) fn seq(&self) -> Result<i64, sqlx::Error> {
        self.0.try_get(0)
    }

    pub(crate) fn id(&self) -> Result<&[u8], sqlx::Error> {
        self.0.try_get(1)
    }

    pub(crate) fn head(&self) -> Result<&[u8], sqlx::Error> {
        self.0.try_get(2)
    }

    pub(crate) fn tail(&self) -> Result<Option<&[u8]>, sqlx::Error> {
        self.0.try_get(3)
    }
}

/// Both kinds of rows above `FROM` and below `TO`, merged by number; bodies of rows that do not fit
/// the page are never read from their TOAST table. OFFSET 0 keeps the planner from joining whole
/// tables, whatever it believes about their sizes.
macro_rules! page_sql {
    ($from:literal, $to:literal) => {
        concat!(
            "SELECT seq, id, head, tail FROM (
    SELECT *, sum(size) OVER (ORDER BY seq) - size AS before FROM (
        (SELECT e.seq, e.size, e.id, e.body AS head, NULL::bytea AS tail
         FROM relay.envelope AS e
         WHERE e.mailbox = $1 AND e.seq > ",
            $from,
            $to,
            "
           AND e.received_at > (SELECT now() - make_interval(secs => $4))
           AND e.day BETWEEN $6 AND $7
         ORDER BY e.seq LIMIT $2)
        UNION ALL
        (SELECT e.seq, e.size, f.id, f.head, f.tail
         FROM relay.pointer AS e, LATERAL (
             SELECT id, head, tail FROM relay.fanout
             WHERE seq = e.seq AND day = e.day
               AND received_at > (SELECT now() - make_interval(secs => $4))
             OFFSET 0) AS f
         WHERE e.mailbox = $1 AND e.seq > ",
            $from,
            $to,
            "
           AND e.day BETWEEN $6 AND $7
         ORDER BY e.seq LIMIT $2)
        ORDER BY seq LIMIT $2
    ) AS merged
) AS measured WHERE before < $3 ORDER BY seq"
        )
    };
}

const FROM_NUMBER: &str = page_sql!("$5", "");

/// A number at or above the horizon was never given out: it is from a time that a restored backup
/// does not know, and stands for the beginning.
const FROM_AFTER: &str = page_sql!(
    "(CASE WHEN $5 < relay.seq_horizon() THEN $5 ELSE $8 END)",
    " AND e.seq < relay.seq_horizon()"
);

const FROM_ID: &str = page_sql!(
    "
    coalesce(
        (SELECT c.seq FROM relay.envelope AS c
         WHERE c.id = $8 AND c.mailbox = $1 AND c.received_at > (SELECT now() - make_interval(secs => $4))
           AND c.day BETWEEN $6 AND $7
         LIMIT 1),
        (SELECT c.seq FROM relay.fanout AS c
         WHERE c.id = $8 AND c.received_at > (SELECT now() - make_interval(secs => $4))
           AND c.day BETWEEN $6 AND $7
           AND (SELECT true FROM relay.pointer AS p
                WHERE p.mailbox = $1 AND p.seq = c.seq AND p.day = c.day LIMIT 1)
         LIMIT 1),
        $5)",
    ""
);

const SEQS: &str = "
SELECT e.seq FROM relay.envelope AS e
WHERE e.mailbox = $1 AND e.received_at > now() - make_interval(secs => $2)
UNION ALL
SELECT p.seq FROM relay.pointer AS p JOIN relay.fanout AS f USING (seq, day)
WHERE p.mailbox = $1 AND f.received_at > now() - make_interval(secs => $2)
ORDER BY seq";

/// Reads one page, oldest first.
pub(crate) async fn page(
    executor: impl PgExecutor<'_>,
    wanted: Page<'_>,
) -> Result<Vec<PageRow>, pg::Error> {
    let sql = match wanted.start {
        Start::Oldest => FROM_NUMBER,
        Start::Id(_) => FROM_ID,
        Start::After(_) => FROM_AFTER,
    };
    let query = sqlx::query(sql)
        .bind(wanted.mailbox)
        .bind(wanted.limit)
        .bind(wanted.max_bytes)
        .bind(wanted.retention.seconds());
    let above = match wanted.start {
        Start::Oldest | Start::Id(_) => wanted.expired_before,
        Start::After(seq) => seq.max(wanted.expired_before),
    };
    let query = query.bind(above).bind(wanted.retention.first_day).bind(wanted.retention.last_day);
    let query = match wanted.start {
        Start::Oldest => query,
        Start::Id(id) => query.bind(id),
        Start::After(_) => query.bind(wanted.expired_before),
    };
    Ok(query.fetch_all(executor).await?.into_iter().map(PageRow).collect())
}

/// The numbers of everything in a mailbox, in order: only the original's arithmetic with negative
/// limits needs them all.
pub(crate) async fn seqs(
    pool: &PgPool,
    mailbox: i64,
    retention: Retention,
) -> Result<Vec<i64>, pg::Error> {
    let query = sqlx::query_scalar(SEQS).bind(mailbox).bind(retention.seconds());
    Ok(query.fetch_all(pool).await?)
}
