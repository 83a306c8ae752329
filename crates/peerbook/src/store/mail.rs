//! The outbox.

use std::time::Duration;

use sqlx::PgPool;

/// What a mail is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// To a user: the link to the review page.
    Review,
    /// To a user: the link that approves one peer.
    Login,
    /// To the operator: what a user reports.
    Support,
}

impl Kind {
    /// Its name in the table and as a label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Review => "review",
            Self::Login => "login",
            Self::Support => "support",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Review, Self::Login, Self::Support].into_iter().find(|kind| kind.name() == name)
    }
}

/// A mail to be made and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) kind: Kind,
    /// To whom; for support, from whom.
    pub(crate) address: String,
    /// The peer a login link stands for.
    pub(crate) fp: Option<String>,
    /// What a support request says.
    pub(crate) body: Option<String>,
}

/// An order somebody works on.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) id: i64,
    pub(crate) order: Order,
    /// How often it was claimed, this time included.
    pub(crate) attempts: i32,
}

/// Adds an order unless `most` wait already; whether it was added.
pub(crate) async fn insert(pool: &PgPool, order: &Order, most: u32) -> Result<bool, pg::Error> {
    const INSERT: &str = "
        INSERT INTO peerbook.outbox (kind, address, fp, body)
        SELECT $1, $2, $3, $4 WHERE (SELECT count(*) FROM (
            SELECT FROM peerbook.outbox LIMIT $5) AS waiting) < $5";
    let added = sqlx::query(INSERT)
        .bind(order.kind.name())
        .bind(&order.address)
        .bind(&order.fp)
        .bind(&order.body)
        .bind(i64::from(most))
        .execute(pool)
        .await?;
    Ok(added.rows_affected() == 1)
}

/// Takes up to `most` orders that are due. Until `lease` has passed nobody else gets them; an order
/// not removed by then is due again.
pub(crate) async fn claim(
    pool: &PgPool,
    most: u32,
    lease: Duration,
) -> Result<Vec<Claimed>, pg::Error> {
    const CLAIM: &str = "
        UPDATE peerbook.outbox
        SET attempts = attempts + 1, next_try = now() + $2 * interval '1 second'
        WHERE id IN (SELECT id FROM peerbook.outbox WHERE next_try <= now()
                     ORDER BY next_try LIMIT $1 FOR UPDATE SKIP LOCKED)
        RETURNING id, kind, address, fp, body, attempts";
    type Row = (i64, String, String, Option<String>, Option<String>, i32);
    let rows: Vec<Row> = sqlx::query_as(CLAIM)
        .bind(i64::from(most))
        .bind(lease.as_secs_f64())
        .fetch_all(pool)
        .await?;
    let claimed = rows.into_iter().filter_map(|(id, kind, address, fp, body, attempts)| {
        let kind = Kind::from_name(&kind)?; // the column checks the name
        Some(Claimed { id, order: Order { kind, address, fp, body }, attempts })
    });
    Ok(claimed.collect())
}

/// Makes a claimed order due again after `pause`.
pub(crate) async fn postpone(pool: &PgPool, id: i64, pause: Duration) -> Result<(), pg::Error> {
    const POSTPONE: &str =
        "UPDATE peerbook.outbox SET next_try = now() + $2 * interval '1 second' WHERE id = $1";
    sqlx::query(POSTPONE).bind(id).bind(pause.as_secs_f64()).execute(pool).await?;
    Ok(())
}

/// Ends an order: sent, or never to be.
pub(crate) async fn remove(pool: &PgPool, id: i64) -> Result<(), pg::Error> {
    sqlx::query("DELETE FROM peerbook.outbox WHERE id = $1").bind(id).execute(pool).await?;
    Ok(())
}

/// Orders that wait, counted up to `most`.
pub(crate) async fn waiting(pool: &PgPool, most: u32) -> Result<i64, pg::Error> {
    let count = "SELECT count(*) FROM (SELECT FROM peerbook.outbox LIMIT $1) AS waiting";
    Ok(sqlx::query_scalar(count).bind(i64::from(most)).fetch_one(pool).await?)
}
