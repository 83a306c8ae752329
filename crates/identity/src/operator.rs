//! Looking at pins and taking one back, as the operator does with the owner's rights.

use sqlx::PgPool;
use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::pins::CHANNEL;
use crate::{Error, Key, Proof};

/// One pinned peer id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The peer id's bytes.
    pub peer: Vec<u8>,
    /// The key that owns it.
    pub key: Key,
    /// What proved the key.
    pub proof: Proof,
    /// When, in milliseconds since the epoch.
    pub pinned_at_ms: i64,
}

const SHOW: &str = "SELECT peer, key, proof, (extract(epoch FROM pinned_at) * 1000)::int8 AS at_ms
                    FROM identity.pin WHERE peer = $1";

const LIST: &str = "SELECT peer, key, proof, (extract(epoch FROM pinned_at) * 1000)::int8 AS at_ms
                    FROM identity.pin WHERE peer > $1 ORDER BY peer LIMIT $2";

/// The NOTIFY leaves with the commit: no process can learn of it and still find the row.
const RELEASE: &str = "WITH gone AS (DELETE FROM identity.pin WHERE peer = $1 RETURNING peer)
                       SELECT pg_notify($2, encode(peer, 'hex')) FROM gone";

/// The pin of `peer`, if there is one.
///
/// # Errors
/// [`Error::Storage`]; the login has to own the schema `identity`.
pub async fn show(pool: &PgPool, peer: &[u8]) -> Result<Option<Pin>, Error> {
    let row = sqlx::query(SHOW).bind(peer).fetch_optional(pool).await?;
    row.as_ref().map(read).transpose()
}

/// Up to `limit` pins with peer ids after `after`, in order of their bytes.
///
/// # Errors
/// As [`show`].
pub async fn list(pool: &PgPool, after: &[u8], limit: u32) -> Result<Vec<Pin>, Error> {
    let rows = sqlx::query(LIST).bind(after).bind(i64::from(limit)).fetch_all(pool).await?;
    rows.iter().map(read).collect()
}

/// Takes the pin of `peer` back, so that the next key to prove itself owns it; `false` when there was
/// none. Every process forgets it at once.
///
/// # Errors
/// As [`show`].
pub async fn release(pool: &PgPool, peer: &[u8]) -> Result<bool, Error> {
    let gone = sqlx::query(RELEASE).bind(peer).bind(CHANNEL).fetch_optional(pool).await?;
    Ok(gone.is_some())
}

fn read(row: &PgRow) -> Result<Pin, Error> {
    let key: Vec<u8> = row.try_get("key")?;
    let key = <[u8; 32]>::try_from(key).map_err(|_| sqlx::Error::RowNotFound)?;
    Ok(Pin {
        peer: row.try_get("peer")?,
        key: Key(key),
        proof: Proof::from_sql(row.try_get("proof")?),
        pinned_at_ms: row.try_get("at_ms")?,
    })
}
