//! Other nodes: heard of, verified, linked.

use sqlx::PgPool;

/// Nodes kept at most; beyond it nobody new is heard of.
const NODES_MAX: i64 = 10_000;
/// Minutes after which a node that was not seen is stale, and is forgotten.
const STALE_MIN: i32 = 15;
const FORGOTTEN_MIN: i32 = 24 * 60;
/// The longest wait before a node is tried again, in seconds.
const WAIT_MAX_S: i32 = 1_800;

/// A node that was verified, as replicas need it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Verified {
    pub(crate) key: Vec<u8>,
    pub(crate) url: String,
    pub(crate) first_seen_ms: i64,
    pub(crate) last_seen_ms: i64,
    pub(crate) fails: i32,
    pub(crate) height: Option<i16>,
    pub(crate) rtt_ms: Option<i32>,
    pub(crate) net: Option<String>,
}

/// A node to be asked who it is.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Candidate {
    pub(crate) key: Vec<u8>,
    pub(crate) item: Vec<u8>,
    pub(crate) fails: i32,
}

/// Remembers a node somebody told of, or a newer description of one; at most [`NODES_MAX`]. What
/// is older than what is known changes nothing.
pub(crate) async fn hear(
    pool: &PgPool,
    key: &[u8],
    url: &str,
    item: &[u8],
    seq: i64,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO mesh.node AS n (key, url, item)
         SELECT $1, $2, $3 WHERE EXISTS (SELECT FROM mesh.node WHERE key = $1)
             OR (SELECT count(*) FROM mesh.node) < $5
         ON CONFLICT (key) DO UPDATE SET item = excluded.item, url = excluded.url,
             -- Another place has to be looked at before it counts.
             state = CASE WHEN n.url = excluded.url OR n.state = 'banned' THEN n.state
                     ELSE 'candidate' END,
             next_probe = CASE WHEN n.url = excluded.url THEN n.next_probe ELSE now() END
         WHERE (convert_from(n.item, 'UTF8')::json->>'seq')::int8 < $4",
    )
    .bind(key)
    .bind(url)
    .bind(item)
    .bind(seq)
    .bind(NODES_MAX)
    .execute(pool)
    .await
    .map(drop)
}

/// A node answered at its address, which is in `net`.
pub(crate) async fn verified(
    pool: &PgPool,
    key: &[u8],
    net: &str,
    rtt_ms: i32,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE mesh.node SET last_seen = now(), fails = 0, net = $2::inet, rtt_ms = $3,
             state = CASE WHEN state = 'linked' THEN state ELSE 'verified' END,
             -- Who was not seen for five minutes is no home.
             next_probe = now() + interval '4 min'
         WHERE key = $1 AND (banned_until IS NULL OR banned_until < now())",
    )
    .bind(key)
    .bind(net)
    .bind(rtt_ms)
    .execute(pool)
    .await
    .map(drop)
}

/// Nodes are linked, with height and round trip.
pub(crate) async fn linked(
    pool: &PgPool,
    keys: &[&[u8]],
    heights: &[i16],
    rtts: &[Option<i32>],
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE mesh.node AS n SET state = 'linked', last_seen = now(), fails = 0,
             height = g.height, rtt_ms = coalesce(g.rtt, n.rtt_ms)
         FROM unnest($1::bytea[], $2::int2[], $3::int4[]) AS g (key, height, rtt)
         WHERE n.key = g.key AND n.state <> 'banned'",
    )
    .bind(keys)
    .bind(heights)
    .bind(rtts)
    .execute(pool)
    .await
    .map(drop)
}

/// A node's link ended because nobody needs it.
pub(crate) async fn parted(pool: &PgPool, key: &[u8]) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE mesh.node SET state = 'verified', last_seen = now(),
             next_probe = now() + interval '4 min'
         WHERE key = $1 AND state = 'linked'",
    )
    .bind(key)
    .execute(pool)
    .await
    .map(drop)
}

/// A node did not answer, or its link broke: it is tried again, each time later.
pub(crate) async fn failed(pool: &PgPool, key: &[u8]) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE mesh.node SET fails = fails + 1,
             state = CASE WHEN state = 'linked' THEN 'verified' ELSE state END,
             next_probe = now() + make_interval(secs => least($2, 2 ^ least(fails, 20)))
         WHERE key = $1",
    )
    .bind(key)
    .bind(f64::from(WAIT_MAX_S))
    .execute(pool)
    .await
    .map(drop)
}

/// Has nothing to do with a node for an hour.
pub(crate) async fn ban(pool: &PgPool, key: &[u8]) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO mesh.node (key, url, item, state, banned_until)
         VALUES ($1, '', '{\"seq\":0}', 'banned', now() + interval '1 h')
         ON CONFLICT (key) DO UPDATE SET state = 'banned', banned_until = excluded.banned_until",
    )
    .bind(key)
    .execute(pool)
    .await
    .map(drop)
}

/// Whether a node is banned now.
pub(crate) async fn is_banned(pool: &PgPool, key: &[u8]) -> sqlx::Result<bool> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM mesh.node WHERE key = $1 AND banned_until > now())",
    )
    .bind(key)
    .fetch_one(pool)
    .await
}

/// Nodes that were verified.
pub(crate) async fn all_verified(pool: &PgPool) -> sqlx::Result<Vec<Verified>> {
    sqlx::query_as(
        "SELECT key, url, (extract(epoch FROM first_seen) * 1000)::int8 AS first_seen_ms,
             (extract(epoch FROM last_seen) * 1000)::int8 AS last_seen_ms,
             fails, height, rtt_ms, host(net) AS net
         FROM mesh.node WHERE state IN ('verified', 'linked') AND last_seen IS NOT NULL
         ORDER BY last_seen DESC LIMIT $1",
    )
    .bind(NODES_MAX)
    .fetch_all(pool)
    .await
}

/// Nodes whose turn it is to be asked who they are.
pub(crate) async fn due(pool: &PgPool, limit: i64) -> sqlx::Result<Vec<Candidate>> {
    sqlx::query_as(
        "SELECT key, item, fails FROM mesh.node
         WHERE state IN ('candidate', 'verified', 'stale') AND next_probe <= now()
         ORDER BY next_probe LIMIT $1",
    )
    .bind(limit)
    .fetch_all(pool)
    .await
}

/// Descriptions of nodes seen lately, a random choice.
pub(crate) async fn items(pool: &PgPool, limit: i64) -> sqlx::Result<Vec<Vec<u8>>> {
    sqlx::query_scalar(
        "SELECT item FROM mesh.node WHERE state IN ('verified', 'linked')
         AND last_seen > now() - make_interval(mins => $2) ORDER BY random() LIMIT $1",
    )
    .bind(limit)
    .bind(STALE_MIN)
    .fetch_all(pool)
    .await
}

/// A new leader has no links, and tries everybody at once.
pub(crate) async fn begin(pool: &PgPool) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE mesh.node SET next_probe = now(),
             state = CASE WHEN state = 'linked' THEN 'verified' ELSE state END
         WHERE state <> 'banned'",
    )
    .execute(pool)
    .await
    .map(drop)
}

/// Whether an address the DHT named may be asked: not within the last hour.
pub(crate) async fn may_probe(pool: &PgPool, address: &[u8]) -> sqlx::Result<bool> {
    let fresh: Option<i32> = sqlx::query_scalar(
        "INSERT INTO mesh.probe AS p (address) VALUES ($1)
         ON CONFLICT (address) DO UPDATE SET at = now() WHERE p.at < now() - interval '1 h'
         RETURNING 1",
    )
    .bind(address)
    .fetch_optional(pool)
    .await?;
    Ok(fresh.is_some())
}

/// Forgets nodes and probes that are too old.
pub(crate) async fn sweep(pool: &PgPool) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM mesh.probe WHERE at < now() - interval '1 h'").execute(pool).await?;
    sqlx::query(
        "UPDATE mesh.node SET state = 'candidate', banned_until = NULL
         WHERE state = 'banned' AND banned_until < now()",
    )
    .execute(pool)
    .await?;
    sqlx::query(
        "UPDATE mesh.node SET state = 'stale'
         WHERE state = 'verified' AND last_seen < now() - make_interval(mins => $1)",
    )
    .bind(STALE_MIN)
    .execute(pool)
    .await?;
    sqlx::query(
        "DELETE FROM mesh.node WHERE state <> 'banned'
         AND coalesce(last_seen, first_seen) < now() - make_interval(mins => $1)",
    )
    .bind(FORGOTTEN_MIN)
    .execute(pool)
    .await
    .map(drop)
}
