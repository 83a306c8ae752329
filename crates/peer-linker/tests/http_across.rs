//! HTTP pads with their two sides at two processes.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use common::{
    Server,
    http::{SECRET, broken, client, left, put, raw, through, waiting, with_key},
    until,
};
use http::Method;
use proto::pad::certificate;
use sqlx::PgPool;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

/// More than all buffers on the way hold.
const MUCH: usize = 96 << 20;

/// Two replicas.
async fn two(pool: &PgPool, settings: &[&str]) -> [Server; 2] {
    [Server::start(pool, settings).await, Server::start(pool, settings).await]
}

async fn rows(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM peer_linker.pad").fetch_one(pool).await.unwrap()
}

/// The replicas do not talk, and nobody has a name.
async fn quiet(pool: &PgPool, at: [&Server; 2]) {
    for server in at {
        until("hung up", async || server.metric("packets_siblings", "") == 0.0).await;
        waiting(server, 0.0).await;
    }
    until("no row is left", async || rows(pool).await == 0).await;
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_put_goes_to_whoever_gets_at_another_replica(pool: PgPool) {
    let [one, other] = &two(&pool, &[]).await;
    through([one, other]).await;
    through([other, one]).await;
    for server in [one, other] {
        assert_eq!(server.metric("peer_linker_http_transfers_total", "done"), 2.0);
    }
    quiet(&pool, [one, other]).await;
}

/// Nobody waits for the other here: whatever order the database sees them in, they meet.
#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn both_sides_come_at_once_again_and_again(pool: PgPool) {
    let [one, other] = &two(&pool, &[]).await;
    for round in 0..30 {
        let reader = client(other);
        let body = format!("of round {round}");
        let (sent, read) = tokio::join!(put(one, "x", body.clone()), reader.get("/pad/x"));
        assert_eq!((sent.0, read.unwrap().text()), (200, body));
    }
    quiet(&pool, [one, other]).await;
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_side_that_leaves_is_reported_at_the_other_replica(pool: PgPool) {
    let [one, other] = &two(&pool, &["--http-stall-time", "2s"]).await;
    broken([one, other]).await;
    left([one, other]).await;
    quiet(&pool, [one, other]).await;
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_second_of_the_same_kind_is_refused_wherever_it_comes(pool: PgPool) {
    let [one, other] = &two(&pool, &[]).await;
    let send = put(one, "x", "found");
    let others = async {
        waiting(one, 1.0).await;
        for server in [one, other] {
            assert_eq!(put(server, "x", "second").await, (409, "this pad is in use\n".into()));
        }
        // Nobody asks it for a body that nobody would read.
        let head = "PUT /pad/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                    Expect: 100-continue\r\nContent-Length: 9\r\n\r\n";
        let (mut polite, mut answer) = raw(other.address, head).await;
        polite.read_to_end(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with("HTTP/1.1 409"), "{text}");
        // The refused have taken nothing along: the first one's name is where it was.
        client(other).get("/pad/x").await.unwrap()
    };
    let (sent, read) = tokio::join!(send, others);
    assert_eq!((sent.0, read.status, &read.body[..]), (200, 200, &b"found"[..]));
    quiet(&pool, [one, other]).await;
}

/// The reader takes nothing until the sender has come to a halt, far from its end.
#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_slow_reader_stops_the_sender_at_another_replica(pool: PgPool) {
    let [one, other] = &two(&pool, &[]).await;
    let body: Vec<u8> = (0..MUCH).map(|at| at.to_le_bytes()[2]).collect();
    for [sends, reads, holds] in [[one, other, one], [one, other, other]] {
        let passed = || holds.metric("peer_linker_http_bytes_total", "");
        let before = passed();
        let send = async {
            if std::ptr::eq(reads, holds) {
                waiting(reads, 1.0).await;
            }
            put(sends, "x", body.clone()).await
        };
        let read = async {
            if std::ptr::eq(sends, holds) {
                waiting(sends, 1.0).await;
            }
            let get = "GET /pad/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
            let (mut reader, mut answer) = raw(reads.address, get).await;
            let (mut last, mut since) = (before, Instant::now());
            until("the sender has come to a halt", async || {
                if passed() != last {
                    (last, since) = (passed(), Instant::now());
                }
                last > before && since.elapsed() > Duration::from_secs(1)
            })
            .await;
            reader.read_to_end(&mut answer).await.unwrap();
            (last - before, answer)
        };
        let (sent, (passed, answer)) = tokio::join!(send, read);
        assert_eq!(sent.0, 200);
        assert!(passed < MUCH as f64 / 2.0, "{passed} bytes passed to who read none");
        assert!(answer.ends_with(&body), "all of it arrives");
    }
    quiet(&pool, [one, other]).await;
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_replica_dies_in_the_middle_of_a_transfer(pool: PgPool) {
    let one = Server::start(&pool, &[]).await;
    for reader_survives in [true, false] {
        let dies = Server::start(&pool, &["--instance", "dies"]).await;
        let (sends, reads) = if reader_survives { (&dies, &one) } else { (&one, &dies) };
        // The name is at the one that dies.
        let put_head = "PUT /pad/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nhalf";
        let get_head = "GET /pad/x HTTP/1.1\r\nHost: x\r\n\r\n";
        let (first, second) =
            if reader_survives { (put_head, get_head) } else { (get_head, put_head) };
        let (first, _) = raw(dies.address, first).await;
        waiting(&dies, 1.0).await;
        let (second, _) = raw(one.address, second).await;
        let (sender, mut reader) = if reader_survives { (first, second) } else { (second, first) };
        assert_eq!(sends.address, sender.peer_addr().unwrap());
        assert_eq!(reads.address, reader.peer_addr().unwrap());
        let mut answer = Vec::new();
        until("half of it is here", async || {
            reader.read_buf(&mut answer).await.unwrap();
            answer.ends_with(b"half")
        })
        .await;
        dies.cx.stop.draining().cancel();
        dies.abandon();
        let (mut survivor, mut answer) =
            if reader_survives { (reader, answer) } else { (sender, Vec::new()) };
        if !reader_survives {
            // What it sends shows that nobody takes it.
            let _ = survivor.write_all(b"more").await;
        }
        let _ = survivor.read_to_end(&mut answer).await; // a reset is as good as an end
        let text = String::from_utf8_lossy(&answer);
        if reader_survives {
            assert!(text.ends_with("half") && text.contains("content-length: 1000000"), "{text}");
        } else {
            assert!(text.starts_with("HTTP/1.1 502"), "{text}");
        }
        until("hung up", async || one.metric("packets_siblings", "") == 0.0).await;
    }
}

/// A name whose process does not answer any more is refused, not waited for, until its lease ends.
#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_dead_replicas_names_are_free_when_its_lease_ends(pool: PgPool) {
    let one = Server::start(&pool, &["--lease-expiry", "2s", "--lease-renewal", "200ms"]).await;
    until("it is there", async || client(&one).get("/").await.is_ok()).await;
    let leave = "INSERT INTO peer_linker.node (node, instance, address)
                 VALUES ('00000000-0000-0000-0000-000000000001', 'dead', '127.0.0.1:9')";
    sqlx::query(leave).execute(&pool).await.unwrap();
    let hold = "INSERT INTO peer_linker.pad (digest, node, pad)
                VALUES (sha256('\\x0378'::bytea), '00000000-0000-0000-0000-000000000001', 1)";
    sqlx::query(hold).execute(&pool).await.unwrap();
    let refused = client(&one).get("/pad/x").await.unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (503, "5"));
    until("it is free", async || rows(&pool).await == 0).await;
    let reader = client(&one);
    let (sent, read) = tokio::join!(put(&one, "x", "on"), reader.get("/pad/x"));
    assert_eq!((sent.0, read.unwrap().text()), (200, "on".into()));
}

/// Who waits is found again after the others took its process for dead.
#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn a_replica_taken_for_dead_puts_its_names_back(pool: PgPool) {
    let [one, other] = &two(&pool, &["--lease-renewal", "200ms"]).await;
    let reader = client(one);
    let read = reader.get("/pad/x");
    let others = async {
        waiting(one, 1.0).await;
        until("it has the name", async || rows(&pool).await == 1).await;
        for table in ["node", "pad"] {
            let sweep = sqlx::AssertSqlSafe(format!("DELETE FROM peer_linker.{table}"));
            sqlx::query(sweep).execute(&pool).await.unwrap();
        }
        until("it has it again", async || rows(&pool).await == 1).await;
        put(other, "x", "found").await
    };
    let (read, sent) = tokio::join!(read, others);
    assert_eq!((read.unwrap().text(), sent.0), ("found".into(), 200));
}

#[sqlx::test(migrator = "pg::MIGRATOR")]
async fn with_a_key_a_certificate_is_needed_at_either_replica(pool: PgPool) {
    let (one, other) = (with_key(&pool, "first", &[]).await, with_key(&pool, "second", &[]).await);
    let of = |secret: &[u8]| {
        let certificate = STANDARD.encode(certificate::issue(secret, b"user=x"));
        format!("Bearer {certificate}")
    };
    let ask = async |server: &Server, method, token: &str, body: &'static str| {
        let headers = [("authorization", token)];
        let answer = client(server).send(method, "/pad/x", &headers, Bytes::from(body)).await;
        answer.unwrap()
    };
    let good = of(SECRET);
    let read = ask(&one, Method::GET, &good, "");
    let others = async {
        waiting(&one, 1.0).await;
        for method in [Method::PUT, Method::GET] {
            let forged = ask(&other, method, &of(b"another"), "").await;
            assert_eq!(forged.status, 401);
        }
        assert_eq!(put(&other, "x", "none").await.0, 401);
        ask(&other, Method::PUT, &good, "found").await
    };
    let (read, sent) = tokio::join!(read, others);
    assert_eq!((read.status, read.text(), sent.status), (200, "found".into(), 200));
}
