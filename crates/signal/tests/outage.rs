//! Postgres away, the process killed, the process asked to leave.

mod common;

use common::{Server, peer, refused, until};
use serde_json::json;
use testkit::{
    cluster::Cluster,
    database::Database,
    process::Service,
    signal_client::{SignalClient, register_payload},
    time::now_ms,
};

#[tokio::test]
async fn without_postgres_sockets_stay_signals_flow_and_registers_wait() {
    let mut cluster = Cluster::start().await.unwrap();
    let database = Database::within(cluster.options()).await.unwrap();
    let pool = database.pool().await.unwrap();
    let server = Server::start(&pool, &[]).await;
    let (alice, bob) = (peer("alice"), peer("bob"));
    let mut a = server.register(&alice).await;
    let mut b = server.register(&bob).await;
    let leaver = server.register(&peer("leaver")).await;
    cluster.kill();
    until("not ready", async || !server.cx.ready.is_ready()).await;
    drop(leaver);
    a.wait_for(|frame| frame["payload"]["status"] == "offline").await.unwrap();
    a.signal(&alice, "bob", &json!("still here")).await.unwrap();
    assert_eq!(b.next_of("signal").await.unwrap()["payload"]["data"], "still here");
    let mut c = server.connect().await;
    let carol = register_payload(&peer("carol"), now_ms(), &uuid::Uuid::new_v4().to_string());
    let answer = refused(&mut c, "register", &carol).await;
    assert_eq!(answer, ("UNAVAILABLE".into(), "storage unavailable, retry".into()));
    cluster.start_again().await.unwrap();
    until("ready again", async || server.cx.ready.is_ready()).await;
    c.register(&peer("carol")).await.unwrap();
    until("the leave is recorded", async || {
        let left = "SELECT count(*) FROM signal.last_seen WHERE peer = 'leaver'
            AND NOT EXISTS (SELECT FROM signal.session WHERE peer = 'leaver')";
        sqlx::query_scalar::<_, i64>(left).fetch_one(&pool).await.is_ok_and(|count| count == 1)
    })
    .await;
}

#[tokio::test]
async fn a_killed_process_leaves_nothing_its_successor_does_not_put_right() {
    let database = Database::fresh().await.unwrap();
    let mut service = Service::named("signal").database(&database.url()).start().await.unwrap();
    let (alice, bob) = (peer("alice"), peer("bob"));
    let proof = register_payload(&alice, now_ms(), &uuid::Uuid::new_v4().to_string());
    let mut a = SignalClient::plain(service.address()).await.unwrap();
    a.send_frame("register", &proof).await.unwrap();
    a.next_of("register_ack").await.unwrap();
    service.kill();
    service.start_again().await.unwrap();
    let mut a = SignalClient::plain(service.address()).await.unwrap();
    let (code, message) = refused(&mut a, "register", &proof).await;
    assert_eq!((&*code, &*message), ("INVALID_REGISTER_AUTH", "nonce already used"), "no replay");
    let mut b = SignalClient::registered(service.address(), &bob).await.unwrap();
    b.send_frame("peers_request", &json!({})).await.unwrap();
    let frame = b.next_of("peers").await.unwrap();
    assert_eq!(frame["payload"]["peers"], json!(["bob"]));
    assert!(frame["payload"]["lastSeenMsByPeer"]["alice"].is_i64(), "{frame}");
    a.register(&alice).await.unwrap();
    assert_eq!(service.metric("signal_recovery_seconds_count").await.unwrap(), 1.0);
}

#[tokio::test]
async fn a_drain_tells_sockets_to_reconnect_and_records_who_was_here() {
    let database = Database::fresh().await.unwrap();
    let pool = database.pool().await.unwrap();
    let mut service = Service::named("signal").database(&database.url()).start().await.unwrap();
    let mut a = SignalClient::registered(service.address(), &peer("alice")).await.unwrap();
    let (status, closed) = tokio::join!(service.terminate(), async {
        let closed = a.closed().await;
        drop(a);
        closed
    });
    assert_eq!(closed.unwrap().0, 1012);
    assert_eq!(status.unwrap().code(), Some(0));
    let rows = "SELECT (SELECT count(*) FROM signal.node), (SELECT count(*) FROM signal.session),
        (SELECT count(*) FROM signal.last_seen WHERE peer = 'alice')";
    let rows: (i64, i64, i64) = sqlx::query_as(rows).fetch_one(&pool).await.unwrap();
    assert_eq!(rows, (0, 0, 1));
}

#[tokio::test]
async fn a_process_taken_for_dead_puts_its_sessions_back() {
    let database = Database::fresh().await.unwrap();
    let pool = database.pool().await.unwrap();
    let server = Server::start(&pool, &["--lease-renewal", "100ms"]).await;
    let mut a = server.register(&peer("alice")).await;
    sqlx::query("DELETE FROM signal.session").execute(&pool).await.unwrap();
    sqlx::query("DELETE FROM signal.node").execute(&pool).await.unwrap();
    until("the session is back", async || {
        let count = "SELECT count(*) FROM signal.session JOIN signal.node USING (node)";
        sqlx::query_scalar::<_, i64>(count).fetch_one(&pool).await.unwrap() == 1
    })
    .await;
    assert_eq!(a.peers().await.unwrap(), ["alice"]);
    assert!(server.metric("signal_leases_lost_total", "") >= 1.0);
}
