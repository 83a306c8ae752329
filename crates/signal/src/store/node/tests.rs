use uuid::Uuid;

use super::*;
use crate::store::session::{NewSession, register};

const OLD: NodeId = NodeId(Uuid::from_u128(1));
const NEW: NodeId = NodeId(Uuid::from_u128(2));
const EXPIRY: Duration = Duration::from_secs(15);

async fn with_session(pool: &PgPool, node: NodeId, instance: &str, peer: &str) {
    start(pool, node, instance).await.unwrap();
    let mut nonce = [0; 32];
    nonce[..peer.len()].copy_from_slice(peer.as_bytes());
    let peer = Some(peer.as_bytes().to_vec());
    let new = NewSession { peer, session: Uuid::new_v4(), nonce, forget_at_ms: 0 };
    register(pool, node, &[new]).await.unwrap();
}

async fn names(pool: &PgPool, table: &str) -> Vec<String> {
    let query = match table {
        "session" => "SELECT convert_from(peer, 'UTF8') FROM signal.session ORDER BY 1",
        _ => "SELECT convert_from(peer, 'UTF8') FROM signal.last_seen ORDER BY 1",
    };
    sqlx::query_scalar(query).fetch_all(pool).await.unwrap()
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_restarted_instance_sweeps_its_predecessor_at_once(pool: PgPool) {
    with_session(&pool, OLD, "host:3000", "p").await;
    with_session(&pool, NodeId(Uuid::from_u128(3)), "other:3000", "q").await;
    let left = sweep(&pool, NEW, Some("host:3000"), EXPIRY).await.unwrap();
    assert_eq!(left.iter().map(|seen| &seen.peer[..]).collect::<Vec<_>>(), [b"p"]);
    assert_eq!(names(&pool, "session").await, ["q"]);
    assert_eq!(names(&pool, "last_seen").await, ["p"]);
    assert!(!renew(&pool, OLD).await.unwrap(), "its lease is gone");
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_lease_that_is_not_renewed_expires(pool: PgPool) {
    with_session(&pool, OLD, "host:3000", "p").await;
    assert_eq!(sweep(&pool, NEW, None, EXPIRY).await.unwrap(), []);
    sqlx::query("UPDATE signal.node SET renewed_at = renewed_at - interval '16 s'")
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(sweep(&pool, NEW, None, EXPIRY).await.unwrap().len(), 1);
    assert_eq!(names(&pool, "session").await, Vec::<String>::new());
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn renewing_keeps_a_lease_and_stopping_gives_it_back(pool: PgPool) {
    with_session(&pool, OLD, "host:3000", "p").await;
    sqlx::query("UPDATE signal.node SET renewed_at = renewed_at - interval '16 s'")
        .execute(&pool)
        .await
        .unwrap();
    assert!(renew(&pool, OLD).await.unwrap());
    assert_eq!(sweep(&pool, NEW, None, EXPIRY).await.unwrap(), []);
    stop(&pool, OLD).await.unwrap();
    assert!(!renew(&pool, OLD).await.unwrap());
    assert_eq!(names(&pool, "session").await, Vec::<String>::new());
    assert_eq!(names(&pool, "last_seen").await, ["p"]);
}
