//! What work and tokens are taken and which are not, and how the price follows the load
//! (scenarios 8, 10, 11 and 12).
#![allow(missing_docs, reason = "a test")]

mod common;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use common::{ROOM, code, node};
use http::Method;
use proto::mesh::proof::Challenge;
use proto::mesh::token::{Secret, Token};
use proto::mesh::{hex, unhex};
use serde_json::Value;
use testkit::database::Database;
use testkit::http_client::{Answer, HttpClient};
use testkit::mesh_client::{MeshClient, Price};
use testkit::process::{Builder, Service};
use testkit::time::{eventually, now_ms};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const OTHER: &str = "0000000000000000000000000000000000000001";
const ROOT: [u8; 32] = [7; 32];

/// A node whose price stands still.
fn steady(database: &Database) -> Builder {
    node(database).set("LOAD_FILE", "/dev/null").set("POW_MIN", 12)
}

fn path() -> String {
    format!("/room/{ROOM}")
}

/// Sends a post with a proof whose first word lies between the two.
async fn with_work(client: &MeshClient, above: u64, most: u64) -> anyhow::Result<Answer> {
    let token = client.price(ROOM).await?.token;
    let challenge = Challenge::new("POST", &path(), &token, &[b"x"]);
    let mut first = 0;
    loop {
        let found = challenge.mine(most, first, 1 << 24);
        let (nonce, proof) = found.context("no proof")?;
        if proof.word() > above {
            let query = format!("t={token}&n={}", hex(&nonce));
            return client.post(&format!("{}?{query}", path()), "x").await;
        }
        first = u64::from_be_bytes(nonce) + 1;
    }
}

#[tokio::test]
async fn half_the_work_is_taken_by_grace_and_less_never() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let graceful = steady(&database).start().await?;
    let strict = steady(&database).set("POW_GRACE", 0).start().await?;
    let (graceful, strict) =
        (MeshClient::plain(graceful.address()), MeshClient::plain(strict.address()));
    let target = graceful.price(ROOM).await?.target;

    let quarter = with_work(&graceful, target * 2 + 1, target * 4).await?;
    ensure!((quarter.status, code(&quarter)?.as_str()) == (402, "pow_too_low"));
    ensure!(quarter.json()?["need"] == 12 && quarter.json()?["got"].as_u64() < Some(12));
    // The quote that comes with it is enough for the next try.
    let quote = Price::of(&quarter.json()?["pow"])?;
    let paid = quote.pay("POST", &path(), &[b"x"])?;
    let again = graceful.post(&format!("{}?{paid}", path()), "x").await?;
    ensure!(again.status == 202, "{}", again.text());

    let other = strict.price(ROOM).await?.target;
    let half = with_work(&strict, other + 1, other * 2).await?;
    ensure!(code(&half)? == "pow_too_low", "{}", half.text());
    let target = graceful.price(ROOM).await?.target;
    let half = with_work(&graceful, target + 1, target * 2 - 1).await?;
    ensure!(half.status == 202, "{}", half.text());
    Ok(())
}

#[tokio::test]
async fn a_proof_is_good_for_its_own_request_only() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    // Dear enough that nothing fits by chance.
    let node = steady(&database).set("POW_MIN", 18).start().await?;
    let client = MeshClient::plain(node.address());
    let paid = client.price(ROOM).await?.pay("POST", &path(), &[b""])?;
    let elsewhere = [
        format!("/room/{OTHER}?{paid}"),
        format!("/token?{paid}"),
        format!("/dht-put?k={ROOM}&seq=1&sig={}&{paid}", "00".repeat(64)),
    ];
    for target in elsewhere {
        let refused = client.post(&target, "").await?;
        ensure!(code(&refused)? == "pow_too_low", "{target}: {}", refused.text());
    }
    let changed = client.post(&format!("{}?{paid}", path()), "body").await?;
    ensure!(code(&changed)? == "pow_too_low", "{}", changed.text());
    let reading = client.price(ROOM).await?.pay("GET", &path(), &[b""])?;
    let refused = client.post(&format!("{}?{reading}", path()), "").await?;
    ensure!(code(&refused)? == "pow_too_low", "for another method: {}", refused.text());
    // Upper case names the same room.
    let target = format!("/room/{}?{paid}", ROOM.to_uppercase());
    ensure!(client.post(&target, "").await?.status == 202);
    Ok(())
}

/// A node's secret and key, as its database has them.
async fn secret_of(database: &Database, client: &MeshClient) -> anyhow::Result<(Secret, [u8; 32])> {
    let pool = database.pool().await?;
    let boot_id: Vec<u8> =
        sqlx::query_scalar("SELECT boot_id FROM mesh.boot").fetch_one(&pool).await?;
    let root = client.get("/").await?.ok()?;
    let key = root["node"]["key"].as_str().and_then(unhex).context("a key")?;
    Ok((Secret::derive(&ROOT, &boot_id), key))
}

#[tokio::test]
async fn tokens_are_taken_for_two_minutes_unchanged() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let node = steady(&database).set("SECRET", hex(&ROOT)).set("POW_MIN", 4).start().await?;
    let client = MeshClient::plain(node.address());
    let (secret, key) = secret_of(&database, &client).await?;
    let now_s = u32::try_from(now_ms() / 1000)?;
    let with = async |token: String| {
        let price = Price { token, target: u64::MAX >> 12 };
        let paid = price.pay("POST", &path(), &[b"x"])?;
        client.post(&format!("{}?{paid}", path()), "x").await
    };
    let minted = |at_s: u32| Token::mint(&secret, &key, at_s, rand::random(), None);

    for at_s in [now_s, now_s - 60, now_s - 100] {
        let taken = with(minted(at_s)).await?;
        ensure!(taken.status == 202, "{}: {}", at_s.abs_diff(now_s), taken.text());
    }
    // Well past the limits: the machine is slow and its clock goes on.
    for at_s in [now_s - 121, now_s - 3_600, now_s + 60] {
        let refused = with(minted(at_s)).await?;
        ensure!((refused.status, code(&refused)?.as_str()) == (410, "token_expired"));
        ensure!(refused.json()?["pow"]["token"].is_string(), "{}", refused.text());
    }
    let mut stranger = key;
    stranger[0] ^= 1;
    let refused = with(Token::mint(&secret, &stranger, now_s, [0; 8], None)).await?;
    ensure!((refused.status, code(&refused)?.as_str()) == (403, "token_wrong_node"));
    let forged = Token::mint(&Secret::derive(&[8; 32], b""), &key, now_s, [0; 8], None);
    let refused = with(forged).await?;
    ensure!((refused.status, code(&refused)?.as_str()) == (403, "token_invalid"));
    // One character of the random part.
    let mut changed = minted(now_s).into_bytes();
    changed[22] = if changed[22] == b'A' { b'B' } else { b'A' };
    let refused = with(String::from_utf8(changed)?).await?;
    ensure!((refused.status, code(&refused)?.as_str()) == (403, "token_invalid"));
    Ok(())
}

#[tokio::test]
async fn a_token_for_one_address_is_good_from_no_other() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let node = steady(&database)
        .set("TOKEN_BIND_IP", 1)
        .set("TRUSTED_PROXIES", "127.0.0.0/8")
        .start()
        .await?;
    let http = HttpClient::plain(node.address());
    let from = async |address: &str, method: Method, path: &str| {
        let headers = [("accept", "application/json"), ("x-forwarded-for", address)];
        http.send(method, path, &headers, Bytes::new()).await
    };
    let paid = async |address: &str| {
        let asked = from(address, Method::GET, &format!("{}?format=json", path())).await?;
        Price::of(&asked.ok()?)?.pay("POST", &path(), &[b""])
    };
    let query = paid("203.0.113.7").await?;
    let refused = from("203.0.113.8", Method::POST, &format!("{}?{query}", path())).await?;
    ensure!((refused.status, code(&refused)?.as_str()) == (403, "token_ip_mismatch"));
    let taken = from("203.0.113.7", Method::POST, &format!("{}?{query}", path())).await?;
    ensure!(taken.status == 202, "{}", taken.text());
    // A whole /64 is one client.
    let query = paid("2001:db8:1:2::1").await?;
    let address: IpAddr = "2001:db8:1:2:ffff::9".parse()?;
    let taken = from(&address.to_string(), Method::POST, &format!("{}?{query}", path())).await?;
    ensure!(taken.status == 202, "{}", taken.text());
    Ok(())
}

#[tokio::test]
async fn bodies_end_at_their_limit_however_they_come() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let node = steady(&database).set("POW_MIN", 4).start().await?;
    let client = MeshClient::plain(node.address());
    for (size, status) in [(0, 202), (1024, 202), (1025, 413), (100_000, 413)] {
        for chunked in [false, true] {
            let body = vec![b'x'; size];
            let query = client.price(ROOM).await?.pay("POST", &path(), &[&body])?;
            let mut request = format!("POST {}?{query} HTTP/1.1\r\nHost: mesh\r\n", path());
            request += "Accept: application/json\r\nConnection: close\r\n";
            let text = "x".repeat(size);
            request += &match (chunked, size) {
                (false, _) => format!("Content-Length: {size}\r\n\r\n{text}"),
                (true, 0) => "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
                (true, _) => {
                    format!("Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{text}\r\n0\r\n\r\n")
                }
            };
            let mut stream = TcpStream::connect(node.address()).await?;
            // A refusal may come before all is sent.
            let _ = stream.write_all(request.as_bytes()).await;
            let mut answer = vec![0; 12];
            stream.read_exact(&mut answer).await?;
            let line = String::from_utf8(answer)?;
            ensure!(line == format!("HTTP/1.1 {status}"), "{size}, chunked {chunked}: {line}");
        }
    }
    Ok(())
}

/// What the price was and when it became so, as seen from outside.
async fn steps(
    client: &MeshClient,
    seconds: u64,
    until: u64,
) -> anyhow::Result<Vec<(Duration, u64)>> {
    let began = Instant::now();
    let mut seen: Vec<(Duration, u64)> = Vec::new();
    let reached = eventually(Duration::from_secs(seconds), async || {
        let height = client.get("/").await.ok()?.ok().ok()?["height"].as_u64()?;
        if seen.last().is_none_or(|&(_, last)| last != height) {
            seen.push((began.elapsed(), height));
        }
        (height == until).then_some(())
    });
    let done = reached.await;
    done.with_context(|| format!("never {until}: {seen:?}"))?;
    Ok(seen)
}

#[tokio::test]
async fn work_of_this_machine_raises_the_price() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    // As it measures by itself.
    let node = Service::named("mesh").database(&database.url()).set("DHT", "off");
    let node = node.set("POW_MIN", 8).set("POW_MAX", 18).start().await?;
    let client = MeshClient::plain(node.address());
    let busy = Arc::new(AtomicBool::new(true));
    let cores = std::thread::available_parallelism()?.get();
    let burning: Vec<_> = (0..cores)
        .map(|_| {
            let busy = busy.clone();
            std::thread::spawn(move || while busy.load(Ordering::Relaxed) {})
        })
        .collect();
    let mut last = Value::Null;
    let dear = eventually(Duration::from_secs(90), async || {
        last = client.get("/").await.ok()?.ok().ok()?;
        let cpu = last["load"]["cpu"].as_f64()?;
        (cpu > 0.5 && last["height"].as_u64()? >= 12).then_some(())
    });
    let dear = dear.await;
    busy.store(false, Ordering::Relaxed);
    ensure!(burning.into_iter().all(|one| one.join().is_ok()));
    dear.with_context(|| format!("busy and cheap: {last}"))
}

#[tokio::test]
async fn the_price_follows_the_load_one_step_at_a_time() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let file = std::env::temp_dir().join(format!("mesh-steps-{}", std::process::id()));
    std::fs::write(&file, "0.1 0.05")?;
    let node = node(&database).set("POW_MIN", 16).set("LOAD_FILE", file.display()).start().await?;
    let client = MeshClient::plain(node.address());
    steps(&client, 60, 17).await?;
    std::fs::write(&file, "0.05 0.8")?;
    // 20 s by the node's own clock; this machine may be slower.
    let up = steps(&client, 60, 24).await?;
    std::fs::write(&file, "0.1 0.1")?;
    let down = steps(&client, 90, 22).await?;
    std::fs::remove_file(&file)?;
    ensure!(up.windows(2).all(|pair| pair[1].1 == pair[0].1 + 1), "by one: {up:?}");
    ensure!(down.windows(2).all(|pair| pair[1].1 == pair[0].1 - 1), "by one: {down:?}");
    // Between the first and the last step, so that a late look at one of them does not count.
    let took = |steps: &[(Duration, u64)]| steps[steps.len() - 1].0 - steps[1].0;
    let rises = u32::try_from(up.len())? - 2;
    ensure!(took(&up) >= Duration::from_millis(1_800) * rises, "too fast: {up:?}");
    ensure!(took(&down) >= Duration::from_secs(9), "too fast: {down:?}");
    Ok(())
}
