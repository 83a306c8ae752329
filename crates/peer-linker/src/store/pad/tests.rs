use std::time::Duration;

use super::*;

const EXPIRY: Duration = Duration::from_secs(15);

async fn node(pool: &PgPool, instance: &str) -> Lease {
    let lease = Lease::new("peer_linker", "pad", instance.to_owned(), EXPIRY);
    lease.begin(pool).await.unwrap();
    lease
}

fn held(name: u8, pad: u64) -> Held {
    Held { digest: [name; 32], pad }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_name_is_held_by_one_process_at_a_time(pool: PgPool) {
    let (one, other) = (node(&pool, "one").await, node(&pool, "other").await);
    let batch = [held(1, 1), held(2, 2)];
    assert_eq!(register(&pool, &one, &batch).await.unwrap(), [true, true]);
    let batch = [held(2, 1), held(3, 2)];
    assert_eq!(register(&pool, &other, &batch).await.unwrap(), [false, true]);
    assert!(is_elsewhere(&pool, &other, &[2; 32]).await.unwrap());
    assert!(!is_elsewhere(&pool, &one, &[2; 32]).await.unwrap());
    release(&pool, &one, &[held(2, 2)]).await.unwrap();
    assert_eq!(register(&pool, &other, &[held(2, 3)]).await.unwrap(), [true]);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn giving_back_an_old_registration_leaves_the_newer_one(pool: PgPool) {
    let (one, other) = (node(&pool, "one").await, node(&pool, "other").await);
    assert_eq!(register(&pool, &one, &[held(1, 1)]).await.unwrap(), [true]);
    assert_eq!(register(&pool, &one, &[held(1, 2)]).await.unwrap(), [true]);
    release(&pool, &one, &[held(1, 1)]).await.unwrap();
    assert_eq!(register(&pool, &other, &[held(1, 1)]).await.unwrap(), [false]);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn the_last_of_two_registrations_in_one_batch_holds_the_name(pool: PgPool) {
    let one = node(&pool, "one").await;
    let batch = [held(1, 1), held(1, 2)];
    assert_eq!(register(&pool, &one, &batch).await.unwrap(), [true, true]);
    let pad: i64 =
        sqlx::query_scalar("SELECT pad FROM peer_linker.pad").fetch_one(&pool).await.unwrap();
    assert_eq!(pad, 2);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn what_a_dead_process_held_is_free(pool: PgPool) {
    let (one, other) = (node(&pool, "one").await, node(&pool, "other").await);
    assert_eq!(register(&pool, &one, &[held(1, 1)]).await.unwrap(), [true]);
    let old = "UPDATE peer_linker.node SET renewed_at = renewed_at - interval '16 s' WHERE instance = 'one'";
    sqlx::query(old).execute(&pool).await.unwrap();
    assert!(!is_elsewhere(&pool, &other, &[1; 32]).await.unwrap());
    assert_eq!(register(&pool, &other, &[held(1, 1)]).await.unwrap(), [true]);
    // The first one lives after all, and learns that it lost the name.
    assert_eq!(register(&pool, &one, &[held(1, 1)]).await.unwrap(), [false]);
}
