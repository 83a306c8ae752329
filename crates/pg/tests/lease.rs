//! Leases in a schema that a service would have.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use pg::{Holding, Lease, Renewal};
use sqlx::PgPool;

const EXPIRY: Duration = Duration::from_secs(15);

fn lease(instance: &str) -> Lease {
    Lease::new("peer_linker", "pad", instance.to_owned(), EXPIRY)
}

async fn hold(pool: &PgPool, lease: &Lease, name: &str) {
    sqlx::query("INSERT INTO peer_linker.pad (digest, node, pad) VALUES ($1, $2::text::uuid, 1)")
        .bind(name.as_bytes())
        .bind(lease.node())
        .execute(pool)
        .await
        .unwrap();
}

async fn held(pool: &PgPool) -> Vec<String> {
    let held = "SELECT convert_from(digest, 'UTF8') FROM peer_linker.pad ORDER BY 1";
    sqlx::query_scalar(held).fetch_all(pool).await.unwrap()
}

async fn grow_old(pool: &PgPool) {
    sqlx::query("UPDATE peer_linker.node SET renewed_at = renewed_at - interval '16 s'")
        .execute(pool)
        .await
        .unwrap();
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_restarted_instance_sweeps_its_predecessor_at_once(pool: PgPool) {
    let (old, other) = (lease("host:1"), lease("host:2"));
    for one in [&old, &other] {
        one.begin(&pool).await.unwrap();
    }
    hold(&pool, &old, "a").await;
    hold(&pool, &other, "b").await;
    let new = lease("host:1");
    assert_eq!(new.begin(&pool).await.unwrap(), 1);
    assert_eq!(held(&pool).await, ["b"]);
    let renewal = new.renew(&pool).await.unwrap();
    assert_eq!(renewal, Renewal { kept: true, swept: 0, siblings: 1 });
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn who_does_not_renew_is_swept_and_learns_of_it(pool: PgPool) {
    let (slow, other) = (lease("slow"), lease("other"));
    for one in [&slow, &other] {
        one.begin(&pool).await.unwrap();
    }
    hold(&pool, &slow, "a").await;
    grow_old(&pool).await;
    let renewal = other.renew(&pool).await.unwrap();
    assert_eq!(renewal, Renewal { kept: true, swept: 1, siblings: 0 });
    assert!(held(&pool).await.is_empty());
    assert!(!slow.renew(&pool).await.unwrap().kept);
    assert_eq!(slow.renew(&pool).await.unwrap(), Renewal { kept: true, swept: 0, siblings: 1 });
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn ending_a_lease_gives_everything_back(pool: PgPool) {
    let (one, other) = (lease("one"), lease("other"));
    for one in [&one, &other] {
        one.begin(&pool).await.unwrap();
    }
    hold(&pool, &one, "a").await;
    hold(&pool, &other, "b").await;
    one.end(&pool).await.unwrap();
    assert_eq!(held(&pool).await, ["b"]);
    assert_eq!(other.renew(&pool).await.unwrap().siblings, 0);
}

fn holding(name: u8, number: u64) -> Holding {
    Holding { digest: [name; 32], number }
}

async fn numbers(pool: &PgPool) -> Vec<i64> {
    let numbers = "SELECT pad FROM peer_linker.pad ORDER BY digest";
    sqlx::query_scalar(numbers).fetch_all(pool).await.unwrap()
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_name_belongs_to_one_process_and_to_its_latest_taker_there(pool: PgPool) {
    let (one, other) = (lease("one"), lease("other"));
    for one in [&one, &other] {
        one.begin(&pool).await.unwrap();
    }
    let batch = [holding(1, 1), holding(2, 2), holding(1, 3)];
    assert_eq!(one.hold(&pool, &batch).await.unwrap(), [true, true, true]);
    assert_eq!(one.hold(&pool, &batch).await.unwrap(), [true, true, true], "may be repeated");
    assert_eq!(numbers(&pool).await, [3, 2]);
    let theirs = [holding(2, 1), holding(3, 2)];
    assert_eq!(other.hold(&pool, &theirs).await.unwrap(), [false, true]);
    other.give_back(&pool, &[holding(1, 3)]).await.unwrap();
    one.give_back(&pool, &[holding(1, 1), holding(2, 2)]).await.unwrap();
    assert_eq!(numbers(&pool).await, [3, 2], "neither another's nor an old number is given back");
    assert_eq!(other.hold(&pool, &[holding(2, 7)]).await.unwrap(), [true]);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn what_a_process_without_a_lease_held_is_anybodys(pool: PgPool) {
    let (slow, other) = (lease("slow"), lease("other"));
    for one in [&slow, &other] {
        one.begin(&pool).await.unwrap();
    }
    assert_eq!(slow.hold(&pool, &[holding(1, 1)]).await.unwrap(), [true]);
    grow_old(&pool).await;
    assert_eq!(other.hold(&pool, &[holding(1, 9)]).await.unwrap(), [true]);
    other.renew(&pool).await.unwrap();
    assert!(!slow.renew(&pool).await.unwrap().kept);
    assert_eq!(slow.hold(&pool, &[holding(1, 1)]).await.unwrap(), [false]);
}
