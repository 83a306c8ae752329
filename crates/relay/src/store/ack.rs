//! Acknowledgements.

use sqlx::PgPool;

use super::{Retention, make_missing};

/// One envelope in one mailbox that its recipient has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ack {
    pub(crate) id: Box<[u8]>,
    pub(crate) mailbox: i64,
}

/// Marks and removes in one statement, by index probes alone.
///
/// A mark is written again on a later day: its retention counts from the last acknowledgement.
const INSERT: &str = "
WITH input AS MATERIALIZED (
    SELECT * FROM unnest($1::bytea[], $2::int8[]) AS i (id, mailbox)
), marked AS (
    INSERT INTO relay.ack_mark (id, mailbox, day)
    SELECT id, mailbox, relay.day_of(now()) FROM input
    ON CONFLICT DO NOTHING
), plain AS (
    DELETE FROM relay.envelope AS e USING input AS i
    WHERE e.id = i.id AND e.mailbox = i.mailbox
      AND e.day BETWEEN $3 AND $4
    RETURNING 1
), known AS MATERIALIZED (
    SELECT i.mailbox, f.seq, f.day
    FROM input AS i, LATERAL (
        SELECT seq, day FROM relay.fanout
        WHERE id = i.id
          AND day BETWEEN $3 AND $4
        OFFSET 0) AS f
), shared AS (
    DELETE FROM relay.pointer AS p USING known AS k
    WHERE p.mailbox = k.mailbox AND p.seq = k.seq AND p.day = k.day AND p.day BETWEEN $3 AND $4
    RETURNING 1
)
SELECT (SELECT count(*) FROM plain) + (SELECT count(*) FROM shared)";

/// Acknowledges a batch; returns how many envelopes it removed.
pub(crate) async fn insert(
    pool: &PgPool,
    batch: &[Ack],
    retention: Retention,
) -> Result<i64, pg::Error> {
    let mut sorted: Vec<&Ack> = batch.iter().collect();
    // In the order of the primary key and without repetitions: nobody waits in a circle.
    sorted.sort_unstable();
    sorted.dedup();
    let ids: Vec<&[u8]> = sorted.iter().map(|ack| &*ack.id).collect();
    let mailboxes: Vec<i64> = sorted.iter().map(|ack| ack.mailbox).collect();
    match write(pool, &ids, &mailboxes, retention).await {
        Ok(removed) => Ok(removed),
        Err(why) => {
            make_missing(pool, why).await?;
            Ok(write(pool, &ids, &mailboxes, retention).await?)
        }
    }
}

async fn write(
    pool: &PgPool,
    ids: &[&[u8]],
    mailboxes: &[i64],
    retention: Retention,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(INSERT)
        .bind(ids)
        .bind(mailboxes)
        .bind(retention.first_day)
        .bind(retention.last_day)
        .fetch_one(pool)
        .await
}
