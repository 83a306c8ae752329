//! What processes hold by name: rows a lease stands for, of which no two processes have the same.
//!
//! The table of holdings has the columns `digest bytea PRIMARY KEY`, `node uuid` and a `bigint`
//! called like the table itself, the holder's own number.

use std::collections::HashSet;

use sqlx::{AssertSqlSafe, PgPool};

use super::Lease;
use crate::Error;

/// A name that this process holds, wants or gives back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// SHA-256 of the name and of whatever else tells it apart.
    pub digest: [u8; 32],
    /// This process's own number; grows with every taking, so that giving back an old holding never
    /// takes a newer one.
    pub number: u64,
}

impl Lease {
    /// Takes names; one answer per item, `false` when another living process holds the name.
    ///
    /// A name held by this process already is taken over: which of its clients has it is not for
    /// the database to say. So is one of a process whose lease has ended. May be repeated.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn hold(&self, pool: &PgPool, batch: &[Holding]) -> Result<Vec<bool>, Error> {
        // Rows are taken in order of their keys, so that two processes cannot deadlock.
        let hold = format!(
            "WITH input AS (
                SELECT DISTINCT ON (digest) digest, number
                FROM unnest($2::bytea[], $3::bigint[]) AS t(digest, number)
                ORDER BY digest, number DESC)
             INSERT INTO {schema}.{holdings} AS h (digest, node, {holdings})
             SELECT digest, $1::text::uuid, number FROM input ORDER BY digest
             ON CONFLICT (digest) DO UPDATE
                SET node = excluded.node, {holdings} = excluded.{holdings}, since = now()
                WHERE h.node = excluded.node OR NOT EXISTS (
                    SELECT FROM {schema}.node AS n WHERE n.node = h.node
                        AND n.renewed_at >= clock_timestamp() - make_interval(secs => $4))
             RETURNING digest",
            schema = self.schema,
            holdings = self.holdings
        );
        let (digests, numbers) = columns(batch);
        let taken: Vec<Vec<u8>> = sqlx::query_scalar(AssertSqlSafe(hold))
            .bind(self.node())
            .bind(digests)
            .bind(numbers)
            .bind(self.expiry.as_secs_f64())
            .fetch_all(pool)
            .await?;
        let taken: HashSet<&[u8]> = taken.iter().map(Vec::as_slice).collect();
        Ok(batch.iter().map(|one| taken.contains(&one.digest[..])).collect())
    }

    /// Gives names back, unless they were taken again since. May be repeated.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn give_back(&self, pool: &PgPool, batch: &[Holding]) -> Result<(), Error> {
        let give_back = format!(
            "DELETE FROM {schema}.{holdings} AS h
             USING unnest($2::bytea[], $3::bigint[]) AS t(digest, number)
             WHERE h.digest = t.digest AND h.{holdings} = t.number AND h.node = $1::text::uuid",
            schema = self.schema,
            holdings = self.holdings
        );
        let (digests, numbers) = columns(batch);
        sqlx::query(AssertSqlSafe(give_back))
            .bind(self.node())
            .bind(digests)
            .bind(numbers)
            .execute(pool)
            .await?;
        Ok(())
    }
}

fn columns(batch: &[Holding]) -> (Vec<&[u8]>, Vec<i64>) {
    batch.iter().map(|one| (&one.digest[..], one.number.cast_signed())).unzip()
}
