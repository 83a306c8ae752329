//! Load for the `echo` example, and what it costs that process.
//!
//! `load <server pid> idle <sockets>`: memory per idle socket.
//! `load <server pid> pairs <pairs> <window> <bytes> <seconds>`: CPU per forwarded frame.
//! `load <server pid> storm <sockets>`: joins of a feed that tells everybody of everybody.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people")]

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
};

const ADDRESS: &str = "127.0.0.1:9000";

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| args[at].parse::<usize>().unwrap();
    let server = Process(args[0].clone());
    match args[1].as_str() {
        "idle" => idle(&server, number(2)).await,
        "pairs" => pairs(&server, number(2), number(3), number(4), number(5)).await,
        "storm" => storm(&server, number(2)).await,
        other => println!("unknown: {other}"),
    }
}

async fn idle(server: &Process, count: usize) {
    let before = server.rss_kib();
    let mut sockets = Vec::new();
    let begin = Instant::now();
    for _ in 0..count {
        sockets.push(connect("/").await);
    }
    println!("{count} sockets in {:.2?}", begin.elapsed());
    for wait in [1, 4, 30] {
        tokio::time::sleep(Duration::from_secs(wait)).await;
        let rss = server.rss_kib();
        let each = (rss.saturating_sub(before)) as f64 / count as f64;
        println!("after {wait:>2} s more: {rss} KiB, {each:.2} KiB each");
    }
}

async fn pairs(server: &Process, pairs: usize, window: usize, bytes: usize, seconds: usize) {
    let received = Arc::new(AtomicU64::new(0));
    let frame = masked(&vec![b'x'; bytes]);
    let reply = frame.len() - 4;
    let mut tasks = JoinSet::new();
    for pair in 0..pairs {
        let a = connect(&format!("/pair/{pair}/a")).await;
        let b = connect(&format!("/pair/{pair}/b")).await;
        for (mut tcp, starts) in [(a, true), (b, false)] {
            let (frame, received) = (frame.clone(), received.clone());
            tasks.spawn(async move {
                if starts {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    tcp.write_all(&frame.repeat(window)).await.unwrap();
                }
                let (mut buffer, mut pending) = (vec![0; 64 * 1024], 0);
                loop {
                    let read = tcp.read(&mut buffer).await.unwrap();
                    assert!(read > 0, "closed");
                    pending += read;
                    let whole = pending / reply;
                    pending %= reply;
                    received.fetch_add(whole as u64, Ordering::Relaxed);
                    if whole > 0 {
                        tcp.write_all(&frame.repeat(whole)).await.unwrap();
                    }
                }
            });
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (from, cpu, begin) = (received.load(Ordering::Relaxed), server.cpu(), Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
    let frames = received.load(Ordering::Relaxed) - from;
    report("forwarded", frames, begin.elapsed(), server.cpu() - cpu);
}

async fn storm(server: &Process, count: usize) {
    let mut sockets = Vec::new();
    for _ in 0..count {
        sockets.push(connect("/feed").await);
    }
    let (event, own) = (masked(&[b'e'; 128]), 4 + 128);
    let total = (count * (count + 1) / 2) as u64 * own;
    let (received, joining) = (Arc::new(AtomicU64::new(0)), Arc::new(Semaphore::new(16)));
    let (cpu, begin) = (server.cpu(), Instant::now());
    let mut tasks = JoinSet::new();
    for mut tcp in sockets {
        let (event, received, joining) = (event.clone(), received.clone(), joining.clone());
        tasks.spawn(async move {
            // Sixteen join at a time, each until it has its answer.
            let mut turn = Some(joining.acquire_owned().await.unwrap());
            tcp.write_all(&event).await.unwrap();
            let mut buffer = vec![0; 16 * 1024];
            loop {
                let read = tcp.read(&mut buffer).await.unwrap();
                assert!(read > 0, "closed");
                turn.take();
                received.fetch_add(read as u64, Ordering::Relaxed);
            }
        });
    }
    while received.load(Ordering::Relaxed) < total {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let so_far = received.load(Ordering::Relaxed);
        assert!(begin.elapsed() < Duration::from_secs(60), "{so_far} of {total}");
    }
    let took = begin.elapsed();
    println!("{:.0} joins/s", count as f64 / took.as_secs_f64());
    report("delivered", total / own, took, server.cpu() - cpu);
}

fn report(what: &str, frames: u64, took: Duration, cpu: Duration) {
    let rate = frames as f64 / took.as_secs_f64();
    let each = cpu.as_secs_f64() * 1e6 / frames as f64;
    println!("{what} {frames} in {took:.2?}: {rate:.0}/s, {each:.2} us CPU each");
}

async fn connect(path: &str) -> TcpStream {
    let mut tcp = TcpStream::connect(ADDRESS).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    );
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.unwrap());
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    tcp
}

fn masked(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81, 0xFE];
    frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

struct Process(String);

impl Process {
    fn rss_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }
}
