//! Peers of one user find each other, in both dialects; strangers do not.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::Server;
use serde_json::json;
use sqlx::PgPool;
use testkit::database::Database;

#[tokio::test]
async fn an_unknown_peer_waits_and_is_let_in_when_it_is_approved() {
    let database = Database::fresh().await.unwrap();
    let server = Server::start(&database.pool().await.unwrap(), &[]).await;
    let mut new = server.open("fp=NEW&email=j%40nowhere.org&name=new&kind=webexec").await;
    let told = new.recv().await;
    assert_eq!(told["code"], 401);
    assert_eq!(told["text"], "Unverified peer, please check your inbox to verify");
    for message in [json!({"command": "get_list"}), json!({"target": "NEW", "offer": "o"})] {
        let blocked = json!({"code": 401, "text": "Peer is not verified, blocking request"});
        assert_eq!(new.ask(&message).await, blocked);
    }
    let uid: String = sqlx::query_scalar("SELECT uid FROM peerbook.account")
        .fetch_one(&server.pool)
        .await
        .unwrap();
    server.approve_elsewhere(&uid, "NEW").await;
    let welcome = new.recv().await;
    assert_eq!((&welcome["code"], &welcome["uid"]), (&json!(200), &json!(uid)));
    let list = new.recv().await;
    assert_eq!(list["peers"][0]["fp"], "NEW");
    assert_eq!(list["peers"][0]["online"], true);
    assert_eq!(new.recv().await["peer_update"]["verified"], true);
    let echo = new.ask(&json!({"target": "NEW", "offer": "to myself", "extra": [1]})).await;
    assert_eq!(
        echo,
        json!({"source_fp": "NEW", "source_name": "new", "offer": "to myself", "extra": [1]})
    );
}

#[tokio::test]
async fn clients_of_both_texts_signal_each_other() {
    let database = Database::fresh().await.unwrap();
    let server = Server::start(&database.pool().await.unwrap(), &[]).await;
    server.user("j@nowhere.org", &["A", "B"]).await;
    let mut readme = server.enter("A").await;
    let mut plan = server.enter_plan("B").await;
    assert_eq!(readme.recv().await["source_fp"], "B");
    // By fingerprint and by name, each rendered for its receiver.
    readme.send(&json!({"target": "B", "offer": {"sdp": "s", "type": "offer"}})).await;
    let offer = json!({"source": "a", "fingerprint": "A", "offer": {"sdp": "s", "type": "offer"}});
    assert_eq!(plan.recv().await, offer);
    plan.send(&json!({"target": "a", "fingerprint": "A", "answer": "YW5zd2Vy"})).await;
    let answer = json!({"source_fp": "B", "source_name": "b", "answer": "YW5zd2Vy"});
    assert_eq!(readme.recv().await, answer);
    plan.send(&json!({"target": "a", "candidate": {"candidate": "c"}})).await;
    assert_eq!(readme.recv().await["candidate"]["candidate"], "c");
    let list = plan.ask(&json!({"command": "get_list"})).await;
    assert_eq!(list["list"][0]["fingerprint"], "A");
    assert!(list["list"][0]["resgitration_date"].is_i64(), "{list}");
    let peers = readme.ask(&json!({"command": "get_list"})).await;
    assert_eq!(peers["peers"][1]["fp"], "B");
    assert!(peers["peers"][1]["verified_on"].is_i64() && peers["peers"][1]["last_seen"].is_i64());
}

#[tokio::test]
async fn targets_that_are_not_there_are_named_as_documented() {
    let database = Database::fresh().await.unwrap();
    let server = Server::start(&database.pool().await.unwrap(), &[]).await;
    server.user("one@x.org", &["A", "OFFLINE"]).await;
    server.user("two@x.org", &["FOREIGN"]).await;
    let mut peer = server.enter("A").await;
    let not_found = |fp: &str| json!({"code": 400, "text": format!("Target peer not found: {fp}")});
    for fp in ["GHOST", "OFFLINE"] {
        assert_eq!(peer.ask(&json!({"target": fp, "offer": "o"})).await, not_found(fp));
    }
    let foreign = json!({"code": 401, "text": "Target peer belongs to a different user"});
    assert_eq!(peer.ask(&json!({"target": "FOREIGN", "offer": "o"})).await, foreign);
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_peer_that_answers_no_ping_is_taken_for_gone(pool: PgPool) {
    let server = Server::start(&pool, &["--ping-interval", "1s", "--idle-timeout", "4s"]).await;
    server.user("j@x.org", &["A", "B"]).await;
    let mut a = server.enter("A").await;
    let silent = server.enter("B").await; // a client answers pings only while it reads
    assert_eq!(a.recv().await["peer_update"]["online"], true);
    let update = a.recv().await;
    assert_eq!(
        (&update["source_fp"], &update["peer_update"]["online"]),
        (&"B".into(), &false.into())
    );
    drop(silent);
    // Who answers stays, however long it has nothing to say.
    assert_eq!(a.ask(&json!({"command": "get_list"})).await["peers"][0]["online"], true);
}
