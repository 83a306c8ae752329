//! Possession of a fingerprint: signed challenge, secret of the approval, SDP.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use base64::{Engine, engine::general_purpose::STANDARD};
use common::{Peer, Server};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SigningKey};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use testkit::database::Database;

struct Device {
    key: KeyPair,
    certificate: Vec<u8>,
    fp: String,
}

impl Device {
    fn new(kind: &'static rcgen::SignatureAlgorithm) -> Self {
        let key = KeyPair::generate_for(kind).unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        let certificate = certificate.der().to_vec();
        let digest = Sha256::digest(&certificate);
        let fp = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        Self { key, certificate, fp }
    }

    fn prove(&self, host: &str, nonce: &str) -> Value {
        let statement = ["peerbook-pop-v1", host, &self.fp, nonce].join("\0");
        let signature = self.key.sign(statement.as_bytes()).unwrap();
        json!({
            "command": "prove",
            "cert": STANDARD.encode(&self.certificate),
            "sig": STANDARD.encode(signature),
        })
    }

    fn sdp(&self) -> String {
        let pairs: Vec<&str> = (0..32).map(|at| self.fp.get(at * 2..at * 2 + 2).unwrap()).collect();
        format!("v=0\r\na=fingerprint:sha-256 {}\r\n", pairs.join(":"))
    }
}

const HOST: &str = "book.example.org";

async fn server() -> (Database, Server) {
    let database = Database::fresh().await.unwrap();
    let settings = ["--public-url", "https://book.example.org"];
    let server = Server::start(&database.pool().await.unwrap(), &settings).await;
    (database, server)
}

async fn demand_proof(server: &Server, uid: &str, policy: &str, fp: &str) {
    sqlx::query("UPDATE peerbook.account SET require_proof = $1")
        .bind(policy)
        .execute(&server.pool)
        .await
        .unwrap();
    server.change_elsewhere(uid, "needs_proof = needs_proof", fp).await;
}

async fn drain_greeting(peer: &mut Peer) {
    assert_eq!(peer.recv().await["code"], 200);
    assert!(peer.recv().await["peers"].is_array());
}

#[tokio::test]
async fn where_proof_is_demanded_only_the_keys_holder_is_let_in() {
    let (_database, server) = server().await;
    for kind in [&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519] {
        let (device, thief) = (Device::new(kind), Device::new(kind));
        let uid = server.user("j@x.org", &[&device.fp]).await;
        demand_proof(&server, &uid, "all", &device.fp).await;
        let mut peer = server.open(&format!("fp={}", device.fp)).await;
        let told = peer.recv().await;
        assert_eq!(
            (&told["code"], &told["text"]),
            (&json!(401), &json!("Unproven peer, please prove its fingerprint"))
        );
        let nonce = told["nonce"].as_str().unwrap();
        // Another's key, another host, another connection's nonce.
        for wrong in [
            thief.prove(HOST, nonce),
            device.prove("evil.example", nonce),
            device.prove(HOST, "another nonce"),
        ] {
            assert_eq!(peer.ask(&wrong).await["text"], "Proof is not valid");
        }
        assert_eq!(peer.ask(&json!({"command": "get_list"})).await["code"], 401);
        peer.send(&device.prove(HOST, nonce)).await;
        drain_greeting(&mut peer).await;
        assert_eq!(peer.recv().await["peer_update"]["online"], true);
        assert_eq!(peer.recv().await["code"], 202);
        let proven: Option<String> =
            sqlx::query_scalar("SELECT proof FROM peerbook.peer WHERE fp = $1")
                .bind(&device.fp)
                .fetch_one(&server.pool)
                .await
                .unwrap();
        assert_eq!(proven.as_deref(), Some("challenge"));
        sqlx::query("DELETE FROM peerbook.account").execute(&server.pool).await.unwrap();
    }
}

#[tokio::test]
async fn tightening_the_policy_closes_what_is_not_proven() {
    let (_database, server) = server().await;
    let uid = server.user("j@x.org", &["A"]).await;
    let mut a = server.enter("A").await;
    demand_proof(&server, &uid, "new", "A").await;
    a.has_nothing().await;
    demand_proof(&server, &uid, "all", "A").await;
    assert_eq!(u16::from(a.closed().await.1.unwrap().code), 1008);
}

#[tokio::test]
async fn the_secret_of_the_approval_is_demanded_once_it_was_used() {
    let (_database, server) = server().await;
    server.user("j@x.org", &["A"]).await;
    let mut a = server.enter("A").await;
    let mut new = server.open("fp=N&email=j%40x.org").await;
    assert_eq!(new.recv().await["code"], 401);
    a.send(&json!({"command": "approve", "fp": "N"})).await;
    let token = new.recv().await["token"].as_str().unwrap().to_owned();
    new.close().await;
    // A client that knows nothing of it goes on as before.
    server.enter("N").await.close().await;
    let mut holder = server.open(&format!("fp=N&token={token}")).await;
    drain_greeting(&mut holder).await;
    let mut thief = server.open("fp=N").await;
    assert_eq!(thief.recv().await["text"], "Unproven peer, please prove its fingerprint");
    assert_eq!(thief.ask(&json!({"command": "prove", "token": "guess"})).await["code"], 401);
    thief.send(&json!({"command": "prove", "token": token})).await;
    drain_greeting(&mut thief).await;
}

#[tokio::test]
async fn a_proven_connection_alone_receives_under_its_fingerprint() {
    let (_database, server) = server().await;
    let device = Device::new(&PKCS_ECDSA_P256_SHA256);
    server.user("j@x.org", &["A", &device.fp]).await;
    let mut eavesdropper = server.enter(&device.fp).await;
    let mut real = server.open(&format!("fp={}", device.fp)).await;
    let nonce = real.recv().await["nonce"].as_str().unwrap().to_owned();
    assert!(real.recv().await["peers"].is_array());
    real.recv().await;
    assert_eq!(real.ask(&device.prove(HOST, &nonce)).await["code"], 202);
    let mut a = server.enter("A").await;
    assert_eq!(eavesdropper.recv().await["source_fp"], "A");
    assert_eq!(real.recv().await["source_fp"], "A");
    a.send(&json!({"target": device.fp, "offer": "secret"})).await;
    assert_eq!(real.recv().await["offer"], "secret");
    eavesdropper.has_nothing().await;
}

#[tokio::test]
async fn an_offer_with_anothers_fingerprint_is_not_passed_on() {
    let (_database, server) = server().await;
    let (device, other) = (Device::new(&PKCS_ED25519), Device::new(&PKCS_ED25519));
    server.user("j@x.org", &[&device.fp, "B"]).await;
    let mut sender = server.enter(&device.fp).await;
    let mut target = server.enter("B").await;
    sender.recv().await;
    let offer = |sdp: String| json!({"target": "B", "offer": {"type": "offer", "sdp": sdp}});
    let refused = sender.ask(&offer(other.sdp())).await;
    assert_eq!(refused, json!({"code": 401, "text": "Fingerprint in the SDP is not the sender's"}));
    let encoded = STANDARD.encode(offer(other.sdp())["offer"].to_string());
    assert_eq!(sender.ask(&json!({"target": "B", "offer": encoded})).await["code"], 401);
    sender.send(&offer(device.sdp())).await;
    assert_eq!(target.recv().await["offer"]["sdp"], device.sdp());
}

#[tokio::test]
async fn a_tls_client_certificate_proves_its_fingerprint() {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let database = Database::fresh().await.unwrap();
    let pool = database.pool().await.unwrap();
    let cx = service::Context::for_tests();
    let directory = std::env::temp_dir().join(format!("book-tls-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (directory.join("cert"), directory.join("key"));
    std::fs::write(&cert, own.cert.pem()).unwrap();
    std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    let listen = edge::ListenArgs {
        tls_cert: Some(cert),
        tls_key: Some(key),
        ..edge::ListenArgs::at("127.0.0.1:0")
    };
    let listener = edge::bind_asking(&listen, &cx).await.unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    let args = ["--listen", "127.0.0.1:0", "--database-url", "postgres:///unused"];
    let server = Server::start_on(cx, listener, &pool, peerbook::Config::from_args(&args));
    let device = Device::new(&PKCS_ECDSA_P256_SHA256);
    let uid = server.user("j@x.org", &[&device.fp]).await;
    demand_proof(&server, &uid, "all", &device.fp).await;
    let greeted = async |certificate: Option<&Device>| {
        let connector = tokio_rustls::TlsConnector::from(testkit::tls::showing(
            certificate.map(|device| (device.certificate.clone(), device.key.serialize_der())),
        ));
        let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
        let stream = connector.connect(name, stream).await.unwrap();
        let request = format!("wss://localhost/ws?fp={}", device.fp).into_client_request().unwrap();
        let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        let first = futures_util::StreamExt::next(&mut socket).await.unwrap().unwrap();
        serde_json::from_str::<Value>(first.to_text().unwrap()).unwrap()
    };
    assert_eq!(greeted(Some(&device)).await["code"], 200);
    let other = Device::new(&PKCS_ECDSA_P256_SHA256);
    assert_eq!(greeted(Some(&other)).await["code"], 401);
    assert_eq!(greeted(None).await["code"], 401);
}
