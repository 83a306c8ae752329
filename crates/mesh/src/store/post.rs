//! Proofs that were used, and posts of the last two minutes.

use bytes::Bytes;
use sqlx::PgPool;

/// Seconds a used proof is remembered: longer than a token lives, clocks' differences included.
const PROOF_AGE_S: i32 = 180;
/// Seconds a post is kept.
const POST_AGE_S: i32 = 120;
/// Rows removed by one statement.
const SWEEP_ROWS: i64 = 20_000;

/// One payment, with what it pays for.
#[derive(Clone, Debug)]
pub(crate) struct Paid {
    /// The proof's hash, which is the post's id.
    pub(crate) hash: [u8; 32],
    /// This request's own number.
    pub(crate) request: [u8; 16],
    /// The post; nothing for other requests.
    pub(crate) post: Option<Post>,
}

/// A post to a room.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) room: Box<[u8]>,
    /// Milliseconds since the epoch.
    pub(crate) at_ms: i64,
    /// As subscribers get it.
    pub(crate) event: Bytes,
}

/// Writes payments and posts; for each whether its proof had not been used by anybody else.
pub(crate) async fn pay(pool: &PgPool, batch: &[Paid]) -> Result<Vec<bool>, pg::Error> {
    let hashes: Vec<&[u8]> = batch.iter().map(|paid| paid.hash.as_slice()).collect();
    let requests: Vec<&[u8]> = batch.iter().map(|paid| paid.request.as_slice()).collect();
    let post = |paid: &Paid| paid.post.clone();
    let rooms: Vec<Option<Box<[u8]>>> = batch.iter().map(|p| post(p).map(|p| p.room)).collect();
    let at_ms: Vec<Option<i64>> = batch.iter().map(|p| post(p).map(|p| p.at_ms)).collect();
    let events: Vec<Option<Vec<u8>>> =
        batch.iter().map(|p| post(p).map(|p| p.event.to_vec())).collect();
    let fresh: Vec<Vec<u8>> = sqlx::query_scalar(
        "WITH given AS (
             SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::int8[], $5::bytea[])
                 AS g (hash, request, room, at_ms, event)
         ), paid AS (
             INSERT INTO mesh.proof (hash, request) SELECT hash, request FROM given
             -- Meeting one's own row is as good as writing it.
             ON CONFLICT (hash) DO UPDATE SET request = excluded.request
                 WHERE proof.request = excluded.request
             RETURNING hash
         ), posted AS (
             INSERT INTO mesh.post (id, room, at, event)
             SELECT g.hash, g.room, to_timestamp(g.at_ms / 1000.0), g.event
             FROM given g JOIN paid USING (hash) WHERE g.room IS NOT NULL
             ON CONFLICT DO NOTHING
         )
         SELECT hash FROM paid",
    )
    .bind(hashes)
    .bind(requests)
    .bind(rooms)
    .bind(at_ms)
    .bind(events)
    .fetch_all(pool)
    .await?;
    let fresh: std::collections::HashSet<Vec<u8>> = fresh.into_iter().collect();
    Ok(batch.iter().map(|paid| fresh.contains(paid.hash.as_slice())).collect())
}

/// Where a subscriber wants to go on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum From {
    /// Behind the post of this id, or a minute ago when it is not known.
    Last([u8; 32]),
    /// So many seconds ago.
    SecondsAgo(i32),
}

/// Events of `rooms` from there on, oldest first, at most `limit`; the newest ones are kept.
pub(crate) async fn since(
    pool: &PgPool,
    rooms: &[&[u8]],
    from: From,
    limit: i64,
) -> sqlx::Result<Vec<Vec<u8>>> {
    let (last, seconds) = match from {
        From::Last(id) => (Some(id.to_vec()), 60),
        From::SecondsAgo(seconds) => (None, seconds),
    };
    let mut events: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT event FROM mesh.post
         WHERE room = ANY ($1) AND id IS DISTINCT FROM $2 AND at >= coalesce(
             -- Clocks of replicas differ: some posts come twice rather than not at all.
             (SELECT at - interval '2 s' FROM mesh.post WHERE id = $2),
             now() - make_interval(secs => $3))
         ORDER BY at DESC LIMIT $4",
    )
    .bind(rooms)
    .bind(last)
    .bind(f64::from(seconds))
    .bind(limit)
    .fetch_all(pool)
    .await?;
    events.reverse();
    Ok(events)
}

/// Forgets what is too old; whether there may be more.
pub(crate) async fn sweep(pool: &PgPool) -> sqlx::Result<bool> {
    let mut more = false;
    let statements = [
        (
            "DELETE FROM mesh.proof WHERE ctid = ANY (ARRAY(SELECT ctid FROM mesh.proof
              WHERE used_at < now() - make_interval(secs => $1) LIMIT $2))",
            PROOF_AGE_S,
        ),
        (
            "DELETE FROM mesh.post WHERE ctid = ANY (ARRAY(SELECT ctid FROM mesh.post
              WHERE at < now() - make_interval(secs => $1) LIMIT $2))",
            POST_AGE_S,
        ),
    ];
    for (statement, age_s) in statements {
        let done = sqlx::query(statement).bind(f64::from(age_s)).bind(SWEEP_ROWS).execute(pool);
        more |= i64::try_from(done.await?.rows_affected()).unwrap_or(0) == SWEEP_ROWS;
    }
    Ok(more)
}
