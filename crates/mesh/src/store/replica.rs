//! Which replicas of the node run, what they tell each other, and what they listen to.

use sqlx::PgPool;

/// Seconds without a sign of life after which a replica counts no more.
const ALIVE_S: i32 = 10;
/// Seconds after which its rows go.
const FORGOTTEN_S: i32 = 60;

/// How a replica is.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub(crate) struct Replica {
    pub(crate) id: String,
    pub(crate) cpu: f32,
    pub(crate) mem: f32,
    pub(crate) streams: i32,
    pub(crate) leads: bool,
}

/// Shows a sign of life; everybody who did lately.
pub(crate) async fn show(pool: &PgPool, own: &Replica) -> sqlx::Result<Vec<Replica>> {
    sqlx::query(
        "INSERT INTO mesh.replica (id, cpu, mem, streams, leads) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (id) DO UPDATE SET seen_at = now(), cpu = excluded.cpu, mem = excluded.mem,
             streams = excluded.streams, leads = excluded.leads",
    )
    .bind(&own.id)
    .bind(own.cpu)
    .bind(own.mem)
    .bind(own.streams)
    .bind(own.leads)
    .execute(pool)
    .await?;
    sqlx::query_as(
        "SELECT id, cpu, mem, streams, leads FROM mesh.replica
         WHERE seen_at > now() - make_interval(secs => $1)",
    )
    .bind(f64::from(ALIVE_S))
    .fetch_all(pool)
    .await
}

/// Takes a replica's rows out.
pub(crate) async fn leave(pool: &PgPool, id: &str) -> sqlx::Result<()> {
    sqlx::query(
        "WITH gone AS (DELETE FROM mesh.replica WHERE id = $1)
         DELETE FROM mesh.interest WHERE replica = $1",
    )
    .bind(id)
    .execute(pool)
    .await
    .map(drop)
}

/// Takes the rows of replicas out that died.
pub(crate) async fn sweep(pool: &PgPool) -> sqlx::Result<()> {
    sqlx::query(
        "WITH gone AS (
             DELETE FROM mesh.replica WHERE seen_at < now() - make_interval(secs => $1))
         DELETE FROM mesh.interest WHERE NOT EXISTS (
             SELECT FROM mesh.replica WHERE id = replica
                 AND seen_at >= now() - make_interval(secs => $1))",
    )
    .bind(f64::from(FORGOTTEN_S))
    .execute(pool)
    .await
    .map(drop)
}

/// Tells every replica something; at most 8,000 bytes.
pub(crate) async fn tell(pool: &PgPool, channel: &str, payload: &str) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind(channel)
        .bind(payload)
        .execute(pool)
        .await
        .map(drop)
}

/// Adds to the rooms a replica listens to, and takes others out.
pub(crate) async fn listen(
    pool: &PgPool,
    id: &str,
    more: &[&[u8]],
    less: &[&[u8]],
) -> sqlx::Result<()> {
    sqlx::query(
        "WITH gone AS (DELETE FROM mesh.interest WHERE replica = $1 AND room = ANY ($3))
         INSERT INTO mesh.interest (replica, room) SELECT $1, unnest($2::bytea[])
         ON CONFLICT DO NOTHING",
    )
    .bind(id)
    .bind(more)
    .bind(less)
    .execute(pool)
    .await
    .map(drop)
}

/// Rooms any other replica listens to, at most `limit`.
pub(crate) async fn listened(pool: &PgPool, id: &str, limit: i64) -> sqlx::Result<Vec<Vec<u8>>> {
    sqlx::query_scalar("SELECT DISTINCT room FROM mesh.interest WHERE replica <> $1 LIMIT $2")
        .bind(id)
        .bind(limit)
        .fetch_all(pool)
        .await
}
