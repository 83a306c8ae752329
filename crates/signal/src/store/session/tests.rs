use std::time::Duration;

use super::*;
use crate::store::{LastSeen, last_seen, nonce};

const NODE: NodeId = NodeId(Uuid::from_u128(1));

fn new(peer: &str, session: u128, nonce: u8) -> NewSession {
    NewSession {
        peer: Some(peer.as_bytes().to_vec()),
        session: Uuid::from_u128(session),
        nonce: [nonce; 32],
        forget_at_ms: 32_503_680_000_000, // the year 3000
    }
}

fn generation(outcome: Outcome) -> i64 {
    match outcome {
        Outcome::Seated { generation } => generation,
        Outcome::NonceUsed => panic!("the nonce is fresh"),
    }
}

async fn holder(pool: &PgPool, peer: &str) -> Option<String> {
    sqlx::query_scalar("SELECT session::text FROM signal.session WHERE peer = $1")
        .bind(peer.as_bytes())
        .fetch_optional(pool)
        .await
        .unwrap()
}

fn text(session: u128) -> String {
    Uuid::from_u128(session).to_string()
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn the_last_of_two_registers_in_one_batch_holds_the_peer(pool: PgPool) {
    let batch = [new("p", 1, 1), new("q", 2, 2), new("p", 3, 3)];
    let outcomes = register(&pool, NODE, &batch).await.unwrap();
    assert!(generation(outcomes[0]) < generation(outcomes[2]));
    assert_eq!(holder(&pool, "p").await, Some(text(3)));
    assert_eq!(holder(&pool, "q").await, Some(text(2)));
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_nonce_is_good_once_within_a_batch_and_across_batches(pool: PgPool) {
    let batch = [new("p", 1, 7), new("q", 2, 7)];
    let outcomes = register(&pool, NODE, &batch).await.unwrap();
    assert_ne!(outcomes[0], Outcome::NonceUsed);
    assert_eq!(outcomes[1], Outcome::NonceUsed);
    assert_eq!(holder(&pool, "q").await, None);
    let again = register(&pool, NODE, &[new("r", 3, 7)]).await.unwrap();
    assert_eq!(again, [Outcome::NonceUsed]);
    assert!(nonce::is_used(&pool, &[7; 32]).await.unwrap());
    assert!(!nonce::is_used(&pool, &[8; 32]).await.unwrap());
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_batch_that_is_committed_again_does_not_meet_its_own_nonces(pool: PgPool) {
    let batch = [new("p", 1, 1)];
    register(&pool, NODE, &batch).await.unwrap();
    let again = register(&pool, NODE, &batch).await.unwrap();
    assert_ne!(again, [Outcome::NonceUsed]);
    assert_eq!(holder(&pool, "p").await, Some(text(1)));
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn forgotten_nonces_are_free_again_and_swept(pool: PgPool) {
    let mut old = new("p", 1, 1);
    old.forget_at_ms = 1_000;
    register(&pool, NODE, &[old]).await.unwrap();
    assert!(!nonce::is_used(&pool, &[1; 32]).await.unwrap());
    assert_ne!(register(&pool, NODE, &[new("q", 2, 1)]).await.unwrap(), [Outcome::NonceUsed]);
    let mut old = new("p", 3, 2);
    old.forget_at_ms = 1_000;
    register(&pool, NODE, &[old]).await.unwrap();
    assert_eq!(nonce::sweep(&pool).await.unwrap(), 1);
    assert!(nonce::is_used(&pool, &[1; 32]).await.unwrap());
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn ids_no_table_keeps_burn_their_nonce_only(pool: PgPool) {
    let scalar = NewSession { peer: None, ..new("", 1, 1) };
    assert_ne!(register(&pool, NODE, &[scalar]).await.unwrap(), [Outcome::NonceUsed]);
    let rows: i64 =
        sqlx::query_scalar("SELECT count(*) FROM signal.session").fetch_one(&pool).await.unwrap();
    assert_eq!(rows, 0);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_leaver_that_is_back_keeps_its_row_and_the_latest_leave_counts(pool: PgPool) {
    register(&pool, NODE, &[new("p", 1, 1)]).await.unwrap();
    register(&pool, NODE, &[new("p", 2, 2)]).await.unwrap();
    let left = |session, at_ms| Left {
        peer: b"p".to_vec(),
        session: Uuid::from_u128(session),
        at_ms,
        kept: false,
    };
    let now_ms: i64 = sqlx::query_scalar("SELECT (extract(epoch FROM now()) * 1000)::bigint")
        .fetch_one(&pool)
        .await
        .unwrap();
    leave(&pool, &[left(1, now_ms)]).await.unwrap();
    assert_eq!(holder(&pool, "p").await, Some(text(2)));
    let day = Duration::from_secs(86_400);
    assert_eq!(last_seen::recent(&pool, day, 10).await.unwrap(), [], "it is connected");
    leave(&pool, &[left(2, now_ms - 5), left(2, now_ms - 9)]).await.unwrap();
    assert_eq!(holder(&pool, "p").await, None);
    let seen = LastSeen { peer: b"p".to_vec(), at_ms: now_ms };
    assert_eq!(last_seen::recent(&pool, day, 10).await.unwrap(), [seen]);
    assert_eq!(last_seen::sweep(&pool, day).await.unwrap(), 0);
    assert_eq!(last_seen::sweep(&pool, Duration::ZERO).await.unwrap(), 1);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn restored_sessions_give_way_to_newer_ones(pool: PgPool) {
    let outcomes = register(&pool, NODE, &[new("p", 1, 1), new("q", 2, 2)]).await.unwrap();
    let newer = register(&pool, NODE, &[new("p", 3, 3)]).await.unwrap();
    sqlx::query("DELETE FROM signal.session WHERE peer = 'q'").execute(&pool).await.unwrap();
    let held = |peer: &str, session, outcome| Held {
        peer: peer.as_bytes().to_vec(),
        session: Uuid::from_u128(session),
        generation: generation(outcome),
    };
    restore(&pool, NODE, &[held("p", 1, outcomes[0]), held("q", 2, outcomes[1])]).await.unwrap();
    assert!(generation(newer[0]) > generation(outcomes[0]));
    assert_eq!(holder(&pool, "p").await, Some(text(3)));
    assert_eq!(holder(&pool, "q").await, Some(text(2)));
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn every_statement_runs_as_the_service_role(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    sqlx::query("SET ROLE switchyard_signal").execute(&mut *connection).await.unwrap();
    for table in ["node", "session", "nonce", "last_seen"] {
        let may: bool = sqlx::query_scalar(
            "SELECT has_table_privilege(current_user, 'signal.' || $1, 'SELECT, INSERT, UPDATE, DELETE')",
        )
        .bind(table)
        .fetch_one(&mut *connection)
        .await
        .unwrap();
        assert!(may, "{table}");
    }
    let next: i64 = sqlx::query_scalar("SELECT nextval('signal.session_generation')")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert!(next > 0);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_look_finds_what_was_committed_since_the_last_one_in_whatever_order(pool: PgPool) {
    const OTHER: NodeId = NodeId(Uuid::from_u128(2));
    register(&pool, NODE, &[new("mine", 1, 1)]).await.unwrap();
    let first = latest(&pool, OTHER, 0).await.unwrap();
    assert_eq!(first.seated.len(), 1);
    assert_eq!(first.seated[0].peer, b"mine");
    assert!(latest(&pool, NODE, 0).await.unwrap().seated.is_empty(), "its own are known");
    // A register that began earlier and is committed later has the lower generation.
    let mut slow = pool.begin().await.unwrap();
    let insert = "INSERT INTO signal.session (peer, node, session, generation)
        VALUES ('slow', $1::text::uuid, $1::text::uuid, nextval('signal.session_generation'))";
    sqlx::query(insert).bind(text(1)).execute(&mut *slow).await.unwrap();
    register(&pool, NODE, &[new("fast", 2, 2)]).await.unwrap();
    let second = latest(&pool, OTHER, first.until).await.unwrap();
    assert_eq!(second.seated[0].peer, b"fast");
    slow.commit().await.unwrap();
    let third = latest(&pool, OTHER, second.until).await.unwrap();
    assert!(third.seated.iter().any(|held| held.peer == b"slow"), "{third:?}");
    // Transactions of other databases hold the beginning back for as long as they are open.
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    let mut look = third;
    while !look.seated.is_empty() {
        assert!(tokio::time::Instant::now() < end, "found again and again: {look:?}");
        look = latest(&pool, OTHER, look.until).await.unwrap();
    }
    // A peer that moves is news again.
    register(&pool, NODE, &[new("mine", 3, 3)]).await.unwrap();
    let last = latest(&pool, OTHER, look.until).await.unwrap();
    assert!(last.seated.iter().any(|held| held.peer == b"mine"), "{last:?}");
}
