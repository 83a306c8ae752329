//! What reading, writing and checking one message costs: `cargo bench -p proto`.
//!
//! Prints the fastest of several rounds, which on a shared machine says most about the code.

use std::hint::black_box;
use std::io::Write as _;
use std::time::Instant;

use ed25519_dalek::{Signer, SigningKey};
use proto::js::{self, Str};
use proto::sign::{KeyCache, PublicKey};
use proto::{base64, query};

const ROUNDS: usize = 15;

fn main() {
    // Without cargo's flag for benchmarks, as under `cargo test`, one short round shows that all runs.
    let measured = std::env::args().any(|argument| argument == "--bench");
    let bench = Bench {
        rounds: if measured { ROUNDS } else { 1 },
        calls: if measured { 2_000 } else { 2 },
    };
    let envelope = envelope();
    let frame = frame();
    bench.run("parse a 1 kB envelope", envelope.len(), || js::parse(&envelope, 32).is_ok());
    bench.run("scan a 1 kB signal frame", frame.len(), || js::scan(&frame, 32, b"payload").is_ok());
    bench.run("parse a 1 kB signal frame", frame.len(), || js::parse(&frame, 32).is_ok());
    let value = js::parse(&envelope, 32).expect("the envelope is JSON");
    let mut out = Vec::with_capacity(4096);
    bench.run("write a 1 kB envelope", envelope.len(), || {
        out.clear();
        js::write(&value, &mut out);
        out.len()
    });
    let theirs: serde_json::Value =
        serde_json::from_slice(&envelope).expect("the envelope is JSON");
    bench.run("serde_json: parse a 1 kB envelope", envelope.len(), || {
        serde_json::from_slice::<serde_json::Value>(&envelope).is_ok()
    });
    bench.run("serde_json: write a 1 kB envelope", envelope.len(), || theirs.to_string());
    text(&bench);
    signatures(&bench, &envelope);
}

fn text(bench: &Bench) {
    let mut text = Vec::new();
    base64::encode(&[0x5a; 768], &mut text);
    let clean = Str::from_wtf8(&text);
    bench.run("decode 1 kB of base64", text.len(), || base64::decode_lenient(&clean));
    let lines: Vec<u8> = text.chunks(76).flat_map(|line| [line, b"\r\n"].concat()).collect();
    let lines = Str::from_wtf8(&lines);
    bench.run("decode 1 kB of base64 in lines", lines.as_bytes().len(), || {
        base64::decode_lenient(&lines)
    });
    bench.run("is 1 kB of base64 canonical", text.len(), || base64::is_canonical(&text));
    let bytes = vec![0x5a; 1 << 20];
    let mut out = Vec::with_capacity(2 << 20);
    bench.run("encode 1 MiB as base64", bytes.len(), || {
        out.clear();
        base64::encode(&bytes, &mut out);
        out.len()
    });
    let mut number = Vec::with_capacity(32);
    bench.run("print a time", 13, || {
        number.clear();
        js::number(black_box(1_741_590_002_123.0), &mut number);
        number.len()
    });
    let text = "to=noCdjVyGSOqczpHvWHv3RroVG70EZ44T&limit=50&cursor=1741590002123";
    bench.run("read a query", text.len(), || query::get(text, "to"));
}

fn signatures(bench: &Bench, message: &[u8]) {
    let signing = SigningKey::from_bytes(&[7; 32]);
    let bytes = signing.verifying_key().to_bytes();
    let key = PublicKey::from_bytes(&bytes).expect("a key of our own");
    let signature = signing.sign(message).to_bytes();
    bench.run("verify a signature over 1 kB", message.len(), || key.verify(message, &signature));
    let mut text = Vec::new();
    base64::encode(&bytes, &mut text);
    let text = Str::from_wtf8(&text);
    bench.run("decode a key", text.as_bytes().len(), || {
        PublicKey::from_bytes(&base64::decode_lenient(&text))
    });
    let cache = KeyCache::new(1024);
    bench.run("find a key in the cache", text.as_bytes().len(), || cache.decode(&text));
}

/// As the client sends it: 768 bytes of payload, padded base64, a real-sized key and signature.
fn envelope() -> Vec<u8> {
    let payload = "QUJD".repeat(178);
    format!(
        r#"{{"id":"1741590002123456","from":"noCdjVyGSOqczpHvWHv3RroVG70EZ44T","to":"MyhPYTKytpdF8WvRmyad9KfPQyecm6Q6","ts":1741590002123,"ttl":86400,"payload":"{payload}","sig":"mJzA3BCmEQD9CNB9Zat0iv2yZIjqWZbgMnVkCMNPphaXssIM+7QpyPkls4SJTUr9Ip1DF4gHYS8naURCm6kpCA==","signingPub":"0EqyMnQrtKs6E2i9RhXk5tAiSrcaAWuvhSCjMsl3hzc="}}"#
    )
    .into_bytes()
}

/// An offer: text in lines, which JSON has to escape.
fn frame() -> Vec<u8> {
    let sdp = r"a=candidate:1 1 udp 2113937151 192.168.1.5 54400 typ host\r\n".repeat(13);
    format!(
        r#"{{"v":"1","id":"sig-1741590002123","type":"signal","payload":{{"type":"offer","from":"noCdjVyGSOqczpHvWHv3RroVG70EZ44T","to":"MyhPYTKytpdF8WvRmyad9KfPQyecm6Q6","data":{{"sdp":"{sdp}"}}}}}}"#
    )
    .into_bytes()
}

struct Bench {
    rounds: usize,
    calls: u32,
}

impl Bench {
    fn run<T>(&self, name: &str, bytes: usize, mut call: impl FnMut() -> T) {
        let mut round = || {
            let started = Instant::now();
            for _ in 0..self.calls {
                black_box(call());
            }
            started.elapsed() / self.calls
        };
        let fastest = (0..self.rounds).map(|_| round()).min().unwrap_or_default();
        let line = format!("{name:<36} {bytes:>8} bytes {:>10} ns", fastest.as_nanos());
        writeln!(std::io::stdout(), "{line}").expect("the output is open");
    }
}
