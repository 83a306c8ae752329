//! Table `peerbook.session`: which connections are open, and at which process.

use proto::book::Fingerprint;
use sqlx::{PgPool, Row};
use uuid::Uuid;

/// A connection of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// This process's own number of it.
    pub(crate) number: i64,
    pub(crate) fp: Fingerprint,
    /// The user it was let in for; `None` while it waits.
    pub(crate) uid: Option<String>,
    /// The fingerprint was proven on it.
    pub(crate) proven: bool,
}

/// Connections of another process that are alike, as one user's peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    pub(crate) uid: String,
    pub(crate) fp: Fingerprint,
    pub(crate) node: Uuid,
    /// It was let in as this user's peer; else it waits.
    pub(crate) is_in: bool,
    pub(crate) proven: bool,
    /// When the last of them opened, in Unix seconds.
    pub(crate) since: i64,
}

impl Elsewhere {
    /// Whether it is in, its peer being verified. One that waits counts, unless it has to prove its
    /// fingerprint first: it is about to be let in.
    pub(crate) fn may_be_in(&self, needs_proof: bool) -> bool {
        self.is_in || self.proven || !needs_proof
    }
}

/// Notes connections, or what has changed about them.
pub(crate) async fn write(pool: &PgPool, node: Uuid, all: &[Session]) -> Result<(), sqlx::Error> {
    let numbers: Vec<i64> = all.iter().map(|one| one.number).collect();
    let fps: Vec<&str> = all.iter().map(|one| one.fp.as_str()).collect();
    let uids: Vec<Option<&str>> = all.iter().map(|one| one.uid.as_deref()).collect();
    let proven: Vec<bool> = all.iter().map(|one| one.proven).collect();
    sqlx::query(
        "INSERT INTO peerbook.session (node, session, fp, uid, proven)
         SELECT $1::text::uuid, s.* FROM unnest($2::bigint[], $3::text[], $4::text[], $5::bool[]) AS s
         ON CONFLICT (fp, node, session) DO UPDATE
         SET uid = excluded.uid, proven = excluded.proven",
    )
    .bind(node.to_string())
    .bind(numbers)
    .bind(fps)
    .bind(uids)
    .bind(proven)
    .execute(pool)
    .await
    .map(drop)
}

/// Forgets connections that are over.
pub(crate) async fn forget(pool: &PgPool, node: Uuid, numbers: &[i64]) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM peerbook.session WHERE node = $1::text::uuid AND session = ANY($2)")
        .bind(node.to_string())
        .bind(numbers)
        .execute(pool)
        .await
        .map(drop)
}

/// Connections at other processes of the peers of these users; those alike are one.
pub(crate) async fn elsewhere(
    pool: &PgPool,
    node: Uuid,
    uids: &[String],
) -> Result<Vec<Elsewhere>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT p.uid, s.fp, uuid_send(s.node) AS node, s.uid IS NOT NULL AS is_in, s.proven,
                extract(epoch FROM max(s.since))::bigint AS since
         FROM peerbook.peer AS p JOIN peerbook.session AS s ON s.fp = p.fp
         WHERE p.uid = ANY($2) AND s.node <> $1::text::uuid AND (s.uid IS NULL OR s.uid = p.uid)
         GROUP BY p.uid, s.fp, s.node, s.uid IS NOT NULL, s.proven",
    )
    .bind(node.to_string())
    .bind(uids)
    .fetch_all(pool)
    .await?;
    let read = |row: &sqlx::postgres::PgRow| {
        let (fp, node): (String, Vec<u8>) = (row.try_get("fp")?, row.try_get("node")?);
        let wrong = |what: &'static str| sqlx::Error::Decode(what.into());
        Ok(Elsewhere {
            uid: row.try_get("uid")?,
            fp: Fingerprint::new(&fp).ok_or_else(|| wrong("not a fingerprint"))?,
            node: Uuid::from_slice(&node).map_err(|_| wrong("not a node"))?,
            is_in: row.try_get("is_in")?,
            proven: row.try_get("proven")?,
            since: row.try_get("since")?,
        })
    };
    rows.iter().map(read).collect()
}

/// How many connections of a fingerprint are open at other processes.
pub(crate) async fn count_elsewhere(
    executor: impl sqlx::PgExecutor<'_>,
    node: Uuid,
    fp: &Fingerprint,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT count(*) FROM peerbook.session WHERE fp = $2 AND node <> $1::text::uuid",
    )
    .bind(node.to_string())
    .bind(fp.as_str())
    .fetch_one(executor)
    .await
}
