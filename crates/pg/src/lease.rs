//! Leases: which processes of one service run, and the rows that the ones that died left behind.
//!
//! A service that keeps rows for what is connected to it has in its schema a table
//! `node (node uuid PRIMARY KEY, instance text, started_at, renewed_at timestamptz)` and a table of
//! holdings with a column `node uuid`. A process takes a lease, renews it, and ends it; whoever
//! does not renew is swept by the next one to look, with all it held.

mod args;
mod holdings;
mod siblings;

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::Error;

pub use args::LeaseArgs;
pub use holdings::Holding;
pub use siblings::{SECRET_BYTES, Sibling, vantage};

/// The lease of this process.
#[derive(Clone, Debug)]
pub struct Lease {
    schema: &'static str,
    holdings: &'static str,
    node: Uuid,
    instance: String,
    expiry: Duration,
    /// Where siblings reach the process, if they may.
    address: Option<String>,
}

/// What renewing a lease found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The lease was still there. If not, others took this process for dead and swept what it
    /// held; the lease is taken again, the holdings are the caller's to put back.
    pub kept: bool,
    /// Holdings of processes that died since, now swept.
    pub swept: u64,
    /// How many other processes of the service run.
    pub siblings: u64,
}

/// What a replica is called when nobody says: host name and port, the same after a restart,
/// another for every replica.
pub fn instance(port: u16) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{port}", host.trim())
}

impl Lease {
    /// A lease not taken yet, in `schema`, whose table `holdings` has rows by node. Both become
    /// part of statements. `instance` is the process's name across restarts; one name never runs
    /// twice at a time. A lease not renewed for `expiry` has ended.
    pub fn new(
        schema: &'static str,
        holdings: &'static str,
        instance: String,
        expiry: Duration,
    ) -> Self {
        Self { schema, holdings, node: Uuid::new_v4(), instance, expiry, address: None }
    }

    /// As this lease, telling siblings that the process is reached at `address` (`host:port`). The
    /// table of nodes needs a column `address text` for it.
    #[must_use]
    pub fn reachable_at(self, address: String) -> Self {
        Self { address: Some(address), ..self }
    }

    /// The process, as the column `node` names it. To be bound as text and cast to uuid.
    pub fn node(&self) -> String {
        self.node.to_string()
    }

    /// The process, as others reach it.
    pub fn id(&self) -> Uuid {
        self.node
    }

    /// After how much silence a lease has ended.
    pub fn expiry(&self) -> Duration {
        self.expiry
    }

    /// Sweeps what the instance's previous process and the dead left, and takes the lease.
    /// Returns the number of holdings swept.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn begin(&self, pool: &PgPool) -> Result<u64, Error> {
        let swept = self.sweep(pool, Some(&self.instance)).await?;
        self.take(pool).await?;
        Ok(swept)
    }

    /// Renews the lease, takes it again when it was swept, and sweeps the dead.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn renew(&self, pool: &PgPool) -> Result<Renewal, Error> {
        let renew = format!(
            "UPDATE {}.node SET renewed_at = clock_timestamp() WHERE node = $1::text::uuid",
            self.schema
        );
        let renewed = sqlx::query(AssertSqlSafe(renew)).bind(self.node()).execute(pool).await?;
        let kept = renewed.rows_affected() == 1;
        if !kept {
            self.take(pool).await?;
        }
        let swept = self.sweep(pool, None).await?;
        let count =
            format!("SELECT count(*) FROM {}.node WHERE node <> $1::text::uuid", self.schema);
        let siblings: i64 =
            sqlx::query_scalar(AssertSqlSafe(count)).bind(self.node()).fetch_one(pool).await?;
        Ok(Renewal { kept, swept, siblings: siblings.unsigned_abs() })
    }

    /// Ends the lease, and with it whatever the process still holds.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn end(&self, pool: &PgPool) -> Result<(), Error> {
        let end = format!(
            "WITH gone AS (DELETE FROM {schema}.node WHERE node = $1::text::uuid)
             DELETE FROM {schema}.{holdings} WHERE node = $1::text::uuid",
            schema = self.schema,
            holdings = self.holdings
        );
        sqlx::query(AssertSqlSafe(end)).bind(self.node()).execute(pool).await?;
        Ok(())
    }

    async fn take(&self, pool: &PgPool) -> Result<(), Error> {
        let take = format!(
            "INSERT INTO {}.node (node, instance) VALUES ($1::text::uuid, $2)
             ON CONFLICT (node) DO UPDATE SET renewed_at = clock_timestamp()",
            self.schema
        );
        sqlx::query(AssertSqlSafe(take))
            .bind(self.node())
            .bind(&self.instance)
            .execute(pool)
            .await?;
        if let Some(address) = &self.address {
            let tell =
                format!("UPDATE {}.node SET address = $2 WHERE node = $1::text::uuid", self.schema);
            sqlx::query(AssertSqlSafe(tell)).bind(self.node()).bind(address).execute(pool).await?;
        }
        Ok(())
    }

    async fn sweep(&self, pool: &PgPool, predecessor: Option<&str>) -> Result<u64, Error> {
        let sweep = format!(
            "WITH dead AS (
                DELETE FROM {schema}.node
                WHERE node <> $1::text::uuid
                  AND (instance IS NOT DISTINCT FROM $2::text
                       OR renewed_at < clock_timestamp() - make_interval(secs => $3))
                RETURNING node)
             DELETE FROM {schema}.{holdings} AS h USING dead WHERE h.node = dead.node",
            schema = self.schema,
            holdings = self.holdings
        );
        let swept = sqlx::query(AssertSqlSafe(sweep))
            .bind(self.node())
            .bind(predecessor)
            .bind(self.expiry.as_secs_f64())
            .execute(pool)
            .await?;
        Ok(swept.rows_affected())
    }
}
