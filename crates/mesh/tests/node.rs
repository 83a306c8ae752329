//! One node, and two replicas of it, as browsers meet them.

mod common;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use common::{ROOM, code, node};
use http::Method;
use serde_json::Value;
use testkit::database::Database;
use testkit::http_client::HttpClient;
use testkit::mesh_client::{MeshClient, Price};

const OTHER: &str = "0000000000000000000000000000000000000001";

#[tokio::test]
async fn a_post_is_heard_by_all_who_listen_and_can_be_heard_again() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let node = node(&database).start().await?;
    let client = MeshClient::plain(node.address());
    let mut first = client.listen(ROOM, "").await?;
    let mut both = client.listen(OTHER, &format!("also={}", ROOM.to_uppercase())).await?;
    let told = client.say(ROOM, r#"{"hello":"mesh"}"#).await?;
    ensure!(told.status == 202, "{}", told.text());
    let told = told.json()?;
    ensure!(told["delivered"] == 2 && told["room"] == ROOM, "{told}");
    let heard = first.post().await?;
    ensure!(heard.id == told["id"] && heard.data["body"] == r#"{"hello":"mesh"}"#, "{heard:?}");
    ensure!(heard.id.starts_with("00") && heard.data["work"].as_u64() >= Some(7), "{heard:?}");
    ensure!(both.post().await?.id == heard.id);

    client.say(ROOM, "second").await?;
    let mut late = client.listen(ROOM, "since=60").await?;
    ensure!(late.post().await?.id == heard.id);
    ensure!(late.post().await?.data["body"] == "second");
    let mut again = client.listen(ROOM, &format!("last={}", heard.id)).await?;
    ensure!(again.post().await?.data["body"] == "second");
    let bytes = client.price(ROOM).await?.pay("POST", &format!("/room/{ROOM}"), &[&[0xff, 0]])?;
    let told = client.post(&format!("/room/{ROOM}?{bytes}"), vec![0xff, 0]).await?;
    ensure!(told.status == 202, "{}", told.text());
    first.post().await?;
    ensure!(first.post().await?.data["b64"] == "/wA=");
    Ok(())
}

#[tokio::test]
async fn work_is_asked_for_checked_and_taken_once_on_all_replicas() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    // Dear enough that a proof for one thing is none for another by chance.
    let replica = || node(&database).set("POW_MIN", 16);
    let (one, two) = (replica().start().await?, replica().start().await?);
    let client = MeshClient::plain(one.address());
    let sibling = MeshClient::plain(two.address());
    let path = format!("/room/{ROOM}");

    let free = client.post(&path, "x").await?;
    ensure!((free.status, code(&free)?.as_str()) == (402, "pow_required"), "{}", free.text());
    let price = Price::of(&free.json()?["pow"])?;
    let cheap = Price { target: u64::MAX, ..price.clone() };
    let low = loop {
        let paid = cheap.pay("POST", &path, &[b"x"])?;
        let answer = client.post(&format!("{path}?{paid}"), "x").await?;
        if answer.status == 402 {
            break answer; // now and then the first try is good enough
        }
    };
    ensure!(code(&low)? == "pow_too_low" && low.json()?["need"] == 16, "{}", low.text());

    let paid = price.pay("POST", &path, &[b"x"])?;
    let elsewhere = client.post(&format!("/room/{OTHER}?{paid}"), "x").await?;
    ensure!(elsewhere.status == 402, "bound to its room: {}", elsewhere.text());
    let changed = client.post(&format!("{path}?{paid}"), "y").await?;
    ensure!(changed.status == 402, "bound to its body: {}", changed.text());

    let target = format!("{path}?{paid}");
    let racing = (0..50).map(|at| if at % 2 == 0 { &client } else { &sibling });
    let racing = racing.map(|replica| replica.post(&target, "x"));
    let answers = futures_util::future::try_join_all(racing).await?;
    let taken = answers.iter().filter(|answer| answer.status == 202).count();
    ensure!(taken == 1, "taken {taken} times");
    for answer in answers.iter().filter(|answer| answer.status != 202) {
        ensure!(code(answer)? == "pow_replayed", "{}", answer.text());
    }

    let foreign = Database::fresh().await?;
    let foreign = node(&foreign).start().await?;
    let price = MeshClient::plain(foreign.address()).price(ROOM).await?;
    let paid = price.pay("POST", &path, &[b"x"])?;
    let refused = client.post(&format!("{path}?{paid}"), "x").await?;
    ensure!(code(&refused)? == "token_wrong_node", "{}", refused.text());
    Ok(())
}

#[tokio::test]
async fn a_busy_room_gets_dearer_and_no_other() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let node = node(&database).start().await?;
    let client = MeshClient::plain(node.address());
    let work = async |room: &str| {
        anyhow::Ok(client.get(&format!("/room/{room}")).await?.ok()?["work"].as_u64())
    };
    let before = work(ROOM).await?.context("a price")?;
    for at in 0..8 {
        ensure!(client.say(ROOM, &at.to_string()).await?.status == 202);
    }
    ensure!(work(ROOM).await? == Some(2 * before), "{:?}", work(ROOM).await?);
    ensure!(work(OTHER).await? == Some(before));
    Ok(())
}

#[tokio::test]
async fn load_raises_the_price_step_by_step() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let file = std::env::temp_dir().join(format!("mesh-load-{}", std::process::id()));
    std::fs::write(&file, "0.9 0.1")?;
    let node = node(&database).set("LOAD_FILE", file.display()).start().await?;
    let client = MeshClient::plain(node.address());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let answer = client.get("/").await?;
        let height = answer.ok()?["height"].as_u64().context("a height")?;
        ensure!(answer.header("x-mesh-height") == height.to_string());
        if height >= 10 {
            break;
        }
        ensure!(tokio::time::Instant::now() < deadline, "still {height}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    std::fs::remove_file(&file)?;
    Ok(())
}

#[tokio::test]
async fn answers_come_as_asked_and_bad_requests_get_their_code() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let node = node(&database).set("ROOM_DENY", OTHER).start().await?;
    let client = MeshClient::plain(node.address());
    let http = HttpClient::plain(node.address());
    let root = client.get("/").await?.ok()?;
    ensure!(root["token"].as_str().map(str::len) == Some(51), "{root}");
    ensure!(client.get("/ip").await?.ok()?["ip"] == "127.0.0.1");
    ensure!(client.get("/nodes").await?.ok()? == Value::Array(Vec::new()));
    let page = http.get("/").await?;
    ensure!(page.header("content-type").starts_with("text/html"), "{:?}", page.headers);
    ensure!(page.text().contains("<dt>token</dt>"));
    let typed = http.send(Method::GET, "/", &[("content-type", "json")], "".into()).await?;
    ensure!(typed.header("content-type") == "application/json");
    let asked = http.send(Method::OPTIONS, "/token", &[], "".into()).await?;
    ensure!(asked.status == 204 && asked.header("access-control-max-age") == "86400");

    let rows = [
        (Method::GET, "/nothing".to_owned(), 404, "not_found"),
        (Method::POST, "/".to_owned(), 405, "method"),
        (Method::GET, "/room/xyz?format=json".to_owned(), 400, "bad_room"),
        (Method::POST, format!("/room/{OTHER}"), 451, "room_blocked"),
        (Method::POST, format!("/room/{ROOM}?t=abc&n=0000000000000000"), 400, "bad_token_format"),
        (Method::POST, format!("/room/{ROOM}?t=abc&n=1"), 400, "bad_param"),
        (Method::GET, "/dht-get?k=00".to_owned(), 400, "bad_param"),
        (Method::GET, format!("/dht-get?k={ROOM}"), 503, "dht_unavailable"),
        (Method::POST, "/token".to_owned(), 402, "pow_required"),
    ];
    let json = [("accept", "application/json")];
    for (method, path, status, name) in rows {
        let answer = http.send(method, &path, &json, "".into()).await?;
        ensure!(
            (answer.status, code(&answer)?.as_str()) == (status, name),
            "{path}: {}",
            answer.text()
        );
        ensure!(answer.header("access-control-allow-origin") == "*", "{path}");
    }
    let path = format!("/room/{ROOM}");
    for (size, status) in [(1024, 202), (1025, 413)] {
        let body = vec![b'x'; size];
        let paid = client.price(ROOM).await?.pay("POST", &path, &[&body])?;
        let answer = client.post(&format!("{path}?{paid}"), body).await?;
        ensure!(answer.status == status, "{size}: {}", answer.text());
    }
    Ok(())
}

#[tokio::test]
async fn an_address_opens_so_many_streams_and_gets_them_back() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let node = node(&database).set("MAX_STREAMS_PER_ADDRESS", 3).start().await?;
    let client = MeshClient::plain(node.address());
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(client.listen(ROOM, "").await?);
    }
    let refused = client.listen(ROOM, "").await.err().context("one too many")?.to_string();
    ensure!(refused.starts_with("429") && refused.contains("too_many_streams"), "{refused}");
    open.pop();
    // A stream that was dropped shows with the sign of life after next, at the latest.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while client.listen(ROOM, "").await.is_err() {
        ensure!(tokio::time::Instant::now() < deadline, "the place never came back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test]
async fn credentials_are_those_coturn_computes() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let node = node(&database)
        .set("TURN_SECRET", "mesh-turn-test")
        .set("TURN_URLS", "turn:turn.example.org:3478?transport=udp")
        .set("STUN_URLS", "stun:turn.example.org:3478")
        .start()
        .await?;
    let client = MeshClient::plain(node.address());
    let price = client.get("/token").await?.ok()?;
    ensure!(price["pow"]["work"] == 1 << 12, "16 times a post: {price}");
    let paid = Price::of(&price["pow"])?.pay("POST", "/token", &[b""])?;
    let given = client.post(&format!("/token?{paid}"), "").await?.ok()?;
    let name = given["username"].as_str().context("a name")?;
    let (expiry, user) = name.split_once(':').context("two parts")?;
    ensure!(user.len() == 16 && expiry.parse::<u64>()? == given["expires"], "{given}");
    let expiry_ms = expiry.parse::<i64>()? * 1000;
    let ours = turn::mint(b"mesh-turn-test", user, Duration::ZERO, expiry_ms);
    ensure!(given["password"] == *ours.credential, "{given}");
    ensure!(given["iceServers"][1]["credential"] == given["password"], "{given}");
    Ok(())
}

#[tokio::test]
async fn a_static_pair_is_bought_as_a_credential_is() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let node = node(&database)
        .set("TURN_USER", "operator")
        .set("TURN_PASSWORD", "open sesame")
        .set("TURN_URLS", "turn:turn.example.org:3478?transport=udp")
        .set("TURN_TTL", "2h")
        .start()
        .await?;
    let client = MeshClient::plain(node.address());
    let price = client.get("/token").await?.ok()?;
    ensure!(price["available"] == true && price["ttl"] == 7_200, "{price}");
    let unpaid = client.post("/token", "").await?;
    ensure!(unpaid.status != 200, "the pair is free: {}", unpaid.text());
    let paid = Price::of(&price["pow"])?.pay("POST", "/token", &[b""])?;
    let given = client.post(&format!("/token?{paid}"), "").await?.ok()?;
    ensure!(given["username"] == "operator" && given["password"] == "open sesame", "{given}");
    ensure!(given["iceServers"][1]["username"] == "operator", "{given}");
    ensure!(given["ttl"] == 7_200 && given["expires"].is_u64(), "the same shape: {given}");
    Ok(())
}

#[tokio::test]
async fn a_secret_and_a_pair_together_fail_the_start_and_are_not_shown() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let both = node(&database).set("TURN_SECRET", "hush").set("TURN_USER", "operator");
    let refused = both.set("TURN_PASSWORD", "open sesame").start().await;
    let said = format!("{:#}", refused.err().context("it started")?);
    ensure!(said.contains("coturn takes one of the two"), "{said}");
    ensure!(!said.contains("hush") && !said.contains("sesame"), "{said}");
    Ok(())
}
