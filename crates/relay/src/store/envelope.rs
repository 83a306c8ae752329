//! Plain envelopes.

use std::collections::HashMap;

use bytes::Bytes;
use sqlx::PgPool;

use super::{Retention, make_missing};

/// One envelope to keep.
#[derive(Debug)]
pub(crate) struct NewEnvelope {
    pub(crate) mailbox: i64,
    pub(crate) id: Box<[u8]>,
    /// The JSON text as it will be sent.
    pub(crate) body: Bytes,
}

/// Stores what is neither acknowledged nor there; `$5` is the retention in seconds,
/// `$6` to `$8` the days to look at.
///
/// The subqueries with LIMIT are scalar on purpose: each is one index probe per row and cannot be
/// turned into a join with a whole table. An expired copy of the same day is replaced in place.
const INSERT: &str = "
INSERT INTO relay.envelope AS held (mailbox, seq, received_at, day, size, id, body)
SELECT i.mailbox, t.first + i.n, t.now, t.today, octet_length(i.body), i.id, i.body
FROM (SELECT relay.seq_first() AS first, now() AS now, relay.day_of(now()) AS today,
             now() - make_interval(secs => $5) AS oldest) AS t,
     unnest($1::int4[], $2::int8[], $3::bytea[], $4::bytea[]) AS i (n, mailbox, id, body)
WHERE (SELECT true FROM relay.ack_mark AS a
       WHERE a.id = i.id AND a.mailbox = i.mailbox AND a.day BETWEEN $8 AND $7
       LIMIT 1) IS NULL
  AND (SELECT true FROM relay.envelope AS e
       WHERE e.id = i.id AND e.mailbox = i.mailbox AND e.received_at > t.oldest
         AND e.day BETWEEN $6 AND $7 AND e.day <> t.today
       LIMIT 1) IS NULL
  AND (SELECT true FROM relay.fanout AS f
       WHERE f.id = i.id AND f.received_at > t.oldest
         AND f.day BETWEEN $6 AND $7
         AND (SELECT true FROM relay.pointer AS p
              WHERE p.mailbox = i.mailbox AND p.seq = f.seq AND p.day = f.day LIMIT 1)
       LIMIT 1) IS NULL
ON CONFLICT (id, mailbox, day) DO UPDATE
   SET seq = excluded.seq, received_at = excluded.received_at, size = excluded.size,
       body = excluded.body
   WHERE held.received_at <= now() - make_interval(secs => $5)
RETURNING (held.seq & 65535)::int4";

/// Keeps a batch of at most 65,536 envelopes in the order given; `true` for those that were new.
pub(crate) async fn insert(
    pool: &PgPool,
    batch: &[NewEnvelope],
    retention: Retention,
) -> Result<Vec<bool>, pg::Error> {
    // One row cannot be inserted twice in a statement: the first of equals goes.
    let mut first: HashMap<(i64, &[u8]), usize> = HashMap::with_capacity(batch.len());
    for (place, envelope) in batch.iter().enumerate() {
        first.entry((envelope.mailbox, &*envelope.id)).or_insert(place);
    }
    let mut places: Vec<usize> = first.into_values().collect();
    // All connections insert in the order of the primary key, so that none waits in a circle.
    places.sort_unstable_by_key(|&place| (&*batch[place].id, batch[place].mailbox));

    let columns = Columns {
        ordinals: places.iter().map(|&place| ordinal(place)).collect(),
        mailboxes: places.iter().map(|&place| batch[place].mailbox).collect(),
        ids: places.iter().map(|&place| &*batch[place].id).collect(),
        bodies: places.iter().map(|&place| &*batch[place].body).collect(),
        retention,
    };
    let stored = match columns.write(pool).await {
        Ok(stored) => stored,
        Err(why) => {
            make_missing(pool, why).await?;
            columns.write(pool).await?
        }
    };
    let mut fresh = vec![false; batch.len()];
    for (place,) in stored {
        let place = usize::try_from(place).expect("16 bits of a sequence number");
        fresh[place] = true;
    }
    Ok(fresh)
}

struct Columns<'b> {
    ordinals: Vec<i32>,
    mailboxes: Vec<i64>,
    ids: Vec<&'b [u8]>,
    bodies: Vec<&'b [u8]>,
    retention: Retention,
}

impl Columns<'_> {
    async fn write(&self, pool: &PgPool) -> Result<Vec<(i32,)>, sqlx::Error> {
        let envelopes = sqlx::query_as(INSERT)
            .bind(&self.ordinals)
            .bind(&self.mailboxes)
            .bind(&self.ids)
            .bind(&self.bodies);
        self.retention.bind(envelopes).fetch_all(pool).await
    }
}

/// The place of an item in its batch, as SQL wants it.
pub(super) fn ordinal(place: usize) -> i32 {
    i32::try_from(place).expect("a batch has at most 65,536 items")
}
