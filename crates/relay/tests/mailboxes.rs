//! The mailbox protocol over real HTTP: bad input, policies, quotas, cursors, waiting, draining.
#![allow(missing_docs, reason = "a test")]

use std::io::Write as _;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use testkit::database::Database;
use testkit::keys::Peer;
use testkit::process::Service;
use testkit::relay_client::{RelayClient, body};
use testkit::time::now_ms;

type Outcome = anyhow::Result<()>;

struct Relay {
    service: Service,
    client: RelayClient,
    database: Database,
}

impl Relay {
    async fn start(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let database = Database::fresh().await?;
        let mut builder = Service::named("relay").database(&database.url());
        for (name, value) in settings {
            builder = builder.set(name, value);
        }
        let service = builder.start().await?;
        let client = RelayClient::plain(service.address());
        Ok(Self { service, client, database })
    }

    async fn post(&self, path: &str, body: impl Into<String>) -> anyhow::Result<(u16, String)> {
        let answer = self.client.http.post(path, body.into()).await?;
        Ok((answer.status, answer.text()))
    }

    async fn store(&self, from: &Peer, id: &str, to: &Peer) -> anyhow::Result<u16> {
        Ok(self.client.store(from, id, &to.id, b"hello").await?.status)
    }
}

fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request<Full<bytes::Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "relay");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::from(body.to_owned())).expect("the headers are valid")
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_are_refused_as_specified_and_nothing_breaks() -> Outcome {
    let relay = Relay::start(&[("BODY_LIMIT", "64kb")]).await?;
    let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(70_000));
    for (body, status) in [
        ("", 400),
        ("null", 400),
        ("5", 400),
        ("{", 400),
        ("{\"id\":\"\\ud800\"}", 400),
        (&deep, 400),
        (&large, 413),
        ("{\"id\":null}", 400),
    ] {
        let (got, text) = relay.post("/relay/store", body).await?;
        assert_eq!(got, status, "{text} for {}", &body[..body.len().min(40)]);
    }
    assert_eq!(relay.post("/relay/store", "{\"id\":null}").await?.1, r#"{"error":"missing from"}"#);
    assert_eq!(relay.post("/relay/store", "[]").await?.1, r#"{"error":"missing id"}"#);
    let odd = body::store(&Peer::alice(), "m", "bob", 1, b"x").to_string();
    for (wrong, error) in [
        (odd.replace("\"m\"", "5"), "invalid id/from/to"),
        (odd.replace("86400", "1e999"), "invalid ts/ttl"),
        (odd.replace("86400", "0.5"), "invalid ts/ttl"),
        (odd.replace("\"bob\"", "\"b\\u0000b\""), "invalid id/from/to"),
        (odd.replace("\"bob\"", "\"\\udfff\""), "invalid id/from/to"),
        (odd.replace("\"eA==\"", "\"\""), "invalid payload encoding"),
        (odd.replace("\"eA==\"", "\"e A==\""), "invalid payload encoding"),
    ] {
        let (status, text) = relay.post("/relay/store", wrong.clone()).await?;
        assert_eq!((status, text), (400, format!("{{\"error\":\"{error}\"}}")), "{wrong}");
    }
    let (status, text) = relay.post("/relay/store", odd.replace("86400", "86401")).await?;
    assert_eq!((status, &*text), (401, r#"{"error":"invalid signature"}"#));
    assert_eq!(relay.client.http.get("/health").await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn methods_types_and_encodings_are_told_apart() -> Outcome {
    let relay = Relay::start(&[("BODY_LIMIT", "4kb"), ("BODY_DEADLINE", "300ms")]).await?;
    let json = ("content-type", "application/json");
    for (method, path, headers, body, status) in [
        ("DELETE", "/relay/store", vec![json], "{}", 404),
        ("GET", "/relay/store", vec![], "", 404),
        ("OPTIONS", "/relay/store", vec![], "", 200),
        ("HEAD", "/health", vec![], "", 200),
        ("POST", "/relay/probe", vec![("content-type", "text/json")], "{}", 400),
        (
            "POST",
            "/relay/probe",
            vec![("content-type", "application/json; charset=latin1")],
            "{}",
            415,
        ),
        (
            "POST",
            "/relay/probe",
            vec![("content-type", "Application/JSON; charset=\"UTF-8\"")],
            "{}",
            200,
        ),
        ("POST", "/relay/probe", vec![json, ("content-encoding", "br")], "{}", 415),
        ("POST", "/relay/probe", vec![json, ("content-encoding", "gzip")], "{}", 400),
        ("POST", "/relay/probe", vec![json], "{\"v\":1}", 400),
    ] {
        let answer = relay.client.http.start(request(method, path, &headers, body)).await?;
        assert_eq!(answer.status(), status, "{method} {path} {headers:?}");
    }
    // A body that is announced and never comes.
    let mut socket = tokio::net::TcpStream::connect(relay.service.address()).await?;
    let head = "POST /relay/probe HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    tokio::io::AsyncWriteExt::write_all(&mut socket, head.as_bytes()).await?;
    let mut answer = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut socket, &mut answer).await?;
    assert_eq!(&answer, b"HTTP/1.1 408");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_share_a_bounded_memory() -> Outcome {
    let relay = Relay::start(&[("BODY_MEMORY", "2mb")]).await?;
    let body = |length: usize| format!("{{\"x\":\"{}\"}}", "x".repeat(length));
    for _ in 0..3 {
        // More than there is for all of them; then again one that fits, so nothing stays taken.
        let answer = relay.client.http.post("/relay/probe", body(5 << 20)).await?;
        assert_eq!((answer.status, answer.header("retry-after")), (503, "2"), "{}", answer.text());
        assert_eq!(answer.text(), r#"{"error":"too many large requests"}"#);
        assert_eq!(relay.post("/relay/probe", body(1 << 20)).await?.0, 200);
    }
    // The same without a length, and inflated.
    let json = ("content-type", "application/json");
    for (length, status) in [(1 << 20, 200), (5 << 20, 503)] {
        let text = body(length);
        let frames = text.as_bytes().chunks(10_000).map(|part| {
            Ok::<_, std::convert::Infallible>(Frame::data(bytes::Bytes::copy_from_slice(part)))
        });
        let frames = StreamBody::new(futures_util::stream::iter(frames.collect::<Vec<_>>()));
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(text.as_bytes())?;
        let packed = Full::new(bytes::Bytes::from(packed.finish()?));
        for (body, encoding) in [(frames.boxed(), "identity"), (packed.boxed(), "gzip")] {
            let socket = tokio::net::TcpStream::connect(relay.service.address()).await?;
            let (mut sender, connection) = handshake(TokioIo::new(socket)).await?;
            let head = request("POST", "/relay/probe", &[json, ("content-encoding", encoding)], "");
            let exchange = sender.send_request(head.map(|_| body));
            let answer = tokio::select! {
                answer = exchange => answer?,
                ended = connection => anyhow::bail!("{ended:?}"),
            };
            assert_eq!(answer.status(), status, "{length} {encoding}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_owns_what_it_first_spoke_for() -> Outcome {
    let relay = Relay::start(&[]).await?;
    let (alice, bob, mallory) = (Peer::alice(), Peer::bob(), Peer::mallory());
    assert_eq!(relay.store(&alice, "m1", &bob).await?, 200);
    let forged = mallory.clone().with_id(alice.id.clone());
    assert_eq!(relay.store(&forged, "m2", &bob).await?, 401);
    // Bob is not known yet: anybody's ack counts, as with the original. From now on his does.
    assert_eq!(relay.store(&bob, "m3", &alice).await?, 200);
    let ack = body::ack(&mallory.clone().with_id(bob.id.clone()), "m1", now_ms());
    assert_eq!(relay.post("/relay/ack", ack.to_string()).await?.0, 401);
    assert_eq!(relay.client.fetch_ids(&bob.id, "").await?, ["m1"]);
    assert_eq!(relay.client.ack(&bob, "m1").await?.status, 200);
    assert_eq!(relay.client.fetch_ids(&bob.id, "").await?, [""; 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_members_are_dropped_except_under_open() -> Outcome {
    let (alice, bob) = (Peer::alice(), Peer::bob());
    for (policy, kept) in [("pin", false), ("open", true)] {
        let relay = Relay::start(&[("IDENTITY_POLICY", policy)]).await?;
        let mut envelope = body::store(&alice, "m", &bob.id, now_ms(), b"x");
        envelope["groupId"] = "g".into();
        assert_eq!(relay.post("/relay/store", envelope.to_string()).await?.0, 200);
        let page = relay.client.fetch(&bob.id, "").await?.json()?;
        assert_eq!(page["messages"][0].get("groupId").is_some(), kept, "{policy}");
        assert_eq!(page["messages"][0]["sig"], envelope["sig"]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_members_update_changes_nothing() -> Outcome {
    let relay = Relay::start(&[]).await?;
    let (alice, bob, carol) = (Peer::alice(), Peer::bob(), Peer::carol());
    let first = body::members_update(&alice, "u1", "g", &[&alice.id, &bob.id], 1_000).to_string();
    let second =
        body::members_update(&alice, "u2", "g", &[&alice.id, &carol.id], 2_000).to_string();
    for update in [&first, &second, &first] {
        let path = "/relay/group/members/update";
        let (status, text) = relay.post(path, update.clone()).await?;
        assert_eq!(status, 200, "{text}");
    }
    let to_bob = relay.client.group_store(&alice, "m1", "g", &[&bob.id], b"x").await?;
    assert_eq!(to_bob.status, 403);
    assert_eq!(to_bob.json()?["unauthorizedRecipients"], json!([bob.id]));
    assert_eq!(relay.client.group_store(&alice, "m2", "g", &[&carol.id], b"x").await?.status, 200);
    assert_eq!(relay.client.group_store(&bob, "m3", "g", &[&carol.id], b"x").await?.status, 403);
    assert_eq!(relay.client.members_update(&bob, "u3", "g", &[&bob.id]).await?.status, 409);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_tells_the_sender() -> Outcome {
    let relay = Relay::start(&[("MAILBOX_MESSAGES", "3"), ("SENDER_MESSAGES", "1")]).await?;
    let (alice, bob, carol) = (Peer::alice(), Peer::bob(), Peer::carol());
    for id in ["a", "b", "c"] {
        assert_eq!(relay.store(&alice, id, &bob).await?, 200);
    }
    let refused = relay.client.store(&alice, "d", &bob.id, b"x").await?;
    assert_eq!((refused.status, &*refused.text()), (429, r#"{"error":"mailbox full"}"#));
    assert_eq!(refused.header("retry-after"), "60");
    assert_eq!(
        relay.client.group_store(&alice, "g", "g", &[&bob.id, &carol.id], b"x").await?.status,
        429
    );
    assert_eq!(relay.client.fetch_ids(&carol.id, "").await?, [""; 0], "all or nothing");
    assert_eq!(relay.client.ack(&bob, "a").await?.status, 200);
    // Full counts as full for a second.
    let deadline = Instant::now() + Duration::from_secs(10);
    while relay.store(&carol, "e", &bob).await? != 200 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for round in 0..20 {
        relay.store(&alice, &format!("x{round}"), &carol).await?;
    }
    let refused = relay.client.store(&alice, "y", &carol.id, b"x").await?;
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").parse::<u32>()? >= 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_stay_valid_and_waiting_ends_with_an_envelope() -> Outcome {
    let relay = Relay::start(&[]).await?;
    let (alice, bob) = (Peer::alice(), Peer::bob());
    let empty = relay.client.fetch(&bob.id, "&after=").await?.json()?;
    assert_eq!((&empty["messages"], &empty["next"]), (&json!([]), &json!("p0")));
    let waiting = RelayClient::plain(relay.service.address());
    let path = format!("{}&wait=20", bob.id);
    let (page, stored) = tokio::join!(waiting.fetch(&path, ""), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        (Instant::now(), relay.store(&alice, "m1", &bob).await)
    });
    let (stored_at, status) = stored;
    assert_eq!(status?, 200);
    assert!(stored_at.elapsed() < Duration::from_secs(5), "woken, not timed out");
    let page = page?.json()?;
    assert_eq!(page["messages"][0]["id"], "m1");
    let next = page["next"].as_str().unwrap().to_owned();
    assert_eq!(relay.client.ack(&bob, "m1").await?.status, 200);
    relay.store(&alice, "m2", &bob).await?;
    let path = format!("&wait=5&after={next}");
    assert_eq!(relay.client.fetch_ids(&bob.id, &path).await?, ["m2"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wake_up_crosses_replicas() -> Outcome {
    let relay = Relay::start(&[]).await?;
    let other = Service::named("relay").database(&relay.database.url()).start().await?;
    let (alice, bob) = (Peer::alice(), Peer::bob());
    let there = RelayClient::plain(other.address());
    let path = format!("{}&wait=30", bob.id);
    let (page, stored) = tokio::join!(there.fetch(&path, ""), async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        relay.store(&alice, "m1", &bob).await
    });
    assert_eq!((page?.json()?["messages"][0]["id"].clone(), stored?), (json!("m1"), 200));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_resume_and_end_with_the_drain() -> Outcome {
    let mut relay = Relay::start(&[]).await?;
    let (alice, bob) = (Peer::alice(), Peer::bob());
    relay.store(&alice, "m1", &bob).await?;
    let reader = RelayClient::plain(relay.service.address());
    let path = format!("/relay/stream?to={}", bob.id);
    let mut stream = reader.http.start(request("GET", &path, &[], "")).await?.into_body();
    let mut seen = String::new();
    let mut read_until = async |seen: &mut String, wanted: &str| -> Outcome {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while !seen.contains(wanted) {
            let frame = tokio::time::timeout_at(deadline, stream.frame()).await?;
            let Some(frame) = frame else { anyhow::bail!("ended after {seen}") };
            seen.push_str(str::from_utf8(frame?.data_ref().unwrap())?);
        }
        Ok(())
    };
    read_until(&mut seen, "\"m1\"").await?;
    relay.store(&alice, "m2", &bob).await?;
    read_until(&mut seen, "\"m2\"").await?;
    let first = seen.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    relay.service.ask_to_drain();
    read_until(&mut seen, "event: draining").await?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while relay.service.is_running() {
        assert!(Instant::now() < deadline, "the stream holds the drain up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    relay.service.start_again().await?;
    let resumed = RelayClient::plain(relay.service.address());
    let headers = [("last-event-id", first.as_str())];
    let mut stream = resumed.http.start(request("GET", &path, &headers, "")).await?.into_body();
    let mut seen = String::new();
    while !seen.contains("\n\n") || !seen.contains("data: {") {
        let frame = tokio::time::timeout(Duration::from_secs(20), stream.frame()).await?;
        seen.push_str(str::from_utf8(frame.expect("open")?.data_ref().unwrap())?);
    }
    assert!(seen.contains("\"m2\"") && !seen.contains("\"m1\""), "{seen}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_acks_has_one_signature() -> Outcome {
    let relay = Relay::start(&[]).await?;
    let (alice, bob) = (Peer::alice(), Peer::bob());
    for id in ["a", "b", "c"] {
        relay.store(&alice, id, &bob).await?;
    }
    let ts = now_ms();
    let sig = bob.sign(format!("ack-batch|2|a,c|{0}|{0}|{ts}", bob.id).as_bytes());
    let batch = json!({"ids": ["a", "c"], "from": bob.id, "to": bob.id, "ts": ts, "sig": sig,
                       "signingPub": bob.public()});
    let (status, text) = relay.post("/relay/ack/batch", batch.to_string()).await?;
    assert_eq!((status, &*text), (200, r#"{"ok":true,"acked":2}"#));
    assert_eq!(relay.client.fetch_ids(&bob.id, "").await?, ["b"]);
    let mut wrong = batch.clone();
    wrong["ids"] = json!(["a", "b"]);
    assert_eq!(relay.post("/relay/ack/batch", wrong.to_string()).await?.0, 401);
    wrong["ids"] = json!([]);
    assert_eq!(relay.post("/relay/ack/batch", wrong.to_string()).await?.0, 400);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_wants_signed_fetches_recent_times_and_claims_by_members() -> Outcome {
    let relay = Relay::start(&[("IDENTITY_POLICY", "strict")]).await?;
    let (alice, bob, mallory) = (Peer::alice(), Peer::bob(), Peer::mallory());
    assert_eq!(relay.store(&alice, "m", &bob).await?, 200);
    assert_eq!(relay.client.fetch(&bob.id, "").await?.status, 401);
    let signed = async |by: &Peer, ts: i64| -> anyhow::Result<u16> {
        let sig = by.sign(format!("fetch|{}|{ts}", bob.id).as_bytes());
        let value = format!("PeerLink-Ed25519 key={},ts={ts},sig={sig}", by.public());
        let path = format!("/relay/fetch?to={}", bob.id);
        let headers = [("authorization", value.as_str())];
        Ok(relay.client.http.start(request("GET", &path, &headers, "")).await?.status().as_u16())
    };
    assert_eq!(signed(&bob, now_ms()).await?, 200);
    assert_eq!(signed(&bob, now_ms() - 3_600_000).await?, 401);
    assert_eq!(signed(&mallory, now_ms()).await?, 401);
    let old = body::store(&alice, "old", &bob.id, now_ms() - 3_600_000, b"x");
    assert_eq!(relay.post("/relay/store", old.to_string()).await?.0, 400);
    assert_eq!(relay.client.group_store(&alice, "g1", "g", &[&bob.id], b"x").await?.status, 200);
    let squat = relay.client.members_update(&mallory, "u", "g", &[&mallory.id]).await?;
    assert_eq!(squat.status, 403);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() -> Outcome {
    let mut relay = Relay::start(&[]).await?;
    let (alice, bob) = (Peer::alice(), Peer::bob());
    let mut acknowledged = Vec::new();
    for round in 0..40 {
        let id = format!("m{round:02}");
        assert_eq!(relay.store(&alice, &id, &bob).await?, 200);
        acknowledged.push(id);
    }
    assert_eq!(relay.client.ack(&bob, "m00").await?.status, 200);
    relay.service.kill();
    relay.service.start_again().await?;
    relay.client = RelayClient::plain(relay.service.address());
    assert_eq!(relay.client.fetch_ids(&bob.id, "").await?, acknowledged[1..]);
    let again = relay.client.store(&alice, "m00", &bob.id, b"x").await?.json()?;
    assert_eq!(again, json!({"ok": true, "stored": false, "duplicate": true}) as Value);
    Ok(())
}
