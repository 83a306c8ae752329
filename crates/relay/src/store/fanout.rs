//! Group messages: kept once, with a pointer per recipient.

use std::collections::HashMap;

use bytes::Bytes;
use sqlx::PgPool;

use super::envelope::ordinal;
use super::{Retention, make_missing};

/// One group message to keep.
#[derive(Debug)]
pub(crate) struct NewFanout {
    pub(crate) id: Box<[u8]>,
    /// Mailboxes of the recipients, each once.
    pub(crate) mailboxes: Vec<i64>,
    /// Bytes one recipient's envelope has, about.
    pub(crate) size: i32,
    /// The JSON text before the recipient's id.
    pub(crate) head: Bytes,
    /// The JSON text after it.
    pub(crate) tail: Bytes,
}

/// Stores messages ($1 to $4) and pointers for those recipients ($5, $6, sizes in $7) who neither
/// have nor acknowledged the id; `$8` is the retention in seconds, `$9` to `$11`
/// the days to look at.
///
/// What is taken already is looked up once per message, not per recipient: all rows of one id lie
/// side by side. `nth` makes two connections with the same message collide (23505), upon which
/// the later one looks again.
const INSERT: &str = "
WITH message AS (
    SELECT * FROM unnest($1::int4[], $2::bytea[], $3::bytea[], $4::bytea[]) AS m (n, id, head, tail)
), wanted AS (
    SELECT * FROM unnest($5::int4[], $6::int8[], $7::int4[]) AS w (n, mailbox, size)
), known AS MATERIALIZED (
    SELECT m.n, f.seq, f.day, f.received_at
    FROM message AS m, LATERAL (
        SELECT seq, day, received_at FROM relay.fanout
        WHERE id = m.id AND day BETWEEN $9 AND $10
        OFFSET 0) AS f
), taken AS MATERIALIZED (
    SELECT m.n, a.mailbox
    FROM message AS m, LATERAL (
        SELECT mailbox FROM relay.ack_mark
        WHERE id = m.id AND day BETWEEN $11 AND $10 OFFSET 0) AS a
    UNION ALL
    SELECT m.n, e.mailbox
    FROM message AS m, LATERAL (
        SELECT mailbox FROM relay.envelope
        WHERE id = m.id AND received_at > now() - make_interval(secs => $8)
          AND day BETWEEN $9 AND $10
        OFFSET 0) AS e
    UNION ALL
    SELECT k.n, w.mailbox
    FROM known AS k JOIN wanted AS w USING (n)
    WHERE k.received_at > now() - make_interval(secs => $8)
      AND (SELECT true FROM relay.pointer AS p
           WHERE p.mailbox = w.mailbox AND p.seq = k.seq AND p.day = k.day LIMIT 1)
), fresh AS MATERIALIZED (
    SELECT w.* FROM wanted AS w WHERE (w.n, w.mailbox) NOT IN (SELECT n, mailbox FROM taken)
), t AS MATERIALIZED (
    SELECT relay.seq_first() AS first, now() AS now, relay.day_of(now()) AS today
), kept AS (
    INSERT INTO relay.fanout (seq, received_at, day, id, nth, head, tail)
    SELECT t.first + m.n, t.now, t.today, m.id, (SELECT count(*) FROM known AS k WHERE k.n = m.n), m.head, m.tail
    FROM message AS m, t
    WHERE m.n IN (SELECT n FROM fresh)
), put AS (
    INSERT INTO relay.pointer (mailbox, seq, day, size)
    SELECT f.mailbox, t.first + f.n, t.today, f.size FROM fresh AS f, t
)
SELECT n, count(*)::int4 FROM fresh GROUP BY n";

/// How often a batch is tried again after meeting the same message on another connection, or a day
/// without partitions.
const TRIES_MAX: usize = 4;

/// Keeps a batch of messages; for each the number of mailboxes that got it.
pub(crate) async fn insert(
    pool: &PgPool,
    batch: &[NewFanout],
    retention: Retention,
) -> Result<Vec<u64>, pg::Error> {
    let mut stored = vec![0; batch.len()];
    // Equal ids in one statement would not see each other: every round takes each id once.
    let mut rounds: Vec<Vec<usize>> = Vec::new();
    let mut seen: HashMap<&[u8], usize> = HashMap::with_capacity(batch.len());
    for (place, message) in batch.iter().enumerate() {
        let round = seen.entry(&message.id).and_modify(|round| *round += 1).or_insert(0);
        match rounds.get_mut(*round) {
            Some(places) => places.push(place),
            None => rounds.push(vec![place]),
        }
    }
    for mut places in rounds {
        places.sort_unstable_by_key(|&place| &*batch[place].id);
        insert_round(pool, batch, &places, retention, &mut stored).await?;
    }
    Ok(stored)
}

async fn insert_round(
    pool: &PgPool,
    batch: &[NewFanout],
    places: &[usize],
    retention: Retention,
    stored: &mut [u64],
) -> Result<(), pg::Error> {
    let columns = Columns::of(batch, places, retention);
    let mut tries = 0;
    let counts = loop {
        match columns.write(pool).await {
            Ok(counts) => break counts,
            Err(why) if tries == TRIES_MAX => return Err(why.into()),
            Err(why) if is_collision(&why) => {}
            Err(why) => make_missing(pool, why).await?,
        }
        tries += 1;
    };
    for (n, count) in counts {
        let place = usize::try_from(n).expect("an ordinal we sent");
        stored[place] = u64::try_from(count).expect("a count");
    }
    Ok(())
}

struct Columns<'b> {
    ordinals: Vec<i32>,
    ids: Vec<&'b [u8]>,
    heads: Vec<&'b [u8]>,
    tails: Vec<&'b [u8]>,
    pair_ordinals: Vec<i32>,
    mailboxes: Vec<i64>,
    sizes: Vec<i32>,
    retention: Retention,
}

impl<'b> Columns<'b> {
    fn of(batch: &'b [NewFanout], places: &[usize], retention: Retention) -> Self {
        let pairs: usize = places.iter().map(|&place| batch[place].mailboxes.len()).sum();
        let mut columns = Self {
            ordinals: places.iter().map(|&place| ordinal(place)).collect(),
            ids: places.iter().map(|&place| &*batch[place].id).collect(),
            heads: places.iter().map(|&place| &*batch[place].head).collect(),
            tails: places.iter().map(|&place| &*batch[place].tail).collect(),
            pair_ordinals: Vec::with_capacity(pairs),
            mailboxes: Vec::with_capacity(pairs),
            sizes: Vec::with_capacity(pairs),
            retention,
        };
        for &place in places {
            let message = &batch[place];
            for &mailbox in &message.mailboxes {
                columns.pair_ordinals.push(ordinal(place));
                columns.mailboxes.push(mailbox);
                columns.sizes.push(message.size);
            }
        }
        columns
    }

    async fn write(&self, pool: &PgPool) -> Result<Vec<(i32, i32)>, sqlx::Error> {
        let messages = sqlx::query_as(INSERT)
            .bind(&self.ordinals)
            .bind(&self.ids)
            .bind(&self.heads)
            .bind(&self.tails)
            .bind(&self.pair_ordinals)
            .bind(&self.mailboxes)
            .bind(&self.sizes);
        self.retention.bind(messages).fetch_all(pool).await
    }
}

fn is_collision(why: &sqlx::Error) -> bool {
    why.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}
