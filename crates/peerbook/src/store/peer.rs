//! Table `peerbook.peer`: peers, and requests to become one.

use proto::book::{Fingerprint, Label, Name};
use sqlx::{PgExecutor, PgPool, PgTransaction, Row, postgres::PgRow};

use super::{Account, Shelf, account};

/// A peer, or a request to become one. Times in seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) fp: Fingerprint,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) verified: bool,
    /// The user said no, or no longer.
    pub(crate) refused: bool,
    /// It was approved while the user asked for proofs.
    pub(crate) needs_proof: bool,
    /// How its fingerprint was last proven, if ever: `challenge`, `certificate`, `bearer`, `dtls`.
    pub(crate) proof: Option<String>,
    pub(crate) proven_on: Option<i64>,
    pub(crate) bearer_hash: Option<Vec<u8>>,
    pub(crate) bearer_used: bool,
    /// A JSON object.
    pub(crate) properties: String,
    pub(crate) created_on: i64,
    pub(crate) verified_on: Option<i64>,
    pub(crate) last_seen: Option<i64>,
    pub(crate) mailed_on: Option<i64>,
}

const COLUMNS: &str = "fp, name, kind, verified, refused, needs_proof, proof, bearer_hash,
    bearer_used, properties::text AS properties,
    extract(epoch FROM proven_at)::bigint AS proven_on,
    extract(epoch FROM created_at)::bigint AS created_on,
    extract(epoch FROM verified_at)::bigint AS verified_on,
    extract(epoch FROM last_seen_at)::bigint AS last_seen,
    extract(epoch FROM mailed_at)::bigint AS mailed_on";

fn read(row: &PgRow) -> Result<Peer, sqlx::Error> {
    let fp: String = row.try_get("fp")?;
    let fp =
        Fingerprint::new(&fp).ok_or_else(|| sqlx::Error::Decode("not a fingerprint".into()))?;
    Ok(Peer {
        fp,
        name: row.try_get("name")?,
        kind: row.try_get("kind")?,
        verified: row.try_get("verified")?,
        refused: row.try_get("refused")?,
        needs_proof: row.try_get("needs_proof")?,
        proof: row.try_get("proof")?,
        proven_on: row.try_get("proven_on")?,
        bearer_hash: row.try_get("bearer_hash")?,
        bearer_used: row.try_get("bearer_used")?,
        properties: row.try_get("properties")?,
        created_on: row.try_get("created_on")?,
        verified_on: row.try_get("verified_on")?,
        last_seen: row.try_get("last_seen")?,
        mailed_on: row.try_get("mailed_on")?,
    })
}

/// Everything one user has, as of one version.
pub(crate) async fn shelf(pool: &PgPool, uid: &str) -> Result<Option<Shelf>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    // The version and the rows have to be of one moment.
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .execute(&mut *tx)
        .await?;
    let Some(account) = account::by_uid(&mut *tx, uid).await? else { return Ok(None) };
    let peers = of(&mut *tx, uid).await?;
    tx.commit().await?;
    Ok(Some(Shelf { account, peers }))
}

/// A user's peers and requests, oldest first.
pub(crate) async fn of(executor: impl PgExecutor<'_>, uid: &str) -> Result<Vec<Peer>, sqlx::Error> {
    let statement = sqlx::AssertSqlSafe(format!(
        "SELECT {COLUMNS} FROM peerbook.peer WHERE uid = $1 ORDER BY created_at, fp"
    ));
    let rows = sqlx::query(statement).bind(uid).fetch_all(executor).await?;
    rows.iter().map(read).collect()
}

/// Where a fingerprint is known.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) account: Account,
    pub(crate) peer: Peer,
}

/// The user whose verified peer this is, or else the one it asked last.
pub(crate) async fn find(pool: &PgPool, fp: &Fingerprint) -> Result<Option<Known>, sqlx::Error> {
    let statement = sqlx::AssertSqlSafe(format!(
        "SELECT a.uid, a.email, a.require_proof, a.version, p.* FROM (
             SELECT uid AS owner, {COLUMNS} FROM peerbook.peer WHERE fp = $1
             ORDER BY verified DESC, created_at DESC LIMIT 1) AS p
         JOIN peerbook.account AS a ON a.uid = p.owner"
    ));
    let row = sqlx::query(statement).bind(fp.as_str()).fetch_optional(pool).await?;
    row.map(|row| Ok(Known { account: account::read(&row)?, peer: read(&row)? })).transpose()
}

/// The user whose verified peer this is.
pub(crate) async fn owner(
    executor: impl PgExecutor<'_>,
    fp: &Fingerprint,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT uid FROM peerbook.peer WHERE fp = $1 AND verified")
        .bind(fp.as_str())
        .fetch_optional(executor)
        .await
}

/// What a peer says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Introduction {
    pub(crate) fp: Fingerprint,
    /// `None` keeps what is known.
    pub(crate) name: Option<Name>,
    /// As `name`.
    pub(crate) kind: Option<Label>,
    /// A JSON object; `None` keeps what is known.
    pub(crate) properties: Option<String>,
}

/// Records a request, or what has changed about one that is not verified.
pub(crate) async fn introduce(
    tx: &mut PgTransaction<'_>,
    uid: &str,
    who: &Introduction,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO peerbook.peer AS p (uid, fp, name, kind, properties)
         VALUES ($1, $2, coalesce($3, ''), coalesce($4, ''), coalesce($5::jsonb, '{}'))
         ON CONFLICT (uid, fp) DO UPDATE
         SET name = coalesce($3, p.name), kind = coalesce($4, p.kind),
             properties = coalesce($5::jsonb, p.properties)",
    )
    .bind(uid)
    .bind(who.fp.as_str())
    .bind(who.name.as_ref().map(Name::as_str))
    .bind(who.kind.as_ref().map(Label::as_str))
    .bind(who.properties.as_deref())
    .execute(&mut **tx)
    .await
    .map(drop)
}

/// Whether a user may be asked once more; forgets the oldest request over ten minutes old when
/// that makes room.
pub(crate) async fn make_room(
    tx: &mut PgTransaction<'_>,
    uid: &str,
    most: i64,
) -> Result<bool, sqlx::Error> {
    let waiting: i64 =
        sqlx::query_scalar("SELECT count(*) FROM peerbook.peer WHERE uid = $1 AND NOT verified")
            .bind(uid)
            .fetch_one(&mut **tx)
            .await?;
    if waiting < most {
        return Ok(true);
    }
    let evicted = sqlx::query(
        "DELETE FROM peerbook.peer WHERE uid = $1 AND fp = (
             SELECT fp FROM peerbook.peer
             WHERE uid = $1 AND NOT verified AND verified_at IS NULL
               AND created_at < clock_timestamp() - interval '10 minutes'
             ORDER BY created_at LIMIT 1)",
    )
    .bind(uid)
    .execute(&mut **tx)
    .await?;
    Ok(evicted.rows_affected() > 0)
}

/// How many verified peers a user has.
pub(crate) async fn verified_count(
    tx: &mut PgTransaction<'_>,
    uid: &str,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM peerbook.peer WHERE uid = $1 AND verified")
        .bind(uid)
        .fetch_one(&mut **tx)
        .await
}

/// Approves a peer; `false` when there is none. Fails on a fingerprint verified elsewhere.
pub(crate) async fn approve(
    tx: &mut PgTransaction<'_>,
    uid: &str,
    fp: &Fingerprint,
    needs_proof: bool,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE peerbook.peer
         SET verified = true, refused = false, needs_proof = needs_proof OR $3,
             verified_at = clock_timestamp()
         WHERE uid = $1 AND fp = $2",
    )
    .bind(uid)
    .bind(fp.as_str())
    .bind(needs_proof)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Refuses a request or revokes an approval; `false` when there is no such peer.
pub(crate) async fn refuse(
    tx: &mut PgTransaction<'_>,
    uid: &str,
    fp: &Fingerprint,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "UPDATE peerbook.peer
         SET verified = false, refused = true, bearer_hash = NULL, bearer_used = false
         WHERE uid = $1 AND fp = $2",
    )
    .bind(uid)
    .bind(fp.as_str())
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Gives a peer another name; `false` when there is none.
pub(crate) async fn rename(
    tx: &mut PgTransaction<'_>,
    uid: &str,
    fp: &Fingerprint,
    name: &Name,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("UPDATE peerbook.peer SET name = $3 WHERE uid = $1 AND fp = $2")
        .bind(uid)
        .bind(fp.as_str())
        .bind(name.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Replaces a peer's properties; `false` when there is no such peer.
pub(crate) async fn set_properties(
    tx: &mut PgTransaction<'_>,
    uid: &str,
    fp: &Fingerprint,
    properties: &str,
) -> Result<bool, sqlx::Error> {
    let done =
        sqlx::query("UPDATE peerbook.peer SET properties = $3::jsonb WHERE uid = $1 AND fp = $2")
            .bind(uid)
            .bind(fp.as_str())
            .bind(properties)
            .execute(&mut **tx)
            .await?;
    Ok(done.rows_affected() > 0)
}

/// Forgets a peer; `false` when there is none.
pub(crate) async fn remove(
    tx: &mut PgTransaction<'_>,
    uid: &str,
    fp: &Fingerprint,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("DELETE FROM peerbook.peer WHERE uid = $1 AND fp = $2")
        .bind(uid)
        .bind(fp.as_str())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Forgets all peers and requests of a user.
pub(crate) async fn remove_all(tx: &mut PgTransaction<'_>, uid: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM peerbook.peer WHERE uid = $1")
        .bind(uid)
        .execute(&mut **tx)
        .await
        .map(drop)
}

/// Notes that a fingerprint was proven.
pub(crate) async fn proven(
    tx: &mut PgTransaction<'_>,
    uid: &str,
    fp: &Fingerprint,
    proof: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE peerbook.peer
         SET proof = $3, proven_at = clock_timestamp(), bearer_used = bearer_used OR $3 = 'bearer'
         WHERE uid = $1 AND fp = $2",
    )
    .bind(uid)
    .bind(fp.as_str())
    .bind(proof)
    .execute(&mut **tx)
    .await
    .map(drop)
}

/// Notes the secret a peer was given at approval.
pub(crate) async fn pin_bearer(
    tx: &mut PgTransaction<'_>,
    uid: &str,
    fp: &Fingerprint,
    hash: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE peerbook.peer SET bearer_hash = $3, bearer_used = false WHERE uid = $1 AND fp = $2",
    )
    .bind(uid)
    .bind(fp.as_str())
    .bind(hash)
    .execute(&mut **tx)
    .await
    .map(drop)
}

/// Notes that the user was mailed about a request.
pub(crate) async fn mailed(pool: &PgPool, uid: &str, fp: &Fingerprint) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE peerbook.peer SET mailed_at = clock_timestamp() WHERE uid = $1 AND fp = $2")
        .bind(uid)
        .bind(fp.as_str())
        .execute(pool)
        .await
        .map(drop)
}

/// Notes when peers were last connected: fingerprints and seconds since the epoch.
pub(crate) async fn seen(pool: &PgPool, fps: &[String], at: &[i64]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE peerbook.peer AS p SET last_seen_at = to_timestamp(s.at)
         FROM unnest($1::text[], $2::bigint[]) AS s (fp, at)
         WHERE p.fp = s.fp AND p.verified AND (p.last_seen_at IS NULL OR p.last_seen_at < to_timestamp(s.at))",
    )
    .bind(fps)
    .bind(at)
    .execute(pool)
    .await
    .map(drop)
}

/// Forgets requests nobody answered for `seconds`, at most `limit` of them.
pub(crate) async fn sweep(pool: &PgPool, seconds: f64, limit: i64) -> Result<u64, sqlx::Error> {
    let swept = sqlx::query(
        "DELETE FROM peerbook.peer WHERE (uid, fp) IN (
             SELECT uid, fp FROM peerbook.peer
             WHERE NOT verified AND verified_at IS NULL
               AND created_at < clock_timestamp() - make_interval(secs => $1)
             ORDER BY created_at LIMIT $2)",
    )
    .bind(seconds)
    .bind(limit)
    .execute(pool)
    .await?;
    Ok(swept.rows_affected())
}

/// Requests nobody has answered, of all users; counts up to `limit`.
pub(crate) async fn requests(pool: &PgPool, limit: i64) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT count(*) FROM (
             SELECT FROM peerbook.peer WHERE NOT verified AND verified_at IS NULL LIMIT $1) AS r",
    )
    .bind(limit)
    .fetch_one(pool)
    .await
}
