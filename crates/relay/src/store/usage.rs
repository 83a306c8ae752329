//! What a mailbox holds.

use sqlx::PgPool;

use super::Retention;

/// Envelopes and bytes in a mailbox; at least the limit when it counted no further.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// Reads the mailbox's index entries, `$3` at most of either kind.
const USAGE: &str = "
SELECT count(*), coalesce(sum(size), 0)::int8 FROM (
    (SELECT size FROM relay.envelope
     WHERE mailbox = $1 AND seq > $2
       AND day BETWEEN $4 AND $5
     LIMIT $3)
    UNION ALL
    (SELECT size FROM relay.pointer
     WHERE mailbox = $1 AND seq > $2
       AND day BETWEEN $4 AND $5
     LIMIT $3)
) AS held";

/// Counts a mailbox, up to `limit` envelopes of either kind; what expired within the last
/// minute may be counted too.
pub(crate) async fn usage(
    pool: &PgPool,
    mailbox: i64,
    expired_before: i64,
    limit: i64,
    retention: Retention,
) -> Result<Usage, pg::Error> {
    let (messages, bytes): (i64, i64) = sqlx::query_as(USAGE)
        .bind(mailbox)
        .bind(expired_before)
        .bind(limit)
        .bind(retention.first_day)
        .bind(retention.last_day)
        .fetch_one(pool)
        .await?;
    Ok(Usage { messages: messages.unsigned_abs(), bytes: bytes.unsigned_abs() })
}
