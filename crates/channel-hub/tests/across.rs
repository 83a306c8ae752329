//! Channels of one replica, asked for at another.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Server, until};
use sqlx::PgPool;
use testkit::pad_client::{Generation, PadClient};

/// Two replicas that know each other.
async fn two(pool: &PgPool, settings: &[&str]) -> (Server, Server) {
    let servers = (Server::start(pool, settings).await, Server::start(pool, settings).await);
    for server in [&servers.0, &servers.1] {
        // One connection to each other, one from it.
        until("acquainted", async || server.metric("packets_siblings", "") == 2.0).await;
        until("ready", async || server.cx.ready.is_ready()).await;
    }
    servers
}

async fn owner(server: &Server, generation: Generation, channel: &[u8]) -> PadClient {
    let mut owner = server.client(generation).await;
    assert!(owner.register_channel(channel).await.unwrap());
    owner
}

async fn names(client: &mut PadClient) -> Vec<Vec<u8>> {
    let mut names: Vec<_> =
        client.channels().await.unwrap().unwrap().iter().map(|name| name.to_vec()).collect();
    names.sort();
    names
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_channel_is_everywhere_when_its_register_is_answered(pool: PgPool) {
    let (one, other) = two(&pool, &[]).await;
    for generation in Generation::BOTH {
        let mut asker = other.client(generation).await;
        for round in 0..20_u8 {
            let channel = [b'c', b'a' + round];
            let mut owner = owner(&one, generation, &channel).await;
            assert_eq!(names(&mut asker).await, [channel]);
            let id = asker.send_pad_request(&channel).await.unwrap();
            let asked = owner.next_pad_request().await.unwrap();
            assert_eq!(&asked.channel[..], channel);
            owner.answer_pad_request(&asked, Some(b"pad")).await.unwrap();
            assert_eq!(asker.pad(id).await.unwrap().as_deref(), Some(&b"pad"[..]));
            assert!(owner.unregister_channel(&channel).await.unwrap());
            until("gone", async || names(&mut asker).await.is_empty()).await;
        }
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn requests_are_refused_answered_and_cut_off_as_at_one_replica(pool: PgPool) {
    let (one, other) = two(&pool, &[]).await;
    for generation in Generation::BOTH {
        let mut owner = owner(&one, generation, b"room").await;
        let mut asker = other.client(generation).await;
        assert_eq!(asker.request_pad(b"nobody").await.unwrap(), None);
        // Refused by its owner.
        let id = asker.send_pad_request(b"room").await.unwrap();
        let asked = owner.next_pad_request().await.unwrap();
        owner.answer_pad_request(&asked, None).await.unwrap();
        assert_eq!(asker.pad(id).await.unwrap(), None);
        // Who leaves is not answered, and the next gets its own answer.
        asker.send_pad_request(b"room").await.unwrap();
        let first = owner.next_pad_request().await.unwrap();
        drop(asker);
        until("left", async || other.metric("channel_hub_sessions", "") == 0.0).await;
        let mut next = other.client(generation).await;
        let id = next.send_pad_request(b"room").await.unwrap();
        let second = owner.next_pad_request().await.unwrap();
        until("cancelled", async || other.metric("channel_hub_requests_waiting", "") == 1.0).await;
        let _ = owner.answer_pad_request(&first, Some(b"late")).await; // for nobody
        owner.answer_pad_request(&second, Some(b"mine")).await.unwrap();
        assert_eq!(next.pad(id).await.unwrap().as_deref(), Some(&b"mine"[..]), "{generation:?}");
        // The owner goes.
        let id = next.send_pad_request(b"room").await.unwrap();
        owner.next_pad_request().await.unwrap();
        drop(owner);
        assert_eq!(next.pad(id).await.unwrap(), None);
        until("gone", async || names(&mut next).await.is_empty()).await;
        drop(next);
        for server in [&one, &other] {
            until("over", async || server.metric("channel_hub_requests_waiting", "") == 0.0).await;
            until("empty", async || server.metric("channel_hub_channels", "") == 0.0).await;
        }
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn many_requests_at_once_get_the_answers_meant_for_them(pool: PgPool) {
    let (one, other) = two(&pool, &[]).await;
    for generation in Generation::BOTH {
        let mut owner = owner(&one, generation, b"room").await;
        let mut askers = Vec::new();
        for number in 0..30 {
            let server = if number % 2 == 0 { &one } else { &other };
            let mut asker = server.client(generation).await;
            let id = asker.send_pad_request(b"room").await.unwrap();
            askers.push((asker, id, owner.next_pad_request().await.unwrap()));
        }
        for (number, (_, _, asked)) in askers.iter().enumerate() {
            let pad = number.to_le_bytes();
            owner.answer_pad_request(asked, Some(&pad)).await.unwrap();
        }
        for (number, (asker, id, _)) in askers.iter_mut().enumerate() {
            let pad = asker.pad(*id).await.unwrap();
            assert_eq!(pad.as_deref(), Some(&number.to_le_bytes()[..]), "{generation:?}");
        }
    }
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_replica_that_dies_takes_its_channels_along_and_a_new_one_brings_its_own(pool: PgPool) {
    let one = Server::start(&pool, &["--lease-renewal", "100ms", "--instance", "one"]).await;
    let mut asker = one.client(Generation::WebSocket).await;
    let mut here = owner(&one, Generation::WebSocket, b"here").await;
    {
        let dying = Server::start(&pool, &["--instance", "dies", "--lease-renewal", "100ms"]).await;
        until("acquainted", async || dying.metric("packets_siblings", "") == 2.0).await;
        until("ready", async || dying.cx.ready.is_ready()).await;
        let mut there = owner(&dying, Generation::WebSocket, b"there").await;
        assert_eq!(names(&mut there).await, [&b"here"[..], b"there"]);
        assert_eq!(names(&mut asker).await, [&b"here"[..], b"there"]);
        let id = asker.send_pad_request(b"there").await.unwrap();
        there.next_pad_request().await.unwrap();
        dying.cx.stop.killed().cancel();
        dying.cx.stop.draining().cancel();
        assert_eq!(asker.pad(id).await.unwrap(), None);
        until("gone", async || names(&mut asker).await == [b"here"]).await;
    }
    assert!(here.unregister_channel(b"here").await.unwrap());
}
