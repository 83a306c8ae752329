//! Leases in a schema that a service would have.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use pg::{Lease, Renewal};
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
