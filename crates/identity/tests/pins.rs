//! Pins on a real Postgres, as two processes see them.

use std::ops::Deref;
use std::time::{Duration, Instant};

use identity::{CHANNEL, Error, Key, Pins, Policy, Proof};
use pg::Wakeups;
use service::Context;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

const ALICE: &[u8] = b"alice";

fn key(number: u8) -> Key {
    Key::from([number; 32])
}

/// A process of its own; used as its pins.
struct Process {
    pins: Pins,
    pool: PgPool,
    cx: Context,
}

impl Process {
    async fn start(pool: &PgPool, role: &'static str, policy: Policy) -> Self {
        let options = (*pool.connect_options()).clone().options([("role", role)]);
        let pool = PgPoolOptions::new().max_connections(2).connect_with(options).await;
        let pool = pool.expect("a superuser may take any role");
        let cx = Context::for_tests();
        let spawn = |name, task| cx.spawn(name, task);
        let wakeups = Wakeups::start(&pool, &[CHANNEL], cx.stop.draining().clone(), spawn);
        let mut ready = wakeups.subscribe();
        let pins = Pins::new(pool.clone(), policy, &cx, &wakeups);
        assert_eq!(ready.next().await, Some(pg::Wake::Resync)); // it listens
        Self { pins, pool, cx }
    }

    /// Leaves no connection behind: the database is dropped after the test.
    async fn stop(self) {
        self.cx.stop.draining().cancel();
        self.pool.close().await;
    }
}

impl Deref for Process {
    type Target = Pins;

    fn deref(&self) -> &Pins {
        &self.pins
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn the_first_key_owns_a_peer_in_every_service(pool: PgPool) {
    let signal = Process::start(&pool, "switchyard_signal", Policy::Pin).await;
    let relay = Process::start(&pool, "switchyard_relay", Policy::Strict).await;
    assert_eq!(relay.owner(ALICE).await.expect("it answers"), None);
    assert!(signal.claim(ALICE, &key(1), Proof::Register).await.expect("it answers"));
    assert_eq!(relay.owner(ALICE).await.expect("it answers"), Some(key(1)));
    assert!(!relay.claim(ALICE, &key(2), Proof::Store).await.expect("it answers"));
    assert!(relay.claim(ALICE, &key(1), Proof::Store).await.expect("it answers"));
    assert!(signal.claim(ALICE, &key(1), Proof::Register).await.expect("it answers"));
    signal.stop().await;
    relay.stop().await;
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn concurrent_claims_of_one_peer_have_one_winner(pool: PgPool) {
    let one = Process::start(&pool, "switchyard_signal", Policy::Pin).await;
    let two = Process::start(&pool, "switchyard_relay", Policy::Pin).await;
    for number in 0..20_u8 {
        let peer = [number, 1];
        let keys = [key(1), key(2), key(3), key(4)];
        let claims = tokio::join!(
            one.claim(&peer, &keys[0], Proof::Register),
            one.claim(&peer, &keys[1], Proof::Register),
            two.claim(&peer, &keys[2], Proof::Store),
            two.claim(&peer, &keys[3], Proof::Store),
        );
        let claims = [claims.0, claims.1, claims.2, claims.3];
        let granted: Vec<bool> = claims.into_iter().map(|claim| claim.expect("answers")).collect();
        assert_eq!(granted.iter().filter(|granted| **granted).count(), 1, "{granted:?}");
        let winner = granted.iter().position(|granted| *granted).expect("just counted");
        assert_eq!(two.owner(&peer).await.expect("it answers"), Some(keys[winner]));
    }
    one.stop().await;
    two.stop().await;
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_release_reaches_every_cache_and_the_next_key_owns_the_peer(pool: PgPool) {
    let signal = Process::start(&pool, "switchyard_signal", Policy::Pin).await;
    let relay = Process::start(&pool, "switchyard_relay", Policy::Pin).await;
    assert!(signal.claim(ALICE, &key(1), Proof::Register).await.expect("it answers"));
    assert_eq!(relay.owner(ALICE).await.expect("it answers"), Some(key(1)));
    assert!(identity::release(&pool, ALICE).await.expect("the owner may"));
    assert!(!identity::release(&pool, ALICE).await.expect("nothing is left"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while relay.owner(ALICE).await.expect("it answers").is_some() {
        assert!(Instant::now() < deadline, "the cache was never told");
        tokio::task::yield_now().await;
    }
    assert!(relay.claim(ALICE, &key(2), Proof::Store).await.expect("it answers"));
    let deadline = Instant::now() + Duration::from_secs(10);
    while signal.owner(ALICE).await.expect("it answers") != Some(key(2)) {
        assert!(Instant::now() < deadline, "the other cache was never told");
        tokio::task::yield_now().await;
    }
    signal.stop().await;
    relay.stop().await;
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn the_better_proof_is_kept_and_shown(pool: PgPool) {
    let relay = Process::start(&pool, "switchyard_relay", Policy::Pin).await;
    let signal = Process::start(&pool, "switchyard_signal", Policy::Pin).await;
    assert!(relay.claim(ALICE, &key(1), Proof::Store).await.expect("it answers"));
    let shown = identity::show(&pool, ALICE).await.expect("it answers").expect("pinned");
    assert_eq!((shown.key, shown.proof), (key(1), Proof::Store));
    assert!(signal.claim(ALICE, &key(1), Proof::Register).await.expect("it answers"));
    let shown = identity::show(&pool, ALICE).await.expect("it answers").expect("pinned");
    assert_eq!((shown.peer.as_slice(), shown.proof), (ALICE, Proof::Register));
    assert!(shown.pinned_at_ms > 1_577_836_800_000);
    assert!(signal.claim(b"bob", &key(2), Proof::Register).await.expect("it answers"));
    let all = identity::list(&pool, b"", 10).await.expect("it answers");
    assert_eq!(all.iter().map(|pin| pin.peer.as_slice()).collect::<Vec<_>>(), [ALICE, b"bob"]);
    assert_eq!(identity::list(&pool, ALICE, 10).await.expect("it answers").len(), 1);
    assert_eq!(identity::show(&pool, b"nobody").await.expect("it answers"), None);
    relay.stop().await;
    signal.stop().await;
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn nothing_is_pinned_when_the_policy_is_open(pool: PgPool) {
    let open = Process::start(&pool, "switchyard_relay", Policy::Open).await;
    assert!(open.claim(ALICE, &key(1), Proof::Store).await.expect("it answers"));
    assert!(open.claim(ALICE, &key(2), Proof::Store).await.expect("it answers"));
    assert_eq!(open.owner(ALICE).await.expect("it answers"), None);
    assert!(identity::list(&pool, b"", 10).await.expect("it answers").is_empty());
    open.stop().await;
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn peers_of_no_or_too_many_bytes_are_refused(pool: PgPool) {
    let pins = Process::start(&pool, "switchyard_relay", Policy::Pin).await;
    for peer in [&[][..], &[b'a'; 1025]] {
        let refused = pins.claim(peer, &key(1), Proof::Store).await;
        assert!(matches!(refused, Err(Error::PeerLength)), "{refused:?}");
    }
    assert!(pins.claim(&[0xFF; 1024], &key(1), Proof::Store).await.expect("the longest fits"));
    assert!(identity::release(&pool, &[0xFF; 1024]).await.expect("its notification fits too"));
    pins.stop().await;
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn claims_and_the_cache_are_counted(pool: PgPool) {
    let pins = Process::start(&pool, "switchyard_relay", Policy::Pin).await;
    assert!(pins.claim(ALICE, &key(1), Proof::Store).await.expect("it answers"));
    assert!(pins.claim(ALICE, &key(1), Proof::Store).await.expect("it answers"));
    assert!(!pins.claim(ALICE, &key(2), Proof::Store).await.expect("it answers"));
    let text = prometheus::TextEncoder::new()
        .encode_to_string(&pins.cx.metrics.gather())
        .expect("plain counters");
    for line in [
        r#"identity_claims_total{outcome="pinned_or_known"} 2"#,
        r#"identity_claims_total{outcome="refused"} 1"#,
        "identity_cache_misses_total 1",
        "identity_cache_hits_total 2",
        r#"pg_group_items_count{group="identity_claims"} 1"#,
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }
    pins.stop().await;
}
