//! Where the other processes of a service are, and what they prove to each other.

use sqlx::{AssertSqlSafe, PgPool};

use super::Lease;
use crate::Error;

/// Bytes of the secret that the processes of a service share.
pub const SECRET_BYTES: usize = 32;

/// Another process of the service that takes connections of its siblings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// As [`Lease::node`] has it.
    pub node: String,
    /// `host:port`.
    pub address: String,
}

impl Lease {
    /// The living process other than this one that holds the name and can be reached.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn holder(&self, pool: &PgPool, digest: &[u8; 32]) -> Result<Option<Sibling>, Error> {
        let holder = format!(
            "SELECT n.node::text, n.address
             FROM {schema}.{holdings} AS h JOIN {schema}.node AS n ON n.node = h.node
             WHERE h.digest = $3 AND n.node <> $1::text::uuid AND n.address IS NOT NULL
                AND n.renewed_at >= clock_timestamp() - make_interval(secs => $2)",
            schema = self.schema,
            holdings = self.holdings
        );
        let holder = sqlx::query_as(AssertSqlSafe(holder))
            .bind(self.node())
            .bind(self.expiry.as_secs_f64())
            .bind(&digest[..]);
        let found: Option<(String, String)> = holder.fetch_optional(pool).await?;
        Ok(found.map(Sibling::of))
    }

    /// Every living process but this one that can be reached.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn siblings(&self, pool: &PgPool) -> Result<Vec<Sibling>, Error> {
        let siblings = format!(
            "SELECT node::text, address FROM {}.node
             WHERE node <> $1::text::uuid AND address IS NOT NULL
                AND renewed_at >= clock_timestamp() - make_interval(secs => $2)
             ORDER BY node",
            self.schema
        );
        let siblings = sqlx::query_as(AssertSqlSafe(siblings))
            .bind(self.node())
            .bind(self.expiry.as_secs_f64());
        let found: Vec<(String, String)> = siblings.fetch_all(pool).await?;
        Ok(found.into_iter().map(Sibling::of).collect())
    }

    /// The secret of the service's processes, in its table `sibling_secret`. `fresh`, random
    /// bytes, becomes it when there is none yet.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn secret(
        &self,
        pool: &PgPool,
        fresh: &[u8; SECRET_BYTES],
    ) -> Result<[u8; SECRET_BYTES], Error> {
        let (schema, table) = (self.schema, "sibling_secret");
        let make =
            format!("INSERT INTO {schema}.{table} (secret) VALUES ($1) ON CONFLICT DO NOTHING");
        sqlx::query(AssertSqlSafe(make)).bind(&fresh[..]).execute(pool).await?;
        let read = format!("SELECT secret FROM {schema}.{table}");
        let secret: Vec<u8> = sqlx::query_scalar(AssertSqlSafe(read)).fetch_one(pool).await?;
        let wrong = || sqlx::Error::Decode("a secret of another length".into());
        Ok(secret.try_into().map_err(|_| wrong())?)
    }
}

impl Sibling {
    fn of((node, address): (String, String)) -> Self {
        Self { node, address }
    }
}
