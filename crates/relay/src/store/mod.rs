//! The relay's tables as functions. SQL is here and nowhere else.
//!
//! A mailbox is named by a salted 64-bit hash of its recipient's id ([`MailboxKeys`]); a row's place
//! in it by `seq`, which grows in the order transactions began. Days are partitions; retention
//! is applied when reading, partitions are dropped later.

mod ack;
pub(crate) mod blob;
pub(crate) mod blob_garbage;
pub(crate) mod blob_piece;
pub(crate) mod blob_upload;
pub(crate) mod blob_uuid;
mod envelope;
mod fanout;
mod mailbox;
mod membership;
mod page;
mod readers;
mod retention;
mod sequence;
mod usage;

pub(crate) use ack::{Ack, insert as insert_acks};
pub(crate) use envelope::{NewEnvelope, insert as insert_envelopes};
pub(crate) use fanout::{NewFanout, insert as insert_fanouts};
pub(crate) use mailbox::MailboxKeys;
pub(crate) use membership::{Membership, Memberships};
pub(crate) use page::{Page, PageRow, Start, seqs};
pub(crate) use readers::Readers;
pub(crate) use retention::Retention;
pub(crate) use sequence::{mark, present, rebase};
pub(crate) use usage::{Usage, usage};

#[cfg(test)]
mod tests;

use pg::partitions::Kept;
use sqlx::PgPool;

/// Tables with a partition per day, and for how many days each keeps them when envelopes live
/// `ttl_seconds`. Ack marks stay twice as long: copies of a message may come from elsewhere late.
pub(crate) fn kept(ttl_seconds: u32) -> Vec<Kept> {
    let days = ttl_seconds.div_ceil(86_400);
    vec![
        Kept { table: "relay.envelope", days },
        Kept { table: "relay.fanout", days },
        Kept { table: "relay.pointer", days },
        Kept { table: "relay.ack_mark", days: 2 * days },
    ]
}

/// Tells every listener of `channel`.
pub(crate) async fn notify(pool: &PgPool, channel: &str, payload: &str) -> Result<(), pg::Error> {
    sqlx::query("SELECT pg_notify($1, $2)").bind(channel).bind(payload).execute(pool).await?;
    Ok(())
}

/// After a failed write: makes the partitions of today when they were missing, so that the write
/// may be tried again; any other failure is passed on.
async fn make_missing(pool: &PgPool, why: sqlx::Error) -> Result<(), pg::Error> {
    if !pg::is_missing_partition(&why) {
        return Err(why.into());
    }
    let today = pg::partitions::today(pool).await?;
    for kept in kept(1) {
        pg::partitions::ensure(pool, kept.table, today, today + 1).await?;
    }
    Ok(())
}
