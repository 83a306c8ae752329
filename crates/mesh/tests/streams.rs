//! Event streams over time: signs of life, slow readers, limits by default (scenario 15).
#![allow(missing_docs, reason = "a test")]

mod common;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use common::{ROOM, node};
use futures_util::future::try_join_all;
use testkit::database::Database;
use testkit::mesh_client::MeshClient;
use testkit::time::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Asks for the room's stream over a connection of its own.
async fn ask(mut stream: TcpStream) -> anyhow::Result<TcpStream> {
    let request = format!("GET /room/{ROOM} HTTP/1.1\r\nHost: mesh\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    Ok(stream)
}

/// Reads until `part` has come.
async fn read_until(stream: &mut TcpStream, part: &str) -> anyhow::Result<String> {
    let mut seen = String::new();
    while !seen.contains(part) {
        let mut bytes = [0; 4096];
        let read = stream.read(&mut bytes).await?;
        ensure!(read > 0, "ended before {part:?}: {seen}");
        seen += &String::from_utf8_lossy(&bytes[..read]);
    }
    Ok(seen)
}

#[tokio::test]
async fn a_quiet_stream_shows_that_it_lives() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let node = node(&database).set("LOAD_FILE", "/dev/null").start().await?;
    let mut stream = ask(TcpStream::connect(node.address()).await?).await?;
    let hello = read_until(&mut stream, "event: hello").await?;
    ensure!(hello.contains("retry: 3000\n"), "{hello}");
    ensure!(hello.to_lowercase().contains("content-type: text/event-stream"), "{hello}");
    ensure!(hello.to_lowercase().contains("x-accel-buffering: no"), "{hello}");
    // 15 s and 30 s by the node's clock.
    timeout(Duration::from_secs(25), read_until(&mut stream, ": hb\n\n")).await??;
    let price = timeout(Duration::from_secs(25), read_until(&mut stream, "event: price\n"));
    ensure!(price.await??.contains("\"token\""));
    Ok(())
}

#[tokio::test]
async fn a_reader_that_stops_is_closed_and_the_others_miss_nothing() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let node = node(&database)
        .set("POW_MIN", 0)
        .set("LOAD_FILE", "/dev/null")
        .set("MAX_STREAMS_PER_ADDRESS", 200)
        .set("MAX_ROOMS_PER_ADDRESS", 200)
        .set("ROOM_POSTS_PER_MINUTE", 1_000_000)
        .set("ADDRESS_POSTS", 1_000_000)
        // A stalled write is given up after it.
        .set("SEND_TIMEOUT", "5s")
        .start()
        .await?;
    let client = MeshClient::plain(node.address());
    let mut quick = Vec::new();
    for _ in 0..99 {
        quick.push(client.listen(ROOM, "").await?);
    }
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let stopped = ask(socket.connect(node.address()).await?).await?;
    let all = eventually(Duration::from_secs(30), async || {
        (node.metric("mesh_streams").await.ok()? >= 100.0).then_some(())
    });
    all.await.context("no hundredth stream")?;

    let body = "x".repeat(1_000);
    let began = Instant::now();
    let mut posts: usize = 0;
    while node.metric("mesh_streams").await? > 99.0 {
        ensure!(began.elapsed() < Duration::from_secs(180), "still open after {posts} posts");
        for _ in 0..20 {
            let told = client.say(ROOM, &body).await?;
            ensure!(told.status == 202, "{}", told.text());
            posts += 1;
            // The quick ones keep up, all of them, while the hundredth does not.
            try_join_all(quick.iter_mut().map(|listener| listener.post())).await?;
        }
    }
    drop(stopped);
    ensure!(posts > 64, "closed after {posts} posts, which had room");
    Ok(())
}

#[tokio::test]
async fn an_address_has_thirty_two_streams() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let node = node(&database).start().await?;
    let client = MeshClient::plain(node.address());
    let mut open = Vec::new();
    for _ in 0..32 {
        open.push(client.listen(ROOM, "").await?);
    }
    let refused = client.listen(ROOM, "").await.err().context("a thirty-third")?.to_string();
    ensure!(refused.starts_with("429") && refused.contains("too_many_streams"), "{refused}");
    Ok(())
}
