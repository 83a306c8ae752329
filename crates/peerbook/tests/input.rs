//! Input that crashed, filled or fooled the originals.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Server, until};
use serde_json::json;
use testkit::database::Database;

async fn server(settings: &[&str]) -> (Database, Server) {
    let database = Database::fresh().await.unwrap();
    let server = Server::start(&database.pool().await.unwrap(), settings).await;
    (database, server)
}

async fn count(server: &Server, table: &'static str) -> i64 {
    let statement = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM peerbook.{table}"));
    sqlx::query_scalar(statement).fetch_one(&server.pool).await.unwrap()
}

#[tokio::test]
async fn handshakes_are_refused_as_documented() {
    let (_database, server) = server(&[]).await;
    for path in ["/ws", "/ws?fp=", "/ws?email=x%40example.org&name=n"] {
        let refused = server.request("GET", path, "").await;
        assert_eq!(refused, (400, "Peer not found: \n".to_owned()), "{path}");
    }
    // Without the upgrade, this ended the original.
    assert_eq!(server.request("GET", "/ws?fp=x", "").await.0, 426);
    assert_eq!(server.request("GET", "/ws?fp=x&fingerprint=y", "").await.0, 400);
    assert_eq!(server.request("GET", "/ws?fp=a%00b", "").await.0, 400);
    assert_eq!(server.request("GET", "/nope", "").await, (404, "Not found\n".to_owned()));
}

#[tokio::test]
async fn nonsense_ends_its_own_connection_and_nothing_else() {
    let (_database, server) = server(&[]).await;
    server.user("j@x.org", &["A", "B"]).await;
    for text in ["null", "[]", "", "{nope", "\"offer\"", "1", "{} trailing"] {
        let mut peer = server.enter("A").await;
        peer.send_text(text).await;
        assert_eq!(u16::from(peer.closed().await.1.unwrap().code), 1007, "{text}");
    }
    let mut peer = server.enter("B").await;
    for text in [
        r#"{"offer":"x","target":null}"#,
        r#"{"offer":"x","target":1}"#,
        r#"{"offer":"x","target":["y"]}"#,
        r#"{"offer":"x","target":"\ud800"}"#,
        r#"{"command":"approve"}"#,
        r#"{"command":"prove","cert":1,"sig":2}"#,
        r#"{"command":"set_properties","properties":[]}"#,
    ] {
        peer.send_text(text).await;
        assert_eq!(peer.recv().await["code"], 400, "{text}");
    }
    // Of no meaning, as at the originals.
    for text in ["{}", r#"{"offer":"x"}"#, r#"{"command":"dance"}"#, r#"{"command":null}"#] {
        peer.send_text(text).await;
    }
    peer.has_nothing().await;
    let large = json!({"target": "B", "offer": "x".repeat(70_000)});
    peer.send(&large).await;
    assert_eq!(u16::from(peer.closed().await.1.unwrap().code), 1009);
}

#[tokio::test]
async fn verify_answers_as_documented() {
    let (_database, server) = server(&[]).await;
    let text = async |body: &str| server.request("POST", "/verify", body).await;
    for body in ["{nope", "", "[]", "null", r#"{"fp":1,"email":"x@example.org"}"#] {
        assert_eq!(text(body).await, (400, "Bad JSON\n".to_owned()), "{body}");
    }
    assert_eq!(text(r#"{"email":"j@x.org"}"#).await, (400, "Missing fingerprint\n".to_owned()));
    assert_eq!(server.request("GET", "/verify", "").await.0, 405);
    // Neither the existence of a user nor an id is told for a fingerprint alone.
    let unknown = json!({"verified": false, "uid": ""});
    assert_eq!(server.verify(&json!({"fp": "A"})).await, (200, unknown.clone()));
    let (status, first) =
        server.verify(&json!({"fp": "A", "email": "j@x.org", "name": "alpha", "kind": "k"})).await;
    let uid = first["uid"].as_str().unwrap();
    assert_eq!((status, first["verified"].as_bool(), uid.len()), (200, Some(false), 16));
    assert_eq!(server.verify(&json!({"fp": "A"})).await, (200, unknown));
    assert_eq!(server.verify(&json!({"fingerprint": "W", "uid": uid})).await.0, 201);
    assert_eq!(server.verify(&json!({"fp": "W", "uid": uid})).await.0, 200);
    assert_eq!(server.verify(&json!({"fp": "W", "uid": "NOBODY"})).await.0, 404);
    server.approve_elsewhere(uid, "A").await;
    let (status, known) = server.verify(&json!({"fp": "A", "email": "J@X.org"})).await;
    assert_eq!((status, &known["verified"]), (200, &json!(true)));
    let (status, text) = server.verify(&json!({"fp": "A", "email": "other@x.org"})).await;
    assert_eq!(status, 409);
    assert!(!text.to_string().contains("j@x.org") && !text.to_string().contains(uid), "{text}");
    let name: String = sqlx::query_scalar("SELECT name FROM peerbook.peer WHERE fp = 'A'")
        .fetch_one(&server.pool)
        .await
        .unwrap();
    assert_eq!(name, "alpha", "a missing name keeps the old one");
}

#[tokio::test]
async fn thousands_of_unknown_fingerprints_leave_little_behind() {
    let (_database, server) = server(&["--address-http", "off"]).await;
    for n in 0..200 {
        let body = json!({"fp": format!("F{n}"), "email": format!("u{n}@x.org")});
        let (status, _) = server.verify(&body).await;
        assert!(matches!(status, 200 | 429), "{status}");
    }
    assert!(count(&server, "peer").await < 100, "{}", count(&server, "peer").await);
    assert!(count(&server, "account").await < 100);
    assert!(server.metric("peerbook_request_limits_total", "") > 100.0);
    // Without an address nothing is left at all.
    let before = count(&server, "peer").await;
    for n in 0..50 {
        let mut peer = server.open(&format!("fp=ORPHAN{n}")).await;
        assert_eq!(peer.recv().await["code"], 401);
    }
    assert_eq!(count(&server, "peer").await, before);
    until("the lobby empties", async || server.metric("peerbook_waiting_fingerprints", "") == 0.0)
        .await;
}

#[tokio::test]
async fn strangers_cannot_fill_a_users_slots() {
    let (_database, server) = server(&["--address-requests", "1000"]).await;
    let uid = server.user("j@x.org", &["A"]).await;
    for n in 0..20 {
        let body = json!({"fp": format!("S{n}"), "email": "j@x.org", "name": "a"});
        assert_eq!(server.verify(&body).await.0, 200);
    }
    assert_eq!(server.verify(&json!({"fp": "LATE", "email": "j@x.org"})).await.0, 403);
    // The verified have places of their own, and a name somebody else took does not lock them out.
    let mut a = server.enter("A").await;
    a.send(&json!({"command": "approve", "fp": "S3"})).await;
    until("S3 is approved", async || {
        server.verify(&json!({"fp": "S3", "email": "j@x.org"})).await.1["verified"] == true
    })
    .await;
    // Old requests make room for new ones.
    sqlx::query("UPDATE peerbook.peer SET created_at = now() - interval '1 hour' WHERE uid = $1 AND NOT verified")
        .bind(&uid)
        .execute(&server.pool)
        .await
        .unwrap();
    assert_eq!(server.verify(&json!({"fp": "LATE1", "email": "j@x.org"})).await.0, 200);
    assert_eq!(server.verify(&json!({"fp": "LATE2", "email": "j@x.org"})).await.0, 200);
    let waiting: i64 = sqlx::query_scalar("SELECT count(*) FROM peerbook.peer WHERE NOT verified")
        .fetch_one(&server.pool)
        .await
        .unwrap();
    assert_eq!(waiting, 20);
}

#[tokio::test]
async fn a_user_has_twenty_verified_peers_and_no_more() {
    let (_database, server) = server(&["--max-peers-per-user", "2"]).await;
    server.user("j@x.org", &["A", "B"]).await;
    let mut a = server.enter("A").await;
    assert_eq!(server.verify(&json!({"fp": "C", "email": "j@x.org"})).await.0, 200);
    let full = a.ask(&json!({"command": "approve", "fp": "C"})).await;
    assert_eq!(full, json!({"code": 403, "text": "User has too many peers"}));
}

#[tokio::test]
async fn a_flood_is_told_to_stop_and_then_stopped() {
    let (_database, server) = server(&["--peer-frames", "1:5"]).await;
    server.user("j@x.org", &["A"]).await;
    let mut a = server.enter("A").await;
    for _ in 0..8 {
        a.send(&json!({"command": "get_list"})).await;
    }
    let mut codes = Vec::new();
    for _ in 0..8 {
        codes.push(a.recv().await["code"].clone());
    }
    assert!(codes[..5].iter().all(|code| code.is_null()), "{codes:?}");
    assert!(codes.contains(&json!(429)), "{codes:?}");
    for _ in 0..1_100 {
        a.send_text("{}").await;
    }
    assert_eq!(u16::from(a.closed().await.1.unwrap().code), 1008);
}

#[tokio::test]
async fn commands_that_reach_the_database_are_limited() {
    let (_database, server) = server(&[]).await;
    server.user("j@x.org", &["A"]).await;
    let mut a = server.enter("A").await;
    let mut limited = false;
    for n in 0..300 {
        let answer = a.ask(&json!({"target": format!("GHOST{n}"), "offer": "o"})).await;
        limited |= answer["code"] == 429;
    }
    assert!(limited);
    assert!(a.ask(&json!({"command": "get_list"})).await["peers"].is_array());
}
