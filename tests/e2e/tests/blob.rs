//! Blobs through the real relay: large ones in little memory, and what a kill leaves of an upload.
//!
//! `E2E_BLOB_MIB` sets the size of the large blob; 128 when unset, 1024 is the largest an app offers.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt as _;
use proto::base64::Decoder;
use serde_json::json;
use testkit::database::Database;
use testkit::http_client::Answer;
use testkit::keys::Peer;
use testkit::process::Service;
use testkit::relay_client::{RelayClient, body::Blob};
use testkit::time::now_ms;

const MIB: usize = 1 << 20;

/// What the whole process may grow by while a blob passes, in KiB.
const GROWTH_MAX_KIB: u64 = 32 * 1024;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// Bytes that do not compress and do not repeat.
fn content(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}

fn blob(id: &str) -> Blob<'_> {
    Blob { id, group: "group:1", file_name: "a b.bin", mime_type: "image/png", ts: now_ms() }
}

async fn relay(settings: &[(&str, &str)]) -> anyhow::Result<(Database, Service, RelayClient)> {
    let database = Database::fresh().await?;
    let mut builder = Service::named("relay").database(&database.url());
    for (name, value) in settings {
        builder = builder.set(name, value);
    }
    let service = builder.start().await?;
    let client = RelayClient::plain(service.address());
    Ok((database, service, client))
}

/// A line of the process's memory figures, in KiB.
fn memory_kib(pid: u32, line: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let found = status.lines().find_map(|text| text.strip_prefix(line)).context("no such line")?;
    Ok(found.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?)
}

/// Makes the highest memory use so far that of now.
fn forget_peak(pid: u32) -> anyhow::Result<()> {
    Ok(std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

/// The path under which the raw chunk `index` of `total` is put.
fn raw_chunk(id: &str, from: &Peer, index: usize, total: usize) -> String {
    let from = &from.id;
    format!(
        "/relay/blob/upload/chunk?id={id}&from={from}&groupId=group%3A1&chunkIndex={index}\
         &totalChunks={total}"
    )
}

async fn put_raw(
    client: &RelayClient,
    path: &str,
    bytes: impl Into<Bytes>,
) -> anyhow::Result<Answer> {
    let kind = [("content-type", "application/octet-stream")];
    client.http.send(Method::PUT, path, &kind, bytes.into()).await
}

/// Uploads in chunks of 1 MiB, five at a time, as the app does.
async fn upload_as_the_app(
    service: &Service,
    peer: &Peer,
    what: &Blob<'_>,
    content: &[u8],
) -> anyhow::Result<()> {
    let total = content.len().div_ceil(MIB);
    let lane = async |first: usize| {
        let client = RelayClient::plain(service.address());
        for index in (first..total).step_by(5) {
            let chunk = &content[index * MIB..content.len().min((index + 1) * MIB)];
            let body = what.chunk(peer, index, total, chunk);
            client.post("/relay/blob/upload/chunk", &body).await?.ok()?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(lane(0), lane(1), lane(2), lane(3), lane(4))?;
    let client = RelayClient::plain(service.address());
    let done = what.complete(peer, total, content);
    let done = client.post("/relay/blob/upload/complete", &done).await?.ok()?;
    ensure!(done == json!({"ok": true, "blobId": what.id, "duplicate": false}), "{done}");
    Ok(())
}

/// Reads a document as it arrives and compares its payload.
async fn download(client: &RelayClient, id: &str, expected: &[u8]) -> anyhow::Result<()> {
    let request = http::Request::get(format!("/relay/blob/{id}")).header("host", "relay");
    let answer = client.http.start(request.body(Default::default())?).await?;
    ensure!(answer.status() == 200, "{}", answer.status());
    let declared = answer.headers()["content-length"].to_str()?.parse::<usize>()?;
    let mut body = answer.into_body();
    let (mut received, mut compared) = (0, 0);
    let (mut head, mut decoder) = (Vec::new(), Decoder::new());
    let mut in_payload = false;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        received += data.len();
        let mut text = &data[..];
        if !in_payload {
            head.extend_from_slice(text);
            let start = b"\"payload\":\"";
            let Some(at) = head.windows(start.len()).position(|window| window == start) else {
                continue;
            };
            text = &text[text.len() - (head.len() - at - start.len())..];
            in_payload = true;
        }
        // The quote and brace at the end are no base64 and are passed over.
        let mut bytes = Vec::new();
        decoder.feed(text, &mut bytes);
        ensure!(expected[compared..].starts_with(&bytes), "differs after byte {compared}");
        compared += bytes.len();
    }
    ensure!(received == declared, "{received} bytes of {declared}");
    let mut last = Vec::new();
    decoder.finish(&mut last);
    ensure!(expected[compared..] == last, "differs after byte {compared}");
    compared += last.len();
    ensure!(compared == expected.len(), "{compared} payload bytes of {}", expected.len());
    Ok(())
}

async fn raw_download(client: &RelayClient, id: &str, expected: &[u8]) -> anyhow::Result<()> {
    let request = http::Request::get(format!("/relay/blob/{id}/raw")).header("host", "relay");
    let mut body = client.http.start(request.body(Default::default())?).await?.into_body();
    let mut compared = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        ensure!(expected[compared..].starts_with(&data), "differs after byte {compared}");
        compared += data.len();
    }
    ensure!(compared == expected.len(), "{compared} bytes of {}", expected.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_blob_passes_up_and_down_in_little_memory() -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a test has no service::run to read settings")]
    let size = std::env::var("E2E_BLOB_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(128);
    let (_database, service, client) = relay(&[]).await?;
    let (peer, content) = (Peer::random(), content(size * MIB + 12_345));
    // What the process needs once, it has after a small one.
    upload_as_the_app(&service, &peer, &blob("small"), &content[..8 * MIB]).await?;
    download(&client, "small", &content[..8 * MIB]).await?;
    let pid = service.pid();
    eprintln!("warm");
    forget_peak(pid)?;
    let before = memory_kib(pid, "VmRSS")?;
    let started = std::time::Instant::now();
    let took = |what: &str| {
        eprintln!("{what}: {:.1} s", started.elapsed().as_secs_f64());
    };
    upload_as_the_app(&service, &peer, &blob("large"), &content).await?;
    took("chunks up");
    download(&client, "large", &content).await?;
    took("document down");
    put_raw(&client, &raw_chunk("raw", &peer, 0, 1), content.clone()).await?.ok()?;
    let done = blob("raw").complete(&peer, 1, &content);
    client.post("/relay/blob/upload/complete", &done).await?.ok()?;
    took("bytes up");
    raw_download(&client, "raw", &content).await?;
    took("bytes down");
    let peak = memory_kib(pid, "VmHWM")?;
    let growth = peak.saturating_sub(before);
    eprintln!("{size} MiB: {before} KiB before, peak {peak} KiB, growth {growth} KiB");
    ensure!(growth < GROWTH_MAX_KIB, "grew by {growth} KiB");
    Ok(())
}

#[tokio::test]
async fn an_upload_goes_on_after_kill_9() -> anyhow::Result<()> {
    let (_database, mut service, client) = relay(&[]).await?;
    let (peer, content) = (Peer::random(), content(2 * MIB + 7));
    let what = blob("blob:killed");
    for index in 0..2 {
        let chunk = what.chunk(&peer, index, 3, &content[index * MIB..(index + 1) * MIB]);
        client.post("/relay/blob/upload/chunk", &chunk).await?.ok()?;
        service.kill();
        service.start_again().await?;
    }
    let path = raw_chunk("blob%3Akilled", &peer, 2, 3);
    let last = put_raw(&client, &path, content[2 * MIB..].to_vec()).await?;
    ensure!(last.ok()?["received"] == 3);
    let done = what.complete(&peer, 3, &content);
    client.post("/relay/blob/upload/complete", &done).await?.ok()?;
    service.kill();
    service.start_again().await?;
    download(&client, "blob:killed", &content).await
}

#[tokio::test]
async fn bytes_are_served_in_ranges_and_never_as_a_page() -> anyhow::Result<()> {
    let (_database, _service, client) = relay(&[]).await?;
    let (peer, content) = (Peer::random(), content(300_000));
    client.post("/relay/blob/upload", &blob("b").upload(&peer, &content)).await?.ok()?;
    let get = async |headers: &[(&str, &str)]| {
        client.http.send(Method::GET, "/relay/blob/b/raw", headers, Bytes::new()).await
    };
    let whole = get(&[]).await?;
    ensure!(whole.status == 200 && whole.body == content, "{}", whole.status);
    ensure!(whole.header("content-type") == "application/octet-stream");
    ensure!(whole.header("x-content-type-options") == "nosniff");
    ensure!(whole.header("content-security-policy").starts_with("sandbox"));
    ensure!(whole.header("content-disposition").starts_with("attachment; filename=\"a b.bin\""));
    let tag = whole.header("etag").to_owned();

    let part = get(&[("range", "bytes=262100-262200"), ("if-range", &tag)]).await?;
    ensure!(part.status == 206 && part.body == content[262_100..=262_200], "{}", part.status);
    ensure!(part.header("content-range") == "bytes 262100-262200/300000");
    let changed = get(&[("range", "bytes=1-2"), ("if-range", "\"other\"")]).await?;
    ensure!(changed.status == 200 && changed.body.len() == content.len());
    let beyond = get(&[("range", "bytes=300000-")]).await?;
    ensure!(beyond.status == 416 && beyond.header("content-range") == "bytes */300000");
    ensure!(get(&[("if-none-match", &tag)]).await?.status == 304);
    let head = client.http.send(Method::HEAD, "/relay/blob/b/raw", &[], Bytes::new()).await?;
    ensure!(head.status == 200 && head.header("content-length") == "300000");
    let head = client.http.send(Method::HEAD, "/relay/blob/b", &[], Bytes::new()).await?;
    let document = client.blob("b").await?;
    ensure!(head.header("content-length") == document.body.len().to_string());

    let page = put_raw(&client, &raw_chunk("c", &peer, 0, 1), vec![0; 9]).await?;
    ensure!(page.ok()?["received"] == 1);
    let path = raw_chunk("c", &peer, 0, 1);
    let other = client.http.send(Method::PUT, &path, &JSON, Bytes::from_static(b"{}")).await?;
    ensure!(other.status == 415, "{}", other.status);
    Ok(())
}

#[tokio::test]
async fn strangers_upload_nothing_to_a_group_whose_members_are_known() -> anyhow::Result<()> {
    for (setting, status) in [("known", 403), ("off", 200)] {
        let (_database, _service, client) = relay(&[("BLOB_MEMBERSHIP", setting)]).await?;
        let (owner, stranger) = (Peer::random(), Peer::random());
        let early = blob("early");
        client.post("/relay/blob/upload/chunk", &early.chunk(&stranger, 0, 1, b"x")).await?.ok()?;
        client.members_update(&owner, "u1", "group:1", &[&owner.id]).await?.ok()?;
        let upload = blob("b").upload(&stranger, b"x");
        let chunk = blob("c").chunk(&stranger, 0, 1, b"x");
        let complete = early.complete(&stranger, 1, b"x");
        for (path, body) in [
            ("/relay/blob/upload", upload),
            ("/relay/blob/upload/chunk", chunk),
            ("/relay/blob/upload/complete", complete),
        ] {
            let answer = client.post(path, &body).await?;
            ensure!(answer.status == status, "{setting} {path}: {}", answer.text());
        }
        let raw = put_raw(&client, &raw_chunk("d", &stranger, 0, 1), vec![1]).await?;
        ensure!(raw.status == status, "{setting}: {}", raw.text());
        client.post("/relay/blob/upload", &blob("m").upload(&owner, b"x")).await?.ok()?;
    }
    Ok(())
}

#[tokio::test]
async fn names_that_speak_of_a_peer_and_quotas_are_kept() -> anyhow::Result<()> {
    let settings =
        [("BLOB_SENDER_BYTES", "1000"), ("BLOB_MAX_BYTES", "2000"), ("BLOB_MISSES", "1")];
    let (_database, service, client) = relay(&settings).await?;
    let (alice, mallory) = (Peer::random(), Peer::random());
    let id = format!("prekey:{}", alice.id);
    let group = format!("profile:{}", alice.id);
    let planted = Blob { group: &group, ..blob(&id) };
    let answer = client.post("/relay/blob/upload", &planted.upload(&mallory, b"evil")).await?;
    ensure!(answer.status == 403, "{}", answer.text());
    client.post("/relay/blob/upload", &planted.upload(&alice, b"keys")).await?.ok()?;

    let full = client.post("/relay/blob/upload", &blob("q").upload(&alice, &[0; 997])).await?;
    ensure!(full.status == 429 && full.header("retry-after") == "600", "{}", full.text());
    let large = client.post("/relay/blob/upload", &blob("l").upload(&alice, &[0; 2001])).await?;
    ensure!(large.status == 413, "{}", large.text());
    let large = put_raw(&client, &raw_chunk("l", &alice, 0, 1), vec![0; 2001]).await?;
    ensure!(large.status == 413, "{}", large.text());

    let mut statuses = Vec::new();
    for guess in 0..70 {
        statuses.push(client.blob(&format!("blob:{guess}")).await?.status);
    }
    ensure!(statuses[0] == 404 && statuses.contains(&429), "{statuses:?}");
    let barred = client.blob(&id).await?;
    ensure!(barred.status == 429, "a barred address is told of hits");
    ensure!(service.metric("relay_blob_refused_total").await? >= 3.0);
    tokio::time::timeout(Duration::from_secs(60), async {
        while client.blob(&id).await?.status == 429 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        anyhow::Ok(())
    })
    .await?
}
