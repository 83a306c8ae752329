//! Postgres away, several replicas, processes killed or asked to leave.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Server, client, listed, until};
use testkit::{cluster::Cluster, database::Database, pad_client::Generation, process::Service};

#[tokio::test]
async fn without_postgres_requests_go_on_and_registers_are_refused() {
    let mut cluster = Cluster::start().await.unwrap();
    let database = Database::within(cluster.options()).await.unwrap();
    let pool = database.pool().await.unwrap();
    let server = Server::start(&pool, &[]).await;
    for generation in Generation::BOTH {
        let mut owner = server.client(generation).await;
        let mut guest = server.client(generation).await;
        assert!(owner.register_channel(b"room").await.unwrap());
        cluster.kill();
        until("not ready", async || !server.cx.ready.is_ready()).await;
        assert!(!owner.register_channel(b"hall").await.unwrap());
        assert_eq!(listed(&mut guest).await, ["room"]);
        let id = guest.send_pad_request(b"room").await.unwrap();
        let request = owner.next_pad_request().await.unwrap();
        assert!(owner.answer_pad_request(&request, Some(b"pad")).await.unwrap());
        assert_eq!(guest.pad(id).await.unwrap().unwrap(), "pad");
        assert!(owner.unregister_channel(b"room").await.unwrap());
        cluster.start_again().await.unwrap();
        until("ready again", async || server.cx.ready.is_ready()).await;
        assert!(owner.register_channel(b"hall").await.unwrap());
        drop((owner, guest));
        until("the rows are given back", async || rows(&pool).await == Some(0)).await;
    }
}

async fn rows(pool: &sqlx::PgPool) -> Option<i64> {
    sqlx::query_scalar("SELECT count(*) FROM channel_hub.channel").fetch_one(pool).await.ok()
}

#[tokio::test]
async fn replicas_never_give_out_one_name_twice() {
    let database = Database::fresh().await.unwrap();
    let pool = database.pool().await.unwrap();
    let one = Server::start(&pool, &["--instance", "one"]).await;
    let other = Server::start(&pool, &["--instance", "other"]).await;
    for generation in Generation::BOTH {
        let mut here = one.client(generation).await;
        let mut there = other.client(generation).await;
        assert!(here.register_channel(b"room").await.unwrap());
        assert!(!there.register_channel(b"room").await.unwrap());
        assert!(here.unregister_channel(b"room").await.unwrap());
        until("the name is free", async || there.register_channel(b"room").await.unwrap()).await;
        assert!(!here.register_channel(b"room").await.unwrap());
        drop(there);
        until("the name is free", async || here.register_channel(b"room").await.unwrap()).await;
    }
}

#[tokio::test]
async fn both_at_once_and_one_gets_the_name() {
    let database = Database::fresh().await.unwrap();
    let pool = database.pool().await.unwrap();
    let one = Server::start(&pool, &["--instance", "one"]).await;
    let other = Server::start(&pool, &["--instance", "other"]).await;
    let mut here = one.client(Generation::Encrypted).await;
    let mut there = other.client(Generation::Encrypted).await;
    for round in 0..20_u8 {
        let name = [b'n', round];
        let (a, b) = tokio::join!(here.register_channel(&name), there.register_channel(&name));
        assert!(a.unwrap() != b.unwrap(), "round {round}");
    }
}

#[tokio::test]
async fn a_killed_process_holds_its_names_until_it_is_back_or_expired() {
    let database = Database::fresh().await.unwrap();
    let lease = |name| {
        let service = Service::named("channel-hub").database(&database.url());
        service.set("INSTANCE", name).set("LEASE_RENEWAL", "100ms").set("LEASE_EXPIRY", "3s")
    };
    let mut killed = lease("killed").start().await.unwrap();
    let other = lease("other").start().await.unwrap();
    let generation = Generation::WebSocket;
    let mut owner = client(generation, killed.address()).await;
    assert!(owner.register_channel(b"room").await.unwrap());
    killed.kill();
    let mut heir = client(generation, other.address()).await;
    until("the name is free", async || heir.register_channel(b"room").await.unwrap()).await;
    assert!(heir.register_channel(b"hall").await.unwrap());
    killed.start_again().await.unwrap();
    let mut owner = client(generation, killed.address()).await;
    assert!(!owner.register_channel(b"room").await.unwrap());
    assert!(owner.register_channel(b"attic").await.unwrap());
    killed.kill();
    killed.start_again().await.unwrap();
    let mut owner = client(generation, killed.address()).await;
    assert!(owner.register_channel(b"attic").await.unwrap(), "its own restart frees it at once");
}

#[tokio::test]
async fn a_process_taken_for_dead_puts_its_channels_back_and_cuts_off_who_lost_one() {
    let database = Database::fresh().await.unwrap();
    let pool = database.pool().await.unwrap();
    let server = Server::start(&pool, &["--lease-renewal", "100ms"]).await;
    let mut lucky = server.client(Generation::Encrypted).await;
    let mut unlucky = server.client(Generation::WebSocket).await;
    let mut guest = server.client(Generation::WebSocket).await;
    assert!(lucky.register_channel(b"mine").await.unwrap());
    assert!(unlucky.register_channel(b"lost").await.unwrap());
    let asked = guest.send_pad_request(b"lost").await.unwrap();
    unlucky.next_pad_request().await.unwrap();
    // What another process would have done: swept this one, and taken one of its names.
    let statements = "DELETE FROM channel_hub.node;
        DELETE FROM channel_hub.channel WHERE digest <> sha256('\\x006c6f7374');
        INSERT INTO channel_hub.node (node, instance, renewed_at)
            VALUES ('00000000-0000-4000-8000-000000000001', 'thief', 'infinity');
        UPDATE channel_hub.channel SET node = '00000000-0000-4000-8000-000000000001'";
    sqlx::raw_sql(statements).execute(&pool).await.unwrap(); // one transaction
    assert_eq!(unlucky.closed().await.unwrap(), Some(1012));
    assert_eq!(guest.pad(asked).await.unwrap(), None);
    until("the other is back", async || {
        let own = "SELECT count(*) FROM channel_hub.channel JOIN channel_hub.node USING (node)
            WHERE instance <> 'thief'";
        sqlx::query_scalar::<_, i64>(own).fetch_one(&pool).await.unwrap() == 1
    })
    .await;
    assert_eq!(listed(&mut lucky).await, ["mine"]);
    assert!(listed(&mut guest).await.is_empty());
    assert_eq!(server.metric("channel_hub_channels_lost_total", ""), 1.0);
    assert!(server.metric("channel_hub_leases_lost_total", "") >= 1.0);
}

#[tokio::test]
async fn a_drain_ends_connections_and_gives_everything_back() {
    let database = Database::fresh().await.unwrap();
    let pool = database.pool().await.unwrap();
    let mut service =
        Service::named("channel-hub").database(&database.url()).start().await.unwrap();
    let mut a = client(Generation::WebSocket, service.address()).await;
    let mut b = client(Generation::Encrypted, service.address()).await;
    assert!(a.register_channel(b"room").await.unwrap());
    assert!(b.register_channel(b"room").await.unwrap());
    let (status, code, _) = tokio::join!(service.terminate(), a.closed(), b.closed());
    assert_eq!(code.unwrap(), Some(1012));
    assert_eq!(status.unwrap().code(), Some(0));
    let left = "SELECT (SELECT count(*) FROM channel_hub.node), (SELECT count(*) FROM channel_hub.channel)";
    let left: (i64, i64) = sqlx::query_as(left).fetch_one(&pool).await.unwrap();
    assert_eq!(left, (0, 0));
}
