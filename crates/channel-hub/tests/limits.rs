//! What clients may hold, and what is said to those who want more.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use common::{Server, listed, until};
use testkit::{
    database::Database,
    pad_client::{Generation, PadClient},
};

async fn server(settings: &[&str]) -> (Database, Server) {
    let database = Database::fresh().await.unwrap();
    let server = Server::start(&database.pool().await.unwrap(), settings).await;
    (database, server)
}

fn refused(server: &Server, reason: &str) -> f64 {
    server.metric("channel_hub_refused_total", reason)
}

#[tokio::test]
async fn channels_are_limited_by_session_address_and_name() {
    let settings =
        ["--max-channels-per-session", "2", "--max-channels-per-address", "3", "--max-name", "4"];
    for generation in Generation::BOTH {
        let (_database, server) = server(&settings).await;
        let mut one = server.client(generation).await;
        let mut other = server.client(generation).await;
        assert!(!one.register_channel(b"five!").await.unwrap());
        assert!(one.register_channel(b"four").await.unwrap());
        assert!(one.register_channel(b"2").await.unwrap());
        assert!(!one.register_channel(b"3").await.unwrap(), "of one session");
        assert!(other.register_channel(b"3").await.unwrap());
        assert!(!other.register_channel(b"4").await.unwrap(), "of one address");
        assert!(one.unregister_channel(b"2").await.unwrap());
        until("there is room again", async || other.register_channel(b"4").await.unwrap()).await;
        assert_eq!(refused(&server, "long_name"), 1.0);
        assert!(refused(&server, "many_channels") >= 2.0);
    }
}

#[tokio::test]
async fn channels_are_limited_altogether() {
    let (_database, server) = server(&["--max-channels", "1"]).await;
    let mut one = server.client(Generation::WebSocket).await;
    let mut other = server.client(Generation::Encrypted).await;
    assert!(one.register_channel(b"a").await.unwrap());
    assert!(!other.register_channel(b"b").await.unwrap());
    one.close().await.unwrap();
    until("there is room again", async || other.register_channel(b"b").await.unwrap()).await;
}

#[tokio::test]
async fn requests_are_limited_by_session_channel_and_address() {
    let settings = ["--max-requests-per-session", "2", "--max-requests-per-channel", "3"];
    let (_database, server) = server(&settings).await;
    let mut owner = server.client(Generation::Encrypted).await;
    assert!(owner.register_channel(b"room").await.unwrap());
    let mut guests = Vec::new();
    for asked in [2, 1] {
        let mut guest = server.client(Generation::Encrypted).await;
        let mut ids = Vec::new();
        for _ in 0..asked {
            ids.push(guest.send_pad_request(b"room").await.unwrap());
            owner.next_pad_request().await.unwrap();
        }
        assert_eq!(guest.request_pad(b"room").await.unwrap(), None, "{asked}");
        guests.push((guest, ids));
    }
    assert_eq!(refused(&server, "many_requests"), 2.0);
    drop(owner);
    for (guest, ids) in &mut guests {
        for id in ids {
            assert_eq!(guest.pad(*id).await.unwrap(), None);
        }
    }
    assert_eq!(server.metric("channel_hub_requests_waiting", ""), 0.0);
}

#[tokio::test]
async fn a_list_that_fits_no_packet_is_refused_until_it_does() {
    let (_database, server) = server(&["--max-name", "40kb"]).await;
    for generation in Generation::BOTH {
        let mut owner = server.client(generation).await;
        for byte in [b'a', b'b'] {
            assert!(owner.register_channel(&vec![byte; 40_000]).await.unwrap());
        }
        assert_eq!(owner.channels().await.unwrap(), None);
        assert!(owner.unregister_channel(&vec![b'b'; 40_000]).await.unwrap());
        assert_eq!(listed(&mut owner).await, ["a".repeat(40_000)]);
    }
    assert_eq!(refused(&server, "long_list"), 2.0);
}

/// Sends requests and reads none of the answers, until the server no longer reads or cuts it off; then
/// stays as it is.
async fn flood(mut client: PadClient) {
    while client.send_request(5, b"").await.is_ok() {}
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_floods_and_does_not_read_slows_nobody_else() {
    let (_database, server) = server(&["--max-name", "40kb"]).await;
    for generation in Generation::BOTH {
        let mut owner = server.client(generation).await;
        let mut guest = server.client(generation).await;
        assert!(owner.register_channel(&vec![b'n'; 40_000]).await.unwrap());
        assert!(owner.register_channel(b"room").await.unwrap());
        let flooding = flood(server.client(generation).await);
        let working = async {
            for _ in 0..200 {
                let id = guest.send_pad_request(b"room").await.unwrap();
                let request = owner.next_pad_request().await.unwrap();
                assert!(owner.answer_pad_request(&request, Some(b"pad")).await.unwrap());
                assert_eq!(guest.pad(id).await.unwrap().unwrap(), "pad");
            }
        };
        tokio::select! { () = working => {}, () = flooding => {} }
    }
}
