//! Who belongs to a group.

use sqlx::{PgPool, PgTransaction};

/// A group as this relay was told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Membership {
    /// The owner's id, as WTF-8.
    pub(crate) owner: Vec<u8>,
    /// Inferred from a first message; no owner has spoken yet.
    pub(crate) provisional: bool,
    /// Ids of the members, sorted by bytes.
    pub(crate) members: Vec<Vec<u8>>,
    /// `ts` of the update in force, as signed.
    pub(crate) updated_ts: f64,
    /// Digests of the last updates applied, newest last.
    pub(crate) applied: Vec<Vec<u8>>,
}

type Row = (Vec<u8>, bool, Vec<Vec<u8>>, f64, Vec<Vec<u8>>);

const GET: &str = "
SELECT owner, provisional, members, updated_ts, applied FROM relay.membership WHERE group_id = $1";

const TOUCH: &str = "
UPDATE relay.membership SET last_used = CURRENT_DATE
WHERE group_id = $1 AND last_used < CURRENT_DATE";

const INFER: &str = "
INSERT INTO relay.membership (group_id, owner, provisional, members, updated_ts)
VALUES ($1, $2, true, $3, 0) ON CONFLICT DO NOTHING";

/// Serialises updates of one group, whether or not it has a row yet.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('relay.membership', hashtextextended(encode($1, 'hex'), 0)))";

const PUT: &str = "
INSERT INTO relay.membership (group_id, owner, provisional, members, updated_ts, applied)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (group_id) DO UPDATE
   SET owner = excluded.owner, provisional = excluded.provisional, members = excluded.members,
       updated_ts = excluded.updated_ts, applied = excluded.applied, last_used = CURRENT_DATE";

const FORGET: &str = "DELETE FROM relay.membership WHERE last_used < CURRENT_DATE - $1::int4";

/// The table of memberships.
pub(crate) struct Memberships;

impl Memberships {
    /// The group, if it is known.
    pub(crate) async fn get(
        pool: &PgPool,
        group_id: &[u8],
    ) -> Result<Option<Membership>, pg::Error> {
        let row: Option<Row> = sqlx::query_as(GET).bind(group_id).fetch_optional(pool).await?;
        Ok(row.map(from_row))
    }

    /// Notes that the group is in use, once a day.
    pub(crate) async fn touch(pool: &PgPool, group_id: &[u8]) -> Result<(), pg::Error> {
        sqlx::query(TOUCH).bind(group_id).execute(pool).await?;
        Ok(())
    }

    /// Records a group inferred from a first message, unless somebody was faster.
    pub(crate) async fn infer(
        pool: &PgPool,
        group_id: &[u8],
        owner: &[u8],
        members: &[Vec<u8>],
    ) -> Result<(), pg::Error> {
        sqlx::query(INFER).bind(group_id).bind(owner).bind(members).execute(pool).await?;
        Ok(())
    }

    /// Reads the group and keeps others from changing it until the transaction ends.
    pub(crate) async fn lock(
        tx: &mut PgTransaction<'_>,
        group_id: &[u8],
    ) -> Result<Option<Membership>, pg::Error> {
        sqlx::query(LOCK).bind(group_id).execute(&mut **tx).await?;
        // A second statement: its snapshot is taken after the lock.
        let row: Option<Row> = sqlx::query_as(GET).bind(group_id).fetch_optional(&mut **tx).await?;
        Ok(row.map(from_row))
    }

    /// Replaces the group.
    pub(crate) async fn put(
        tx: &mut PgTransaction<'_>,
        group_id: &[u8],
        membership: &Membership,
    ) -> Result<(), pg::Error> {
        sqlx::query(PUT)
            .bind(group_id)
            .bind(&membership.owner)
            .bind(membership.provisional)
            .bind(&membership.members)
            .bind(membership.updated_ts)
            .bind(&membership.applied)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    /// Forgets groups that nobody wrote to for `days`.
    pub(crate) async fn forget(pool: &PgPool, days: u32) -> Result<u64, pg::Error> {
        let days = i32::try_from(days).unwrap_or(i32::MAX);
        Ok(sqlx::query(FORGET).bind(days).execute(pool).await?.rows_affected())
    }
}

fn from_row((owner, provisional, members, updated_ts, applied): Row) -> Membership {
    Membership { owner, provisional, members, updated_ts, applied }
}
