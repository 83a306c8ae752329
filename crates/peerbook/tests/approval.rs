//! Who is let in, how, and how that ends.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Peer, Server};
use serde_json::{Value, json};
use testkit::database::Database;

async fn server() -> (Database, Server) {
    let database = Database::fresh().await.unwrap();
    let server = Server::start(&database.pool().await.unwrap(), &[]).await;
    (database, server)
}

async fn waiting(server: &Server, query: &str) -> Peer {
    let mut peer = server.open(query).await;
    assert_eq!(peer.recv().await["code"], 401);
    peer
}

#[tokio::test]
async fn a_revoked_peer_hears_why_and_its_door_closes() {
    let (_database, server) = server().await;
    let uid = server.user("j@x.org", &["A", "B"]).await;
    let mut a = server.enter("A").await;
    let mut b = server.enter("B").await;
    assert_eq!(a.recv().await["source_fp"], "B");
    server.change_elsewhere(&uid, "verified = false, refused = true", "B").await;
    let (before, close) = b.closed().await;
    assert_eq!(before, [json!({"code": 401, "text": "peer's verification was revoked"})]);
    assert_eq!(u16::from(close.unwrap().code), 1008);
    let update = a.recv().await;
    let gone = json!({"verified": false, "online": false, "name": "b"});
    assert_eq!((&update["peer_update"], &update["source_fp"]), (&gone, &json!("B")));
    let not_found = json!({"code": 400, "text": "Target peer not found: B"});
    assert_eq!(a.ask(&json!({"target": "B", "offer": "o"})).await, not_found);
    // It may ask again, and waits like anybody else.
    let mut again = waiting(&server, "fp=B").await;
    assert_eq!(again.ask(&json!({"target": "A", "offer": "o"})).await["code"], 401);
    a.has_nothing().await;
}

#[tokio::test]
async fn a_removed_user_takes_every_connection_along() {
    let (_database, server) = server().await;
    let uid = server.user("j@x.org", &["A"]).await;
    let mut a = server.enter("A").await;
    sqlx::query("DELETE FROM peerbook.account").execute(&server.pool).await.unwrap();
    sqlx::query("SELECT pg_notify('peerbook_changed', $1)")
        .bind(format!("{} {uid}", i64::MAX))
        .execute(&server.pool)
        .await
        .unwrap();
    assert_eq!(u16::from(a.closed().await.1.unwrap().code), 1008);
}

#[tokio::test]
async fn a_verified_device_approves_and_refuses_without_mail() {
    let (_database, server) = server().await;
    server.user("j@x.org", &["A"]).await;
    let mut a = server.enter("A").await;
    let mut friend = waiting(&server, "fp=F&email=j%40x.org&name=friend&kind=t").await;
    let _stranger = waiting(&server, "fp=S&email=j%40x.org&name=a").await;
    let listed = a.ask(&json!({"command": "list_requests"})).await;
    let requests = listed["requests"].as_array().unwrap();
    assert_eq!(requests.len(), 2);
    assert_eq!((&requests[0]["fp"], &requests[0]["waiting"]), (&json!("F"), &json!(true)));
    assert_eq!(requests[1]["name_clash"], true, "it calls itself as a peer that is there");
    a.send(&json!({"command": "approve", "fp": "F"})).await;
    let told = [a.recv().await, a.recv().await];
    assert!(told.contains(&json!({"approved": "F"})), "{told:?}");
    assert!(told.iter().any(|one| one["source_fp"] == "F"), "{told:?}");
    let welcome = friend.recv().await;
    assert_eq!(welcome["code"], 200);
    assert_eq!(a.ask(&json!({"command": "refuse", "fp": "S"})).await, json!({"refused": "S"}));
    let listed = a.ask(&json!({"command": "list_requests"})).await;
    assert_eq!(listed, json!({"requests": []}));
    // What is approved is not refused this way, and nobody approves who is not verified.
    assert_eq!(a.ask(&json!({"command": "refuse", "fp": "F"})).await["code"], 404);
    let mut other = waiting(&server, "fp=X&email=j%40x.org").await;
    assert_eq!(other.ask(&json!({"command": "approve", "fp": "X"})).await["code"], 401);
}

#[tokio::test]
async fn a_pairing_code_lets_one_peer_in_once() {
    let (_database, server) = server().await;
    server.user("j@x.org", &["A"]).await;
    let mut a = server.enter("A").await;
    // It knows neither address nor id.
    let mut new = waiting(&server, "fp=NEW&name=new").await;
    let shown = new.ask(&json!({"command": "pair"})).await;
    let code = shown["pairing_code"].as_str().unwrap().to_owned();
    assert_eq!(code.len(), 9);
    assert_eq!(shown["expires_in"], 300);
    let wrong = a.ask(&json!({"command": "approve", "code": "2222-2222"})).await;
    assert_eq!(wrong["code"], 404);
    a.send(&json!({"command": "approve", "code": code.to_lowercase()})).await;
    let told = [a.recv().await, a.recv().await];
    assert!(told.contains(&json!({"approved": "NEW"})), "{told:?}");
    assert_eq!(new.recv().await["code"], 200);
    assert_eq!(a.ask(&json!({"command": "approve", "code": code})).await["code"], 404);
}

#[tokio::test]
async fn guessing_codes_is_slowed_down() {
    let (_database, server) = server().await;
    server.user("j@x.org", &["A"]).await;
    let mut a = server.enter("A").await;
    let mut codes = Vec::new();
    for _ in 0..15 {
        codes
            .push(a.ask(&json!({"command": "approve", "code": "2345-6789"})).await["code"].clone());
    }
    assert_eq!(codes[0], 404);
    assert!(codes.contains(&json!(429)), "{codes:?}");
}

#[tokio::test]
async fn presence_counts_connections_and_is_never_stale() {
    let (_database, server) = server().await;
    server.user("j@x.org", &["A", "B"]).await;
    let mut a = server.enter("A").await;
    let first = server.enter("B").await;
    let seen = |update: &Value| update["peer_update"]["online"].as_bool().unwrap();
    assert!(seen(&a.recv().await));
    let second = server.enter("B").await;
    first.close().await;
    a.has_nothing().await;
    second.close().await;
    assert!(!seen(&a.recv().await));
    let mut back = server.enter("B").await;
    assert!(seen(&a.recv().await));
    back.has_nothing().await;
    a.has_nothing().await;
}

#[tokio::test]
async fn apps_store_properties_with_their_peers() {
    let (_database, server) = server().await;
    server.user("j@x.org", &["A"]).await;
    let _new = waiting(&server, "fingerprint=N&email=j%40x.org&name=n&colour=blue").await;
    let mut a = server.enter("A").await;
    let list = a.ask(&json!({"command": "get_list"})).await;
    let find = |list: &Value, fp: &str| {
        list["peers"].as_array().unwrap().iter().find(|one| one["fp"] == fp).unwrap().clone()
    };
    assert_eq!(find(&list, "N")["colour"], "blue");
    let set =
        json!({"command": "set_properties", "properties": {"shell": {"v": 2}, "verified": 0}});
    let list = a.ask(&set).await;
    assert_eq!(find(&list, "A")["shell"]["v"], 2);
    assert_eq!(find(&list, "A")["verified"], true);
    let large = json!({"command": "set_properties", "properties": {"x": "y".repeat(5000)}});
    assert_eq!(a.ask(&large).await["code"], 400);
}
