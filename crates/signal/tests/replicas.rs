//! Several replicas on one database, over each backend of the bus.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::Duration;

use common::{Server, error, peer, presence, until};
use futures_util::future::join_all;
use serde_json::json;
use sqlx::PgPool;
use testkit::{keys::Peer, nats::Nats, signal_client::SignalClient};

/// Replicas of one service, and what carries their messages.
struct Fleet {
    servers: Vec<Server>,
    pool: PgPool,
    nats: Option<Nats>,
}

impl Fleet {
    async fn new(pool: PgPool, nats: Option<Nats>, count: usize) -> Self {
        let mut fleet = Self { servers: Vec::new(), pool, nats };
        for _ in 0..count {
            fleet.grow().await;
        }
        fleet
    }

    async fn grow(&mut self) -> &Server {
        let url = self.nats.as_ref().map(Nats::url);
        let settings = url.iter().flat_map(|url| ["--bus-url", url]).collect::<Vec<_>>();
        let server = Server::start(&self.pool, &settings).await;
        until("the bus is heard", async || server.metric("bus_connected", "") == 1.0).await;
        // The table has been read since.
        until("no resync is under way", async || server.metric("bus_resyncs_total", "") >= 1.0)
            .await;
        self.servers.push(server);
        self.servers.last().unwrap()
    }

    fn at(&self, replica: usize) -> &Server {
        &self.servers[replica]
    }
}

macro_rules! over_each_backend {
    ($($name:ident => $check:ident($count:literal);)*) => {
        mod postgres {
            $(#[sqlx::test(migrator = "pg::MIGRATOR")]
            async fn $name(pool: sqlx::PgPool) {
                super::$check(super::Fleet::new(pool, None, $count).await).await;
            })*
        }
        mod nats {
            $(#[sqlx::test(migrator = "pg::MIGRATOR")]
            async fn $name(pool: sqlx::PgPool) {
                let nats = testkit::nats::Nats::start().await.unwrap();
                super::$check(super::Fleet::new(pool, Some(nats), $count).await).await;
            })*
        }
    };
}

over_each_backend! {
    signals_cross_in_order_and_unknown_peers_are_named => signals(2);
    a_takeover_reaches_the_old_socket_wherever_it_is => takeover(2);
    exactly_one_session_survives_a_race => race(3);
    presence_and_snapshots_are_those_of_all_replicas => presence_everywhere(2);
    a_token_is_good_at_every_replica => resume(3);
    a_drained_replicas_peers_find_their_signals_elsewhere => drain(2);
    a_signal_for_a_peer_that_just_left_is_answered => just_left(2);
    single_peers_can_be_watched_across_replicas => watching(2);
    who_is_acknowledged_anywhere_is_known_everywhere => known_at_once(2);
}

/// Waits until `client` knows that `peer` is online.
async fn sees(client: &mut SignalClient, peer: &Peer) {
    until(&format!("{} is online", peer.id), async || {
        client.peers().await.unwrap().contains(&peer.id)
    })
    .await;
}

async fn signals(fleet: Fleet) {
    let (alice, bob) = (peer("alice"), peer("bob"));
    let mut a = fleet.at(0).register(&alice).await;
    let mut b = fleet.at(1).register(&bob).await;
    sees(&mut a, &bob).await;
    for n in 0..300 {
        a.signal(&alice, "bob", &json!(n)).await.unwrap();
    }
    for n in 0..300 {
        let frame = b.next_of("signal").await.unwrap();
        assert_eq!(frame["payload"]["data"], n);
        assert_eq!(frame["payload"]["from"], "alice");
    }
    b.signal(&bob, "alice", &json!("é\u{1F600}".repeat(60_000))).await.unwrap();
    let frame = a.next_of("signal").await.unwrap();
    assert_eq!(frame["payload"]["data"].as_str().unwrap().chars().count(), 120_000);
    let id = a.signal(&alice, "nobody", &json!(1)).await.unwrap();
    let frame = a.next_of("error").await.unwrap();
    assert_eq!((error(&frame).0, &frame["id"]), ("PEER_NOT_FOUND", &json!(id)));
    // Between peers of one replica nothing comes near the bus.
    let sent = fleet.at(0).metric("bus_sent_total", "");
    let carol = peer("carol");
    let mut c = fleet.at(0).register(&carol).await;
    until("carol is announced", async || fleet.at(0).metric("bus_sent_total", "") > sent).await;
    for n in 0..50 {
        a.signal(&alice, "carol", &json!(n)).await.unwrap();
        assert_eq!(c.next_of("signal").await.unwrap()["payload"]["data"], n);
    }
    assert_eq!(fleet.at(0).metric("bus_sent_total", ""), sent + 1.0);
}

async fn takeover(fleet: Fleet) {
    let (alice, bob) = (peer("alice"), peer("bob"));
    let mut old = fleet.at(0).register(&alice).await;
    let mut b = fleet.at(0).register(&bob).await;
    let mut new = fleet.at(1).register(&alice).await;
    assert_eq!(error(&old.next_of("error").await.unwrap()).0, "SESSION_REPLACED");
    assert_eq!(old.closed().await.unwrap().0, 4001);
    b.signal(&bob, "alice", &json!("to the new one")).await.unwrap();
    assert_eq!(new.next_of("signal").await.unwrap()["payload"]["data"], "to the new one");
    assert_eq!(b.peers().await.unwrap(), ["alice", "bob"], "alice keeps her place");
    assert_eq!(fleet.at(0).metric("signal_sessions_replaced_total", ""), 1.0);
}

async fn race(fleet: Fleet) {
    let watcher = peer("watcher");
    let mut watch = fleet.at(2).register(&watcher).await;
    for round in 0..12 {
        let alice = peer(&format!("alice{round}"));
        let mut clients =
            [fleet.at(0).connect().await, fleet.at(1).connect().await, fleet.at(2).connect().await];
        join_all(clients.iter_mut().map(|client| client.register(&alice))).await;
        let mut living = Vec::new();
        until("two of three are told", async || {
            living.clear();
            for (place, client) in clients.iter_mut().enumerate() {
                let replaced = client
                    .wait_for_within(Duration::from_millis(20), |frame| {
                        frame["payload"]["code"] == "SESSION_REPLACED"
                    })
                    .await;
                if replaced.is_err() && client.peers().await.is_ok() {
                    living.push(place);
                }
            }
            living.len() <= 1
        })
        .await;
        assert_eq!(living.len(), 1, "round {round}");
        sees(&mut watch, &alice).await;
        until("signals reach the survivor", async || {
            watch.signal(&watcher, &alice.id, &json!(round)).await.unwrap();
            let heard = clients[living[0]]
                .wait_for_within(Duration::from_millis(500), |frame| frame["type"] == "signal")
                .await;
            heard.is_ok()
        })
        .await;
        let holders: Vec<i64> =
            sqlx::query_scalar("SELECT count(*) FROM signal.session WHERE peer = $1")
                .bind(alice.id.as_bytes())
                .fetch_all(&fleet.pool)
                .await
                .unwrap();
        assert_eq!(holders, [1]);
    }
}

async fn presence_everywhere(mut fleet: Fleet) {
    let (alice, bob) = (peer("alice"), peer("bob"));
    let mut a = fleet.at(0).register(&alice).await;
    let b = fleet.at(1).register(&bob).await;
    assert_eq!(presence(&a.next_of("presence_update").await.unwrap()), "bob online");
    assert_eq!(a.peers().await.unwrap(), ["alice", "bob"]);
    // A replica that starts later knows everybody at once.
    let mut late = fleet.grow().await.register(&peer("late")).await;
    assert_eq!(late.peers().await.unwrap(), ["alice", "bob", "late"]);
    assert_eq!(presence(&a.next_of("presence_update").await.unwrap()), "late online");
    b.close().await.unwrap();
    for client in [&mut a, &mut late] {
        let gone = client.next_of("presence_update").await.unwrap();
        assert_eq!(presence(&gone), "bob offline");
        let gone_ms = gone["payload"]["lastSeenMs"].as_i64().unwrap();
        let seen = client.send_frame("peers_request", &json!({})).await.map(drop);
        seen.unwrap();
        let frame = client.next_of("peers").await.unwrap();
        assert_eq!(frame["payload"]["lastSeenMsByPeer"]["bob"], gone_ms);
        assert_eq!(frame["payload"]["peers"], json!(["alice", "late"]));
    }
    for server in &fleet.servers {
        until("siblings are known", async || server.metric("signal_siblings", "") == 2.0).await;
    }
}

async fn resume(fleet: Fleet) {
    let (alice, bob) = (peer("alice"), peer("bob"));
    let mut first = fleet.at(0).connect().await;
    let ack = first.register_with(&alice, &json!({"resume": true})).await.unwrap();
    let token = ack["payload"]["sessionId"].as_str().unwrap().to_owned();
    let mut b = fleet.at(2).register(&bob).await;
    sees(&mut b, &alice).await;
    b.signal(&bob, "alice", &json!(0)).await.unwrap();
    let heard = first.next_of("signal").await.unwrap()["id"].clone();
    drop(first);
    until("alice is away", async || !b.peers().await.unwrap().contains(&alice.id)).await;
    for n in 1..=3 {
        b.signal(&bob, "alice", &json!(n)).await.unwrap();
    }
    // At another replica than the one that kept them.
    let mut second = fleet.at(1).connect().await;
    let more = json!({"resume": token, "resumeAfter": heard});
    let ack = second.register_with(&alice, &more).await.unwrap();
    assert_eq!(ack["payload"]["resumed"], true);
    let token = ack["payload"]["sessionId"].as_str().unwrap().to_owned();
    for n in 1..=3 {
        assert_eq!(second.next_of("signal").await.unwrap()["payload"]["data"], n);
    }
    // Once more, while the connection still stands: as after a change of networks.
    sees(&mut b, &alice).await;
    b.signal(&bob, "alice", &json!(4)).await.unwrap();
    let heard = second.next_of("signal").await.unwrap()["id"].clone();
    let mut third = fleet.at(2).connect().await;
    let more = json!({"resume": token, "resumeAfter": heard});
    let ack = third.register_with(&alice, &more).await.unwrap();
    assert_eq!(ack["payload"]["resumed"], true);
    assert_eq!(second.closed().await.unwrap().0, 4001);
    b.signal(&bob, "alice", &json!(5)).await.unwrap();
    assert_eq!(third.next_of("signal").await.unwrap()["payload"]["data"], 5);
    // A token is good once.
    let mut fourth = fleet.at(0).connect().await;
    let ack = fourth.register_with(&alice, &json!({"resume": token})).await.unwrap();
    assert_eq!(ack["payload"]["resumed"], false);
}

async fn drain(fleet: Fleet) {
    let (alice, bob) = (peer("alice"), peer("bob"));
    let mut first = fleet.at(0).connect().await;
    let ack = first.register_with(&alice, &json!({"resume": true})).await.unwrap();
    let token = ack["payload"]["sessionId"].as_str().unwrap().to_owned();
    let mut b = fleet.at(1).register(&bob).await;
    sees(&mut b, &alice).await;
    until("siblings are known", async || fleet.at(0).metric("signal_siblings", "") == 1.0).await;
    fleet.at(0).cx.stop.draining().cancel();
    assert_eq!(first.closed().await.unwrap().0, 1012);
    until("alice is away", async || !b.peers().await.unwrap().contains(&alice.id)).await;
    b.signal(&bob, "alice", &json!("meanwhile")).await.unwrap();
    let mut second = fleet.at(1).connect().await;
    let ack = second.register_with(&alice, &json!({"resume": token})).await.unwrap();
    assert_eq!(ack["payload"]["resumed"], true);
    assert_eq!(second.next_of("signal").await.unwrap()["payload"]["data"], "meanwhile");
    assert_eq!(fleet.at(1).metric("signal_recovery_seconds", ""), 1.0);
    let nodes = "SELECT count(*) FROM signal.node";
    until("the drained replica has left", async || {
        sqlx::query_scalar::<_, i64>(nodes).fetch_one(&fleet.pool).await.unwrap() == 1
    })
    .await;
}

async fn just_left(fleet: Fleet) {
    let (alice, bob) = (peer("alice"), peer("bob"));
    let mut a = fleet.at(0).register(&alice).await;
    let b = fleet.at(1).register(&bob).await;
    sees(&mut a, &bob).await;
    b.close().await.unwrap();
    // Most likely before the other replica has told of it.
    let id = a.signal(&alice, "bob", &json!(1)).await.unwrap();
    let frame = a.wait_for(|frame| frame["id"] == id.as_str()).await.unwrap();
    assert_eq!(error(&frame), ("PEER_NOT_FOUND", "Peer bob not connected"));
}

/// Nothing here waits for presence: an ack at one replica is all the others need.
async fn known_at_once(fleet: Fleet) {
    let alice = peer("alice");
    let mut a = fleet.at(0).register(&alice).await;
    let mut others = Vec::new();
    for round in 0..30 {
        let bob = peer(&format!("bob{round}"));
        let mut b = fleet.at(1).register(&bob).await;
        if round % 3 == 0 {
            assert!(a.peers().await.unwrap().contains(&bob.id), "round {round}");
        } else if round % 3 == 1 {
            a.send_frame("presence_subscribe", &json!({"peerIds": [bob.id]})).await.unwrap();
            let now = a.next_of("presence_snapshot").await.unwrap();
            assert_eq!(now["payload"]["peers"], json!([bob.id]), "round {round}");
        }
        a.signal(&alice, &bob.id, &json!(round)).await.unwrap();
        let signal = b.next_of("signal").await.unwrap();
        assert_eq!(signal["payload"]["data"], round);
        // Known before it asked, so no event about it comes later.
        let carol = peer(&format!("carol{round}"));
        let mut c = fleet.at(0).register(&carol).await;
        let late = c.frames_within(Duration::from_millis(5)).await;
        let of_bob = |frame: &serde_json::Value| frame["payload"]["peerId"] == bob.id.as_str();
        assert!(!late.iter().any(of_bob), "round {round}: {late:?}");
        others.extend([b, c]);
    }
    assert!(fleet.at(0).metric("signal_looks_total", "") >= 30.0);
    let refused = fleet.at(0).metric("signal_refused_total", "code=\"PEER_NOT_FOUND\"");
    assert_eq!(refused, 0.0);
}

async fn watching(fleet: Fleet) {
    let (alice, bob) = (peer("alice"), peer("bob"));
    let mut a = fleet.at(0).register(&alice).await;
    let b = fleet.at(1).register(&bob).await;
    sees(&mut a, &bob).await;
    a.send_frame("presence_subscribe", &json!({"peerIds": ["bob", "eve"]})).await.unwrap();
    let now = a.next_of("presence_snapshot").await.unwrap();
    assert_eq!(now["payload"]["peers"], json!(["bob"]));
    let _carol = fleet.at(1).register(&peer("carol")).await;
    b.close().await.unwrap();
    let gone = a.wait_for(|frame| frame["payload"]["status"] == "offline").await.unwrap();
    assert_eq!(presence(&gone), "bob offline");
    let frames = a.frames_within(Duration::from_millis(50)).await;
    let carol = |frame: &serde_json::Value| frame["payload"]["peerId"] == "carol";
    let later = frames.iter().filter(|frame| carol(frame)).count();
    assert_eq!(later, 0, "not asked for");
}
