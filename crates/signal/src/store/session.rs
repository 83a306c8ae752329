//! Who is connected: one row per peer, taken by registers and given back by leavers.

use sqlx::PgPool;
use uuid::Uuid;

use super::NodeId;

/// A register whose proof is good.
#[derive(Clone, Debug)]
pub(crate) struct NewSession {
    /// WTF-8; `None` for an id no table keeps, of which only the nonce is burned.
    pub(crate) peer: Option<Vec<u8>>,
    pub(crate) session: Uuid,
    pub(crate) nonce: [u8; 32],
    pub(crate) forget_at_ms: i64,
}

/// What became of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The session holds the peer; of two sessions of one peer the higher generation does.
    Seated {
        /// Grows with every register of the whole deployment.
        generation: i64,
    },
    /// Another register has used the nonce.
    NonceUsed,
}

/// Burns the nonces and seats the sessions of a batch, in order, in one statement.
///
/// May be repeated with the same batch: a nonce used by the same session is not used. Of two
/// registers with one nonce the first succeeds; of two with one peer the last holds it.
pub(crate) async fn register(
    pool: &PgPool,
    node: NodeId,
    batch: &[NewSession],
) -> Result<Vec<Outcome>, pg::Error> {
    // Rows are taken in order of their keys, so that two processes cannot deadlock.
    const REGISTER: &str = "WITH
        input AS (
            SELECT DISTINCT ON (digest) * FROM unnest($2::bytea[], $3::text[]::uuid[], $4::bytea[], $5::bigint[])
                WITH ORDINALITY AS t(peer, session, digest, forget_at_ms, place)
            ORDER BY digest, place),
        burned AS (
            INSERT INTO signal.nonce AS n (digest, session, forget_at)
            SELECT digest, session, to_timestamp(forget_at_ms / 1000.0) FROM input ORDER BY digest
            ON CONFLICT (digest) DO UPDATE SET session = excluded.session, forget_at = excluded.forget_at
                WHERE n.session = excluded.session OR n.forget_at <= now()
            RETURNING digest),
        accepted AS MATERIALIZED (
            SELECT ordered.*, nextval('signal.session_generation') AS generation
            FROM (SELECT input.* FROM input JOIN burned USING (digest) ORDER BY place) AS ordered),
        seated AS (
            INSERT INTO signal.session AS s (peer, node, session, generation)
            SELECT DISTINCT ON (peer) peer, $1::text::uuid, session, generation
            FROM accepted WHERE peer IS NOT NULL ORDER BY peer, generation DESC
            ON CONFLICT (peer) DO UPDATE SET node = excluded.node, session = excluded.session,
                generation = excluded.generation, since = now(), changed = excluded.changed
                WHERE s.generation < excluded.generation)
        SELECT place, generation FROM accepted";
    let peers: Vec<Option<&[u8]>> = batch.iter().map(|new| new.peer.as_deref()).collect();
    let sessions: Vec<String> = batch.iter().map(|new| new.session.to_string()).collect();
    let digests: Vec<&[u8]> = batch.iter().map(|new| &new.nonce[..]).collect();
    let forget: Vec<i64> = batch.iter().map(|new| new.forget_at_ms).collect();
    let rows: Vec<(i64, i64)> = sqlx::query_as(REGISTER)
        .bind(node.text())
        .bind(peers)
        .bind(sessions)
        .bind(digests)
        .bind(forget)
        .fetch_all(pool)
        .await?;
    let mut outcomes = vec![Outcome::NonceUsed; batch.len()];
    for (place, generation) in rows {
        let index = usize::try_from(place - 1).unwrap_or(usize::MAX);
        if let Some(outcome) = outcomes.get_mut(index) {
            *outcome = Outcome::Seated { generation };
        }
    }
    Ok(outcomes)
}

/// A session that ended here.
#[derive(Clone, Debug)]
pub(crate) struct Left {
    /// WTF-8.
    pub(crate) peer: Vec<u8>,
    pub(crate) session: Uuid,
    pub(crate) at_ms: i64,
    /// It may come back with a token; not stored.
    pub(crate) kept: bool,
}

/// Gives back the rows of sessions that ended and notes when. A peer that has registered again
/// meanwhile keeps its row. May be repeated.
pub(crate) async fn leave(pool: &PgPool, left: &[Left]) -> Result<(), pg::Error> {
    const LEAVE: &str = "WITH
        input AS (
            SELECT * FROM unnest($1::bytea[], $2::text[]::uuid[], $3::bigint[]) AS t(peer, session, at_ms)),
        gone AS (
            DELETE FROM signal.session AS s USING input
            WHERE s.peer = input.peer AND s.session = input.session)
        INSERT INTO signal.last_seen AS l (peer, seen_at)
        SELECT peer, to_timestamp(max(at_ms) / 1000.0) FROM input GROUP BY peer ORDER BY peer
        ON CONFLICT (peer) DO UPDATE SET seen_at = greatest(l.seen_at, excluded.seen_at)";
    let peers: Vec<&[u8]> = left.iter().map(|one| &one.peer[..]).collect();
    let sessions: Vec<String> = left.iter().map(|one| one.session.to_string()).collect();
    let times: Vec<i64> = left.iter().map(|one| one.at_ms).collect();
    sqlx::query(LEAVE).bind(peers).bind(sessions).bind(times).execute(pool).await?;
    Ok(())
}

/// Who holds a peer, according to the table.
#[derive(Clone, Debug)]
pub(crate) struct Seated {
    /// WTF-8.
    pub(crate) peer: Vec<u8>,
    pub(crate) node: Uuid,
    pub(crate) session: Uuid,
    pub(crate) generation: i64,
}

/// Every session of every process.
pub(crate) async fn all(pool: &PgPool) -> Result<Vec<Seated>, pg::Error> {
    const ALL: &str = "SELECT peer, node::text, session::text, generation FROM signal.session";
    let rows: Vec<(Vec<u8>, String, String, i64)> = sqlx::query_as(ALL).fetch_all(pool).await?;
    let seated = |(peer, node, session, generation): (Vec<u8>, String, String, i64)| Seated {
        peer,
        node: NodeId::read(&node),
        session: NodeId::read(&session),
        generation,
    };
    Ok(rows.into_iter().map(seated).collect())
}

/// Rows of other processes written since an earlier look, the newest if there are too many.
#[derive(Clone, Debug)]
pub(crate) struct Latest {
    pub(crate) seated: Vec<Seated>,
    /// Where the next look begins: every transaction before it is seen or over.
    pub(crate) until: i64,
}

/// Rows one look reads at most; the bus tells of the others.
const LATEST: i64 = 10_000;

/// The sessions of other processes that were seated since the look that ended with `since`; 0 for all.
pub(crate) async fn latest(pool: &PgPool, node: NodeId, since: i64) -> Result<Latest, pg::Error> {
    const NEWER: &str = "SELECT until, peer, node::text, session::text, generation
        FROM (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS until) AS look
        LEFT JOIN signal.session AS s ON s.changed >= $2 AND s.node <> $1::text::uuid
        ORDER BY s.changed DESC, s.generation DESC LIMIT $3";
    type Found = (i64, Option<Vec<u8>>, Option<String>, Option<String>, Option<i64>);
    let rows: Vec<Found> =
        sqlx::query_as(NEWER).bind(node.text()).bind(since).bind(LATEST).fetch_all(pool).await?;
    let until = rows.first().map_or(since, |row| row.0);
    let seated = |(_, peer, node, session, generation): Found| {
        let (node, session) = (NodeId::read(&node?), NodeId::read(&session?));
        Some(Seated { peer: peer?, node, session, generation: generation? })
    };
    Ok(Latest { seated: rows.into_iter().filter_map(seated).collect(), until })
}

/// A session that is connected here, for [`restore`].
#[derive(Clone, Debug)]
pub(crate) struct Held {
    /// WTF-8.
    pub(crate) peer: Vec<u8>,
    pub(crate) session: Uuid,
    pub(crate) generation: i64,
}

/// Puts back the rows of connected sessions after others took this process for dead. A peer
/// that registered elsewhere since keeps the newer row.
pub(crate) async fn restore(pool: &PgPool, node: NodeId, held: &[Held]) -> Result<(), pg::Error> {
    const RESTORE: &str = "INSERT INTO signal.session AS s (peer, node, session, generation)
        SELECT peer, $1::text::uuid, session, generation
        FROM unnest($2::bytea[], $3::text[]::uuid[], $4::bigint[]) AS t(peer, session, generation)
        ORDER BY peer
        ON CONFLICT (peer) DO UPDATE SET node = excluded.node, session = excluded.session,
            generation = excluded.generation, changed = excluded.changed
            WHERE s.generation < excluded.generation";
    let peers: Vec<&[u8]> = held.iter().map(|one| &one.peer[..]).collect();
    let sessions: Vec<String> = held.iter().map(|one| one.session.to_string()).collect();
    let generations: Vec<i64> = held.iter().map(|one| one.generation).collect();
    sqlx::query(RESTORE)
        .bind(node.text())
        .bind(peers)
        .bind(sessions)
        .bind(generations)
        .execute(pool)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests;
