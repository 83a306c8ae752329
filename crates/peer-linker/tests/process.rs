//! The real process: what stalled readers cost it, how it dies and how it stops.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use testkit::{
    database::Database,
    pad_client::{Generation, PadClient, Program},
    process::Service,
};
use tokio::time::timeout;

const PAIRS: usize = 24;
const MARK: usize = 1 << 20;
const MESSAGE: usize = 8_000;

async fn pad(service: &Service, generation: Generation, name: &[u8]) -> PadClient {
    let address = service.address();
    let mut client = PadClient::activated(generation, Program::PeerLinker, address).await.unwrap();
    assert!(client.register_pad(name).await.unwrap());
    client
}

async fn pair(service: &Service, generation: Generation, number: usize) -> (PadClient, PadClient) {
    let names = [format!("a{number}"), format!("b{number}")];
    let mut one = pad(service, generation, names[0].as_bytes()).await;
    let mut other = pad(service, generation, names[1].as_bytes()).await;
    one.link_to(&mut other, names[1].as_bytes(), b"").await.unwrap();
    (one, other)
}

/// Memory stays within 1.2 times the mark of every stalled reader, and everything arrives once
/// they read again.
#[tokio::test]
async fn stalled_readers_cost_no_more_than_their_marks() {
    let database = Database::fresh().await.unwrap();
    let service = Service::named("peer-linker")
        .database(&database.url())
        .set("PAYLOAD_MARK", MARK)
        .start()
        .await
        .unwrap();
    let mut pairs = Vec::new();
    for number in 0..PAIRS {
        let generation = Generation::BOTH[number % 2];
        pairs.push(pair(&service, generation, number).await);
    }
    let before = service.metric("process_resident_memory_bytes").await.unwrap();
    let mut stalled = Vec::new();
    for (sender, receiver) in pairs {
        let ((mut sending, rest), (other, receiving)) =
            (sender.into_halves(), receiver.into_halves());
        let mut sent = 0_u64;
        loop {
            let mut body = vec![0; MESSAGE];
            body[..8].copy_from_slice(&sent.to_le_bytes());
            // One that is broken off may be on its way in part: the pair sends no more.
            if timeout(Duration::from_millis(100), sending.send_payload(&body)).await.is_err() {
                break;
            }
            sent += 1;
        }
        assert!(usize::try_from(sent).unwrap() * MESSAGE > MARK, "it took {sent} messages");
        stalled.push((sending, rest, other, receiving, sent));
    }
    let grown = service.metric("process_resident_memory_bytes").await.unwrap() - before;
    let most = 1.2 * f64::from(u32::try_from(PAIRS * MARK).unwrap());
    assert!(grown < most, "{PAIRS} readers took {grown} bytes, more than {most}");
    for (_sending, _rest, _other, receiving, sent) in &mut stalled {
        for number in 0..*sent {
            let body = receiving.next_payload().await.unwrap().unwrap();
            assert_eq!((body.len(), &body[..8]), (MESSAGE, &number.to_le_bytes()[..]));
        }
    }
}

#[tokio::test]
async fn a_killed_process_frees_its_names_by_starting_again() {
    let database = Database::fresh().await.unwrap();
    let mut service =
        Service::named("peer-linker").database(&database.url()).start().await.unwrap();
    let _gone = pad(&service, Generation::WebSocket, b"name").await;
    service.kill();
    service.start_again().await.unwrap();
    pad(&service, Generation::WebSocket, b"name").await;
}

#[tokio::test]
async fn a_drain_closes_clients_and_leaves_no_row() {
    let database = Database::fresh().await.unwrap();
    let mut service =
        Service::named("peer-linker").database(&database.url()).start().await.unwrap();
    let (mut a, mut b) = pair(&service, Generation::WebSocket, 1).await;
    let (mut c, _d) = pair(&service, Generation::Encrypted, 2).await;
    a.send_payload(b"last words").await.unwrap();
    assert_eq!(&b.next_payload().await.unwrap()[..], b"last words");
    let closed = async {
        for client in [&mut a, &mut b] {
            assert_eq!(client.closed().await.unwrap(), Some(1012));
        }
        c.closed().await.unwrap();
    };
    let (stopped, ()) = tokio::join!(service.terminate(), closed);
    assert!(stopped.unwrap().success());
    let pool = database.pool().await.unwrap();
    for rows in ["SELECT count(*) FROM peer_linker.pad", "SELECT count(*) FROM peer_linker.node"] {
        let rows: i64 = sqlx::query_scalar(rows).fetch_one(&pool).await.unwrap();
        assert_eq!(rows, 0);
    }
}
