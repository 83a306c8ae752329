//! Table `peerbook.account`.

use proto::book::Email;
use sqlx::{PgExecutor, PgPool, PgTransaction, Row, postgres::PgRow};

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// 16 characters of base32.
    pub(crate) uid: String,
    /// As the user wrote it first.
    pub(crate) email: String,
    pub(crate) require_proof: RequireProof,
    /// Grows with every change to anything of the user's.
    pub(crate) version: i64,
}

/// Whose fingerprints have to be proven before they count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequireProof {
    /// Nobody's; as the originals.
    None,
    /// Those of peers approved since the user asked for it.
    New,
    /// Everybody's.
    All,
}

impl RequireProof {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::New => "new",
            Self::All => "all",
        }
    }

    /// `none`, `new` or `all`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::None, Self::New, Self::All].into_iter().find(|policy| policy.as_str() == text)
    }
}

const COLUMNS: &str = "uid, email, require_proof, version";

pub(super) fn read(row: &PgRow) -> Result<Account, sqlx::Error> {
    let policy: String = row.try_get("require_proof")?;
    Ok(Account {
        uid: row.try_get("uid")?,
        email: row.try_get("email")?,
        require_proof: RequireProof::parse(&policy).unwrap_or(RequireProof::All),
        version: row.try_get("version")?,
    })
}

/// The user of an address.
pub(crate) async fn by_email(pool: &PgPool, email: &Email) -> Result<Option<Account>, sqlx::Error> {
    let statement =
        sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM peerbook.account WHERE email_key = $1"));
    let row = sqlx::query(statement).bind(email.key()).fetch_optional(pool).await?;
    row.as_ref().map(read).transpose()
}

/// The user of an id.
pub(crate) async fn by_uid(
    pool: impl PgExecutor<'_>,
    uid: &str,
) -> Result<Option<Account>, sqlx::Error> {
    let statement =
        sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM peerbook.account WHERE uid = $1"));
    let row = sqlx::query(statement).bind(uid).fetch_optional(pool).await?;
    row.as_ref().map(read).transpose()
}

/// The user of an address, made under `uid` when there is none.
pub(crate) async fn ensure(
    pool: &PgPool,
    uid: &str,
    email: &Email,
) -> Result<Account, sqlx::Error> {
    let statement = format!(
        "WITH made AS (
             INSERT INTO peerbook.account (uid, email, email_key) VALUES ($1, $2, $3)
             ON CONFLICT (email_key) DO NOTHING RETURNING {COLUMNS})
         SELECT {COLUMNS} FROM made
         UNION ALL SELECT {COLUMNS} FROM peerbook.account WHERE email_key = $3 LIMIT 1"
    );
    let ask = || {
        let statement = sqlx::AssertSqlSafe(statement.clone());
        sqlx::query(statement).bind(uid).bind(email.as_str()).bind(email.key())
    };
    // Made by somebody else between the statement's two looks: the second time it is there.
    let row = match ask().fetch_optional(pool).await? {
        Some(row) => row,
        None => ask().fetch_one(pool).await?,
    };
    read(&row)
}

/// Takes the user's row and makes it a version newer: every change begins with this.
pub(crate) async fn change(
    tx: &mut PgTransaction<'_>,
    uid: &str,
) -> Result<Option<Account>, sqlx::Error> {
    let statement = sqlx::AssertSqlSafe(format!(
        "UPDATE peerbook.account SET version = version + 1, changed_at = clock_timestamp()
         WHERE uid = $1 RETURNING {COLUMNS}"
    ));
    let row = sqlx::query(statement).bind(uid).fetch_optional(&mut **tx).await?;
    row.as_ref().map(read).transpose()
}

/// Says whose fingerprints have to be proven.
pub(crate) async fn set_require_proof(
    tx: &mut PgTransaction<'_>,
    uid: &str,
    policy: RequireProof,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE peerbook.account SET require_proof = $2 WHERE uid = $1")
        .bind(uid)
        .bind(policy.as_str())
        .execute(&mut **tx)
        .await
        .map(drop)
}

/// Forgets a user with everything they have.
pub(crate) async fn remove(tx: &mut PgTransaction<'_>, uid: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM peerbook.account WHERE uid = $1")
        .bind(uid)
        .execute(&mut **tx)
        .await
        .map(drop)
}

/// Users changed in the last `seconds`, with their versions.
pub(crate) async fn changed_since(
    pool: &PgPool,
    seconds: f64,
) -> Result<Vec<(String, i64)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT uid, version FROM peerbook.account
         WHERE changed_at > clock_timestamp() - make_interval(secs => $1)
         ORDER BY changed_at",
    )
    .bind(seconds)
    .fetch_all(pool)
    .await
}

/// Which of these users are no more.
pub(crate) async fn gone(pool: &PgPool, uids: &[String]) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT u.uid FROM unnest($1::text[]) AS u (uid)
         WHERE NOT EXISTS (SELECT FROM peerbook.account AS a WHERE a.uid = u.uid)",
    )
    .bind(uids)
    .fetch_all(pool)
    .await
}

/// Keeps the user even when no peer is left: something was approved or enrolled.
pub(crate) async fn confirm(tx: &mut PgTransaction<'_>, uid: &str) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE peerbook.account SET confirmed = true WHERE uid = $1 AND NOT confirmed")
        .bind(uid)
        .execute(&mut **tx)
        .await
        .map(drop)
}

/// Forgets users who never approved anything and have had no requests for a day.
pub(crate) async fn sweep(pool: &PgPool, limit: i64) -> Result<u64, sqlx::Error> {
    let swept = sqlx::query(
        "DELETE FROM peerbook.account WHERE uid IN (
             SELECT uid FROM peerbook.account AS a
             WHERE NOT confirmed AND changed_at < clock_timestamp() - interval '1 day'
               AND NOT EXISTS (SELECT FROM peerbook.peer AS p WHERE p.uid = a.uid)
             LIMIT $1)",
    )
    .bind(limit)
    .execute(pool)
    .await?;
    Ok(swept.rows_affected())
}
