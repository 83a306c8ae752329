//! Proofs that were used, and posts of the last two minutes.

use std::collections::HashMap;

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
    /// As other nodes get it; nothing when none shall.
    pub(crate) carried: Option<Bytes>,
}

/// What became of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Somebody had used the proof before.
    Replayed,
    /// It paid for no post.
    Paid,
    /// It paid for a post, which has this number.
    Posted(i64),
    /// Nothing: the database has forgotten proofs since the token was made.
    Forgotten,
}

/// Writes payments and posts, if the database is still that of `boot_id`; what became of each.
pub(crate) async fn pay(
    pool: &PgPool,
    boot_id: &[u8],
    batch: &[Paid],
) -> Result<Vec<Outcome>, pg::Error> {
    let hashes: Vec<&[u8]> = batch.iter().map(|paid| paid.hash.as_slice()).collect();
    let requests: Vec<&[u8]> = batch.iter().map(|paid| paid.request.as_slice()).collect();
    let posts = || batch.iter().map(|paid| paid.post.as_ref());
    let rooms: Vec<Option<&[u8]>> = posts().map(|post| post.map(|p| &*p.room)).collect();
    let at_ms: Vec<Option<i64>> = posts().map(|post| post.map(|p| p.at_ms)).collect();
    let events: Vec<Option<&[u8]>> = posts().map(|post| post.map(|p| &*p.event)).collect();
    let carried: Vec<Option<&[u8]>> = posts().map(|post| post?.carried.as_deref()).collect();
    let written: Vec<(Option<Vec<u8>>, Option<i64>)> = sqlx::query_as(
        "WITH boot AS (
             SELECT FROM mesh.boot WHERE boot_id = $7
         ), given AS (
             SELECT * FROM unnest(
                 $1::bytea[], $2::bytea[], $3::bytea[], $4::int8[], $5::bytea[], $6::bytea[])
                 AS g (hash, request, room, at_ms, event, carried)
             WHERE EXISTS (SELECT FROM boot)
         ), paid AS (
             INSERT INTO mesh.proof (hash, request) SELECT hash, request FROM given
             -- Meeting one's own row is as good as writing it.
             ON CONFLICT (hash) DO UPDATE SET request = excluded.request
                 WHERE proof.request = excluded.request
             RETURNING hash
         ), posted AS (
             INSERT INTO mesh.post (id, room, at, event, carried)
             SELECT g.hash, g.room, to_timestamp(g.at_ms / 1000.0), g.event, g.carried
             FROM given g JOIN paid USING (hash) WHERE g.room IS NOT NULL
             ON CONFLICT (id) DO UPDATE SET event = excluded.event
             RETURNING id, seq
         )
         SELECT paid.hash, posted.seq FROM paid LEFT JOIN posted ON posted.id = paid.hash
         UNION ALL SELECT NULL, NULL WHERE NOT EXISTS (SELECT FROM boot)",
    )
    .bind(hashes)
    .bind(requests)
    .bind(rooms)
    .bind(at_ms)
    .bind(events)
    .bind(carried)
    .bind(boot_id)
    .fetch_all(pool)
    .await?;
    if written.iter().any(|(hash, _)| hash.is_none()) {
        return Ok(vec![Outcome::Forgotten; batch.len()]);
    }
    let written: HashMap<Vec<u8>, Option<i64>> =
        written.into_iter().filter_map(|(hash, seq)| Some((hash?, seq))).collect();
    let outcome = |paid: &Paid| match written.get(paid.hash.as_slice()) {
        None => Outcome::Replayed,
        Some(None) => Outcome::Paid,
        Some(Some(seq)) => Outcome::Posted(*seq),
    };
    Ok(batch.iter().map(outcome).collect())
}

/// A post as another replica wrote it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Written {
    pub(crate) id: Vec<u8>,
    pub(crate) room: Vec<u8>,
    /// Milliseconds since the epoch.
    pub(crate) at_ms: i64,
    pub(crate) event: Vec<u8>,
    pub(crate) carried: Option<Vec<u8>>,
}

/// Which posts are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those with these numbers.
    Numbered(Vec<i64>),
    /// All of the last seconds there still are, at most [`REREAD_MAX`].
    Recent,
}

/// Seconds read again when something may have been missed.
const REREAD_S: i32 = 130;
/// Posts read again then; beyond it the oldest are left out.
const REREAD_MAX: i64 = 50_000;

/// Posts, oldest first.
pub(crate) async fn read(pool: &PgPool, which: Which) -> sqlx::Result<Vec<Written>> {
    const COLUMNS: &str =
        "SELECT id, room, (extract(epoch FROM at) * 1000)::int8 AS at_ms, event, carried
                           FROM mesh.post";
    match which {
        Which::Numbered(numbers) => {
            let statement = format!("{COLUMNS} WHERE seq = ANY ($1) ORDER BY seq");
            sqlx::query_as(sqlx::AssertSqlSafe(statement)).bind(numbers).fetch_all(pool).await
        }
        Which::Recent => {
            let statement = format!(
                "SELECT * FROM ({COLUMNS} WHERE at > now() - make_interval(secs => $1)
                 ORDER BY at DESC LIMIT $2) AS newest ORDER BY at_ms"
            );
            let recent = sqlx::query_as(sqlx::AssertSqlSafe(statement));
            recent.bind(f64::from(REREAD_S)).bind(REREAD_MAX).fetch_all(pool).await
        }
    }
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
