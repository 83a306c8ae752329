//! TURN credentials: who gets them, and under whose name.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use bytes::Bytes;
use common::Server;
use http::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use testkit::http_client::HttpClient;

const TURN: [&str; 4] = ["--turn-secret", "a secret of this test", "--turn-urls", "turn:t.example"];

/// Status and, when there is one, the name in the first credential.
async fn asked(server: &Server, path: &str, bearer: Option<&str>) -> (u16, Option<String>) {
    let value = bearer.map(|token| format!("Bearer {token}"));
    let headers: Vec<_> = value.iter().map(|value| ("authorization", value.as_str())).collect();
    let http = HttpClient::plain(server.address);
    let answer = http.send(Method::POST, path, &headers, Bytes::new()).await.unwrap();
    let servers = answer.json().unwrap_or(Value::Null);
    let name = servers[0]["username"].as_str().and_then(|name| name.split_once(':'));
    (answer.status, name.map(|(_, user)| user.to_owned()))
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn credentials_are_for_who_holds_the_secret_of_an_approval(pool: PgPool) {
    let server = Server::start(&pool, &TURN).await;
    let uid = server.user("j@x.org", &["A"]).await;
    let mut a = server.enter("A").await;
    let mut new = server.open("fp=N&email=j%40x.org").await;
    assert_eq!(new.recv().await["code"], 401);
    a.send(&json!({"command": "approve", "fp": "N"})).await;
    let token = new.recv().await["token"].as_str().unwrap().to_owned();
    for path in ["/iceservers", "/turn"] {
        assert_eq!(asked(&server, path, None).await, (401, None));
        assert_eq!(asked(&server, &format!("{path}?fp=N"), None).await, (401, None));
        assert_eq!(asked(&server, &format!("{path}?fp=N"), Some("guess")).await, (401, None));
        assert_eq!(asked(&server, &format!("{path}?fp=A"), Some(&token)).await, (401, None));
        let held = asked(&server, &format!("{path}?fp=N"), Some(&token)).await;
        assert_eq!(held, (200, Some(uid.clone())));
    }
    server.change_elsewhere(&uid, "verified = false", "N").await;
    assert_eq!(asked(&server, "/turn?fp=N", Some(&token)).await, (401, None), "revoked");
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn an_operator_may_open_them_to_everybody(pool: PgPool) {
    let server = Server::start(&pool, &[&TURN[..], &["--turn-open"]].concat()).await;
    assert_eq!(asked(&server, "/iceservers", None).await, (200, Some("pb".to_owned())));
    assert_eq!(asked(&server, "/turn", Some("anything")).await, (200, Some("pb".to_owned())));
}
