//! Several processes on one database, and the database away.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Server, until};
use sqlx::PgPool;
use testkit::{cluster::Cluster, database::Database, pad_client::Generation};

const WIRE: Generation = Generation::WebSocket;

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn two_replicas_never_give_out_one_name(pool: PgPool) {
    let settings = ["--lease-renewal", "100ms"];
    let (one, other) =
        (Server::start(&pool, &settings).await, Server::start(&pool, &settings).await);
    let mut a = one.pad(WIRE, b"name").await;
    let mut b = other.client(WIRE).await;
    assert!(!b.register_pad(b"name").await.unwrap());
    assert!(b.register_pad(b"b").await.unwrap());
    assert!(a.unregister_pad().await.unwrap());
    assert!(b.unregister_pad().await.unwrap());
    until("free everywhere", async || b.register_pad(b"name").await.unwrap()).await;
    assert!(!a.register_pad(b"name").await.unwrap());
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_dead_replicas_pads_are_free_when_its_lease_ends(pool: PgPool) {
    let dead = ["--lease-renewal", "1h", "--instance", "dead"];
    let dead = Server::start(&pool, &dead).await;
    let _pad = dead.pad(WIRE, b"name").await;
    let other = ["--lease-renewal", "100ms", "--lease-expiry", "2s", "--instance", "other"];
    let other = Server::start(&pool, &other).await;
    let mut b = other.client(WIRE).await;
    assert!(!b.register_pad(b"name").await.unwrap());
    until("its lease is over", async || b.register_pad(b"name").await.unwrap()).await;
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_restarted_replica_frees_what_it_held_at_once(pool: PgPool) {
    let settings = ["--lease-renewal", "1h", "--instance", "same"];
    let before = Server::start(&pool, &settings).await;
    let _pad = before.pad(WIRE, b"name").await;
    let after = Server::start(&pool, &settings).await;
    after.pad(WIRE, b"name").await;
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_replica_taken_for_dead_puts_its_pads_back_and_gives_up_the_lost(pool: PgPool) {
    let one = Server::start(&pool, &["--lease-renewal", "500ms", "--instance", "one"]).await;
    let mut kept = one.pad(WIRE, b"kept").await;
    let mut lost = one.pad(WIRE, b"lost").await;
    let other = Server::start(&pool, &["--lease-renewal", "1h", "--instance", "other"]).await;
    until("both run", async || {
        let nodes = "SELECT count(*) FROM peer_linker.node";
        sqlx::query_scalar::<_, i64>(nodes).fetch_one(&pool).await.unwrap() == 2
    })
    .await;
    // In one statement: between two, the first may say that it lives.
    let sweep_and_take = "WITH
        gone AS (DELETE FROM peer_linker.node WHERE instance = 'one' RETURNING node),
        swept AS (
            DELETE FROM peer_linker.pad AS p USING gone
            WHERE p.node = gone.node AND p.digest <> sha256('\\x01'::bytea || 'lost'::bytea))
        UPDATE peer_linker.pad SET pad = 1,
            node = (SELECT node FROM peer_linker.node WHERE instance = 'other')
        WHERE digest = sha256('\\x01'::bytea || 'lost'::bytea)";
    let taken = sqlx::query(sweep_and_take).execute(&pool).await.unwrap();
    assert_eq!(taken.rows_affected(), 1);
    assert_eq!(lost.closed().await.unwrap(), Some(1012));
    let mut c = other.client(WIRE).await;
    assert!(!c.register_pad(b"kept").await.unwrap());
    assert!(kept.unregister_pad().await.unwrap());
    assert_eq!(one.metric("peer_linker_leases_lost_total", ""), 1.0);
    assert_eq!(one.metric("peer_linker_pads_lost_total", ""), 1.0);
}

#[tokio::test]
async fn without_postgres_links_go_on_and_registers_are_refused() {
    let mut cluster = Cluster::start().await.unwrap();
    let database = Database::within(cluster.options()).await.unwrap();
    let pool = database.pool().await.unwrap();
    let server = Server::start(&pool, &["--lease-renewal", "200ms"]).await;
    let (mut a, mut b) = server.pair(WIRE).await;
    let mut leaver = server.pad(WIRE, b"leaver").await;
    let mut c = server.client(WIRE).await;
    cluster.kill();
    until("not ready", async || !server.cx.ready.is_ready()).await;
    a.send_payload(b"still here").await.unwrap();
    assert_eq!(&b.next_payload().await.unwrap()[..], b"still here");
    assert!(!c.register_pad(b"c").await.unwrap());
    assert!(leaver.unregister_pad().await.unwrap(), "giving back needs nobody");
    assert!(a.unlink().await.unwrap());
    a.link_to(&mut b, b"b", b"again").await.unwrap();
    cluster.start_again().await.unwrap();
    until("ready again", async || server.cx.ready.is_ready()).await;
    until("registers work again", async || c.register_pad(b"c").await.unwrap()).await;
    until("what was given back is written", async || {
        let rows = "SELECT count(*) FROM peer_linker.pad";
        sqlx::query_scalar::<_, i64>(rows).fetch_one(&pool).await.is_ok_and(|rows| rows == 3)
    })
    .await;
}

/// Clients that leave while they register leave nothing behind.
#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn who_leaves_while_registering_leaves_no_row(pool: PgPool) {
    let server = Server::start(&pool, &[]).await;
    for round in 0..40_u8 {
        let mut client = server.client(WIRE).await;
        let name = [b'n', round % 4];
        client.send_request(3, &name).await.unwrap();
        drop(client);
    }
    until("every pad is gone", async || server.metric("peer_linker_pads", "") == 0.0).await;
    until("every row is gone", async || {
        let rows = "SELECT count(*) FROM peer_linker.pad";
        sqlx::query_scalar::<_, i64>(rows).fetch_one(&pool).await.unwrap() == 0
    })
    .await;
}
