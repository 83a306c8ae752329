//! Where the other processes of a service are, and what they prove to each other.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
};

use sqlx::{AssertSqlSafe, PgPool};

use super::Lease;
use crate::Error;

/// Bytes of the secret that the processes of a service share.
pub const SECRET_BYTES: usize = 32;

/// Another process of the service that takes connections of its siblings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// The bytes of its [`Lease::id`].
    pub node: [u8; 16],
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
            "SELECT uuid_send(n.node), n.address
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
        let found: Option<(Vec<u8>, String)> = holder.fetch_optional(pool).await?;
        Ok(found.and_then(Sibling::of))
    }

    /// Every living process but this one that can be reached.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn siblings(&self, pool: &PgPool) -> Result<Vec<Sibling>, Error> {
        let siblings = format!(
            "SELECT uuid_send(node), address FROM {}.node
             WHERE node <> $1::text::uuid AND address IS NOT NULL
                AND renewed_at >= clock_timestamp() - make_interval(secs => $2)
             ORDER BY node",
            self.schema
        );
        let siblings = sqlx::query_as(AssertSqlSafe(siblings))
            .bind(self.node())
            .bind(self.expiry.as_secs_f64());
        let found: Vec<(Vec<u8>, String)> = siblings.fetch_all(pool).await?;
        Ok(found.into_iter().filter_map(Sibling::of).collect())
    }

    /// The secret of the service's processes, in its table `sibling_secret`; made now when there is
    /// none yet.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn secret(&self, pool: &PgPool) -> Result<[u8; SECRET_BYTES], Error> {
        let fresh: [u8; SECRET_BYTES] = rand::random();
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
    fn of((node, address): (Vec<u8>, String)) -> Option<Self> {
        Some(Self { node: node.try_into().ok()?, address })
    }
}

/// This machine's address as the database sees it, unless somebody between the two changes it;
/// loopback when the database is on the same machine.
pub fn vantage(pool: &PgPool) -> IpAddr {
    let options = pool.connect_options();
    let is_local = options.get_socket().is_some() || options.get_host().starts_with('/');
    let seen = || -> io::Result<IpAddr> {
        let probe = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
            .or_else(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        // Sends nothing: it only asks the kernel which way it would go.
        probe.connect((options.get_host(), options.get_port()))?;
        Ok(probe.local_addr()?.ip().to_canonical())
    };
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    if is_local { loopback } else { seen().unwrap_or(loopback) }
}
