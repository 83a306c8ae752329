//! The public port: who gets in, by which bytes, for how long.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod common;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use common::{HANDSHAKE, PATIENCE, Raw, http, limits, local, masked, soon, start};
use edge::{ListenArgs, ProxyProtocol};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const WHO: &str = "GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

fn behind_proxy(mode: ProxyProtocol) -> ListenArgs {
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    ListenArgs { trusted_proxies, proxy_protocol: mode, ..local() }
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, family]);
    header.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    header.extend(body);
    header
}

async fn answer_to(address: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut tcp = TcpStream::connect(address).await.unwrap();
    for piece in pieces {
        tcp.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut answer = String::new();
    let _ = soon(tcp.read_to_string(&mut answer)).await;
    answer
}

#[tokio::test]
async fn proxy_headers_name_the_client() {
    let server = start(behind_proxy(ProxyProtocol::Accept), limits()).await;
    let v4 = v2(1, 0x11, &[203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x34, 1, 187]);
    let mut v6_body = [0; 36];
    v6_body[..4].copy_from_slice(&[0x20, 1, 0xD, 0xB8]);
    let v6 = v2(1, 0x21, &v6_body);
    let v1 = b"PROXY TCP4 198.51.100.7 10.0.0.1 4321 443\r\n".to_vec();
    let cases: [(&[u8], &str); 6] = [
        (&v4, "203.0.113.9 false"),
        (&v6, "2001:db8:: false"),
        (&v1, "198.51.100.7 false"),
        (&v2(0, 0, &[]), "127.0.0.1 false"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1 false"),
        (b"", "127.0.0.1 false"),
    ];
    for (header, client) in cases {
        let answer = answer_to(server.address, &[header, WHO.as_bytes()]).await;
        assert!(answer.ends_with(client), "{header:?}: {answer}");
        let (a, b) = header.split_at(header.len() / 3);
        let answer = answer_to(server.address, &[a, b, WHO.as_bytes()]).await;
        assert!(answer.ends_with(client), "in pieces: {header:?}: {answer}");
    }
    let post = WHO.replace("GET", "POST");
    let answer = answer_to(server.address, &[&post.as_bytes()[..2], &post.as_bytes()[2..]]).await;
    assert!(answer.ends_with("127.0.0.1 false"), "a method that begins with P: {answer}");
}

#[tokio::test]
async fn broken_and_missing_proxy_headers_are_refused() {
    let server = start(behind_proxy(ProxyProtocol::Require), limits()).await;
    let cases: [&[u8]; 5] = [
        WHO.as_bytes(),
        b"PROXY TCP4 300.1.1.1 10.0.0.1 4321 443\r\n",
        &[b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat(),
        &v2(1, 0x11, &[1, 2, 3]),
        &[b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xFF\xFF".as_slice(), &[0; 64]].concat(),
    ];
    for header in cases {
        assert_eq!(answer_to(server.address, &[header]).await, "", "{header:?}");
    }
    assert_eq!(
        server.metric("edge_connections_refused_total{reason=\"proxy_header\"}"),
        cases.len() as u64
    );
}

#[tokio::test]
async fn a_strangers_proxy_header_is_not_believed() {
    let args = ListenArgs { trusted_proxies: Vec::new(), ..behind_proxy(ProxyProtocol::Accept) };
    let server = start(args, limits()).await;
    let header = b"PROXY TCP4 198.51.100.7 10.0.0.1 4321 443\r\n";
    let answer = answer_to(server.address, &[header, WHO.as_bytes()]).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[tokio::test]
async fn forwarded_for_counts_only_from_trusted_proxies() {
    let request = WHO.replace("Host: x", "X-Forwarded-For: 1.1.1.1, 203.0.113.9\r\nHost: x");
    let trusting = start(behind_proxy(ProxyProtocol::Off), limits()).await;
    assert!(http(trusting.address, &request).await.ends_with("203.0.113.9 false"));
    let wary = start(local(), limits()).await;
    assert!(http(wary.address, &request).await.ends_with("127.0.0.1 false"));
}

#[tokio::test]
async fn both_address_families_reach_one_port() {
    let server = start(ListenArgs::at("[::]:0"), limits()).await;
    let port = server.address.port();
    let answer = http(SocketAddr::from(([127, 0, 0, 1], port)), WHO).await;
    assert!(answer.ends_with("127.0.0.1 false"), "not ::ffff:127.0.0.1: {answer}");
    if server.address.is_ipv6() {
        let answer = http(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port)), WHO).await;
        assert!(answer.ends_with("::1 false"), "{answer}");
    }
}

#[tokio::test]
async fn a_taken_port_fails_the_start() {
    let server = start(local(), limits()).await;
    let again = ListenArgs::at(server.address.to_string());
    assert!(edge::bind(&again, &service::Context::for_tests()).await.is_err());
}

#[tokio::test]
async fn connections_have_limits_in_total_and_by_address() {
    let args = ListenArgs { max_connections_per_address: 2, max_connections: 3, ..local() };
    let server = start(args, limits()).await;
    let one = Raw::connect(server.address).await;
    let _two = Raw::connect(server.address).await;
    let mut third = TcpStream::connect(server.address).await.unwrap();
    let _ = third.write_all(HANDSHAKE.as_bytes()).await;
    assert!(soon(third.read_u8()).await.is_err(), "the third is closed at once");
    assert_eq!(server.metric("edge_connections_refused_total{reason=\"address_limit\"}"), 1);
    drop((one, third));
    let since = Instant::now();
    loop {
        let mut tcp = TcpStream::connect(server.address).await.unwrap();
        let _ = tcp.write_all(HANDSHAKE.as_bytes()).await;
        if soon(tcp.read_u8()).await.is_ok() {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "a place that was left can be taken");
    }

    let args = ListenArgs { max_connections: 1, ..local() };
    let server = start(args, limits()).await;
    let _one = Raw::connect(server.address).await;
    let mut second = TcpStream::connect(server.address).await.unwrap();
    let _ = second.write_all(HANDSHAKE.as_bytes()).await;
    assert!(soon(second.read_u8()).await.is_err());
    assert_eq!(server.metric("edge_connections_refused_total{reason=\"total_limit\"}"), 1);
    assert_eq!(server.metric("edge_connections_open"), 1);
}

#[tokio::test]
async fn slow_heads_and_idle_connections_are_closed() {
    let args = ListenArgs {
        header_timeout: Duration::from_millis(200),
        keep_alive_timeout: Duration::from_millis(600),
        ..local()
    };
    let server = start(args, limits()).await;
    let ends_after = async |sent: &str, answers: bool| {
        let mut tcp = TcpStream::connect(server.address).await.unwrap();
        tcp.write_all(sent.as_bytes()).await.unwrap();
        let since = Instant::now();
        let mut answer = String::new();
        soon(tcp.read_to_string(&mut answer)).await.unwrap();
        assert_eq!(answer.starts_with("HTTP/1.1 200"), answers, "{answer}");
        since.elapsed()
    };
    let keep = WHO.replace("close", "keep-alive");
    let slow = keep.replace("/who", "/slow");
    assert!(ends_after("", false).await < Duration::from_millis(550));
    assert!(ends_after("GET / HT", false).await < Duration::from_millis(550));
    assert!(ends_after(&keep, true).await >= Duration::from_millis(550), "idle may last longer");
    assert!(ends_after(&slow, true).await >= Duration::from_millis(850), "an answer may take long");
    assert_eq!(server.metric("edge_http_head_timeouts_total"), 2);
}

#[tokio::test]
async fn heads_over_16_kib_are_refused() {
    let server = start(local(), limits()).await;
    let with = |len| WHO.replace("Host: x", &format!("Host: x\r\nX: {}", "x".repeat(len)));
    assert!(http(server.address, &with(15_000)).await.starts_with("HTTP/1.1 200"));
    assert!(http(server.address, &with(17_000)).await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn a_client_may_close_its_half_and_still_get_the_answer() {
    let server = start(local(), limits()).await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    tcp.write_all(WHO.replace("/who", "/slow").as_bytes()).await.unwrap();
    tcp.shutdown().await.unwrap();
    let mut answer = String::new();
    soon(tcp.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("done"), "{answer}");
}

#[tokio::test]
async fn a_service_may_take_the_connection_behind_the_answers_before() {
    let server = start(local(), limits()).await;
    let request = |path: &str| WHO.replace("/who", path).replace("close", "keep-alive");
    let answer = http(server.address, &request("/raw")).await;
    assert_eq!(answer, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nall mine");
    let both = request("/slow") + &request("/raw");
    let answer = http(server.address, &both).await;
    let (first, second) = answer.split_once("done").expect("the first comes first");
    assert!(first.contains("content-length: 4\r\n"), "{answer}");
    assert!(second.starts_with("HTTP/1.1 200 OK") && second.ends_with("all mine"), "{answer}");
    // A place is held for as long as the service has the connection, and no longer.
    let since = Instant::now();
    while server.metric("edge_connections_open") > 0 {
        assert!(since.elapsed() < PATIENCE, "the place is given back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_panic_costs_one_connection() {
    let server = start(local(), limits()).await;
    assert_eq!(http(server.address, &WHO.replace("/who", "/panic")).await, "");
    assert!(http(server.address, WHO).await.starts_with("HTTP/1.1 200"));
    let since = Instant::now();
    while server.metric("edge_connections_open") > 0 {
        assert!(since.elapsed() < PATIENCE, "the place is given back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn requests_in_flight_survive_the_drain() {
    let server = start(local(), limits()).await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    let request = WHO.replace("/who", "/slow").replace("close", "keep-alive");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let since = Instant::now();
    while server.metric("edge_http_requests_total") == 0 {
        assert!(since.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.cx.stop.draining().cancel();
    let mut answer = String::new();
    soon(tcp.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("done"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
}

/// A self-signed certificate in files of its own, and what a client needs to trust it.
struct Certificate {
    directory: PathBuf,
}

impl Certificate {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("edge-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        Self { directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn renew(&self) -> CertificateDer<'static> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        replace(&self.file("key.pem"), &made.signing_key.serialize_pem());
        replace(&self.file("cert.pem"), &made.cert.pem());
        made.cert.der().clone()
    }

    fn args(&self) -> ListenArgs {
        ListenArgs {
            tls_cert: Some(self.file("cert.pem")),
            tls_key: Some(self.file("key.pem")),
            header_timeout: Duration::from_secs(1),
            ..local()
        }
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn replace(file: &Path, text: &str) {
    let fresh = file.with_extension("new");
    fs::write(&fresh, text).unwrap();
    fs::rename(&fresh, file).unwrap();
}

async fn tls(
    address: SocketAddr,
    trust: &CertificateDer<'_>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trust.clone().into_owned()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    soon(TlsConnector::from(Arc::new(config)).connect(name, tcp)).await
}

#[tokio::test]
async fn tls_and_plain_share_a_port() {
    let certificate = Certificate::new("shared");
    let trust = certificate.renew();
    let server = start(certificate.args(), limits()).await;
    assert!(http(server.address, WHO).await.ends_with("127.0.0.1 false"));

    let mut secure = tls(server.address, &trust).await.unwrap();
    secure.write_all(WHO.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(secure.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.ends_with("127.0.0.1 true"), "{answer}");

    let mut socket = tls(server.address, &trust).await.unwrap();
    let eager = [HANDSHAKE.as_bytes(), &masked(0x82, &[7; 200_000])].concat();
    socket.write_all(&eager).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(socket.read_u8()).await.unwrap());
    }
    let mut echo = vec![0; 10 + 200_000];
    soon(socket.read_exact(&mut echo)).await.unwrap();
    assert_eq!(&echo[..10], &[0x82, 127, 0, 0, 0, 0, 0, 3, 0x0D, 0x40]);
    assert!(echo[10..].iter().all(|byte| *byte == 7));
    socket.write_all(&masked(0x88, b"")).await.unwrap();
    let mut rest = Vec::new();
    soon(socket.read_to_end(&mut rest)).await.expect("closed by the book, with close_notify");
    assert_eq!(rest, [0x88, 0]);

    let garbage = answer_to(server.address, &[&[0x16, 3, 1, 0, 4, 1, 0, 0, 0]]).await;
    assert!(garbage.is_empty() || !garbage.starts_with("HTTP"), "{garbage}");
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert!(soon(silent.read_u8()).await.is_err(), "a silent client is let go");
    assert_eq!(server.metric("edge_connections_refused_total{reason=\"silent\"}"), 1);
    assert_eq!(server.metric("edge_tls_handshakes_total{outcome=\"ok\"}"), 2);
    assert_eq!(server.metric("edge_tls_handshakes_total{outcome=\"failed\"}"), 1);
}

#[tokio::test]
async fn a_new_certificate_is_served_and_a_broken_one_is_not() {
    let certificate = Certificate::new("reload");
    let old = certificate.renew();
    let server = start(certificate.args(), limits()).await;
    assert!(tls(server.address, &old).await.is_ok());

    let chain = fs::read_to_string(certificate.file("cert.pem")).unwrap();
    replace(&certificate.file("cert.pem"), "no certificate at all");
    let since = Instant::now();
    while server.metric("edge_certificate_reloads_total{outcome=\"failed\"}") == 0 {
        assert!(since.elapsed() < PATIENCE, "the change is noticed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(tls(server.address, &old).await.is_ok(), "the old one stays");

    replace(&certificate.file("cert.pem"), &chain);
    let new = certificate.renew();
    let since = Instant::now();
    while tls(server.address, &new).await.is_err() {
        assert!(since.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(tls(server.address, &old).await.is_err());
}

#[tokio::test]
async fn an_unusable_certificate_fails_the_start() {
    let certificate = Certificate::new("unusable");
    certificate.renew();
    let key = fs::read_to_string(certificate.file("key.pem")).unwrap();
    certificate.renew();
    replace(&certificate.file("key.pem"), &key);
    let cx = service::Context::for_tests();
    let error = edge::bind(&certificate.args(), &cx).await.err().expect("key and chain differ");
    assert!(format!("{error:#}").contains("cannot be used together"), "{error:#}");
    fs::remove_file(certificate.file("cert.pem")).unwrap();
    let error = edge::bind(&certificate.args(), &cx).await.err().expect("no chain at all");
    assert!(format!("{error:#}").contains("cannot read"), "{error:#}");
}
