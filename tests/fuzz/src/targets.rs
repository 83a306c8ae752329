//! What must hold for any bytes. Shared with the replay of the corpus, which needs no fuzzer.

use std::net::{IpAddr, Ipv4Addr};

use bytes::BytesMut;
use edge::ws::codec::{Decoder, Item, Violation};
use proto::book::channel::{self, Answers, Ask};
use proto::book::encode::{Source, envelope, envelope_capacity};
use proto::book::{Dialect, Fingerprint, Message, sdp};
use proto::js::{self, Str, Value};
use proto::mesh::Room;
use proto::mesh::token::{self, Token};
use proto::pad::cipher::{self, FRAME_HEADER_BYTES, Key, Nonces, PLAIN_MAX, Secret};
use proto::pad::{certificate, tcp, ws};
use proto::relay::{Ack, AckBatch, BODY_DEPTH_MAX, Fields, GroupStore, MembersUpdate, Store};
use proto::relay_blob::{Chunk, Complete, Upload};
use proto::sign::KeyCache;
use proto::signal::{PeerId, Register, Request, Rules, Signal, Subscription, encode};
use proto::{base64, query};

/// Looks at some bytes and panics when a promise is broken.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 13] = [
    ("js", js),
    ("query", query),
    ("base64", base64),
    ("signal", signal),
    ("relay", relay),
    ("websocket", websocket),
    ("pad_ws", pad_ws),
    ("pad_tcp", pad_tcp),
    ("pad_cipher", pad_cipher),
    ("certificate", certificate),
    ("book", book),
    ("book_channel", book_channel),
    ("mesh", mesh),
];

/// Longer messages than this are refused by the decoder under test.
const MESSAGE_MAX: usize = 4096;
/// Now, for checks of clock skew.
const NOW_MS: i64 = 1_741_590_002_123;

fn printed(value: &Value<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    js::write(value, &mut text);
    text
}

/// Reading and checking agree; what is printed reads back as itself.
pub fn js(data: &[u8]) {
    let text = js::body_text(data);
    let parsed = js::parse(&text, 64);
    let scanned = js::scan(&text, 64, b"payload");
    assert_eq!(parsed.as_ref().err(), scanned.as_ref().err());
    let (Ok(value), Ok(scanned)) = (parsed, scanned) else { return };
    let text = printed(&value);
    let again = js::parse(&text, 64).expect("printed JSON is JSON");
    assert_eq!(printed(&again), text);
    let mut shown = Vec::new();
    js::display(Some(&value), &mut shown);
    for (key, value) in value.as_object().into_iter().flat_map(js::Object::iter) {
        let raw = scanned.as_ref().and_then(|scanned| scanned.members.get(key.as_bytes()));
        let mut text = Vec::new();
        raw.expect("the scanner saw the same members").write(&mut text);
        assert_eq!(text, printed(value));
    }
    if let Value::Array(items) = &value {
        let names = js::trim_dedup_sort(items, None);
        assert!(names.is_sorted_by(|a, b| js::cmp_utf16(a, b).is_lt()));
        names.iter().for_each(|name| {
            assert_eq!(js::utf16_len(name), name.utf16().count());
            assert!(std::str::from_utf8(&name.to_signature_bytes()).is_ok());
        });
    }
}

/// Nothing panics, and what comes out is text.
pub fn query(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for name in ["to", "cursor", "limit", ""] {
        if let query::Param::One(value) = query::get(&text, name) {
            assert!(value.as_str().is_some());
            assert!(js::parse_int_limit(&value) <= 500);
        }
    }
    assert!(query::path_segment(&text).is_none_or(|segment| segment.as_str().is_some()));
}

/// Pieces decode as the whole; canonical text survives a round trip.
pub fn base64(data: &[u8]) {
    let text = js::body_text(data);
    let whole = base64::decode_lenient(&Str::from_wtf8(&text));
    for size in [1, 3, 64] {
        let (mut decoder, mut out) = (base64::Decoder::new(), Vec::new());
        text.chunks(size).for_each(|piece| decoder.feed(piece, &mut out));
        decoder.finish(&mut out);
        assert_eq!(out, whole);
        let (mut encoder, mut pieces, mut at_once) =
            (base64::Encoder::new(), Vec::new(), Vec::new());
        whole.chunks(size).for_each(|piece| encoder.feed(piece, &mut pieces));
        encoder.finish(&mut pieces);
        base64::encode(&whole, &mut at_once);
        assert_eq!(pieces, at_once);
        assert!(base64::is_canonical(&at_once));
    }
    if base64::is_canonical(&text) {
        let mut encoded = Vec::new();
        base64::encode(&whole, &mut encoded);
        let standard = |byte: &u8| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        };
        assert_eq!(encoded, text.iter().map(standard).collect::<Vec<_>>());
    }
}

/// Every answer to a frame is JSON.
pub fn signal(data: &[u8]) {
    let is_json = |frame: &[u8]| assert!(js::parse(frame, js::DEPTH_CEILING).is_ok());
    let keys = KeyCache::new(4);
    for rules in [Rules::OPEN, Rules::PIN, Rules::STRICT] {
        let request = match Request::read(data, &rules) {
            Ok(request) => request,
            Err((id, refusal)) => {
                is_json(&encode::error(&id, &refusal));
                continue;
            }
        };
        match Register::read(&request, &rules, NOW_MS) {
            Ok(register) => {
                is_json(&register.v1());
                is_json(&register.v2());
                let _ = register.nonce_digest();
                let _ = register.forget_at_ms();
                register.verify(&keys, &rules).ok();
            }
            Err(refusal) => is_json(&encode::error(&request.id, &refusal)),
        }
        match Signal::read(&request, &rules, &PeerId::from_wtf8(b"alice")) {
            Ok(signal) => is_json(&encode::error(&request.id, &signal.not_found())),
            Err(refusal) => is_json(&encode::error(&request.id, &refusal)),
        }
        if let Err(refusal) = Subscription::read(&request, &rules, 16) {
            is_json(&encode::error(&request.id, &refusal));
        }
    }
}

/// Every reader takes or refuses every body.
pub fn relay(data: &[u8]) {
    let text = js::body_text(data);
    let Ok(body) = js::parse(&text, BODY_DEPTH_MAX) else { return };
    let fields = Fields::new(&body);
    if let Ok(store) = Store::read(fields) {
        store.signature_text();
        let stored = proto::relay::stored_text(fields, true);
        assert!(js::parse(&stored, js::DEPTH_CEILING).is_ok());
    }
    GroupStore::read(fields).map(|read| read.signature_text()).ok();
    MembersUpdate::read(fields).map(|read| read.signature_text()).ok();
    Ack::read(fields).map(|read| read.signature_text()).ok();
    AckBatch::read(fields).map(|read| read.signature_text()).ok();
    Upload::read(fields).map(|read| read.common.signature_text()).ok();
    Complete::read(fields).map(|read| read.common.signature_text()).ok();
    if let Ok(chunk) = Chunk::read(fields) {
        assert!(chunk.common.signature_text().ends_with(b"|"));
    }
}

/// The same items whether bytes come at once or one by one, up to the first violation.
pub fn websocket(data: &[u8]) {
    for (item, opaque) in both_ways(data) {
        match item {
            Item::Text(text) => {
                assert!(text.len() <= MESSAGE_MAX && std::str::from_utf8(&text).is_ok());
                assert!(!opaque);
            }
            Item::Binary(bytes) => assert!(bytes.len() <= MESSAGE_MAX && !opaque),
            Item::Whole(frame) => assert!(frame.as_payload().len() <= MESSAGE_MAX && opaque),
            Item::Oversized => assert!(opaque),
            Item::Ping(payload) => assert!(payload.len() <= 125),
            Item::Close(Some((_, reason))) => assert!(std::str::from_utf8(&reason).is_ok()),
            Item::Pong | Item::Close(None) => {}
        }
    }
}

/// What both kinds of decoders make of it, each item with whether its decoder was the opaque one.
fn both_ways(data: &[u8]) -> Vec<(Item, bool)> {
    let read = |opaque, pieces: &mut dyn Iterator<Item = &[u8]>| {
        let make = if opaque { Decoder::opaque } else { Decoder::new };
        let (mut decoder, mut items): (_, Vec<(Item, bool)>) = (make(MESSAGE_MAX), Vec::new());
        for piece in pieces {
            decoder.feed(piece);
            loop {
                match decoder.next_item() {
                    Ok(Some(item)) => items.push((item, opaque)),
                    Ok(None) => break,
                    Err(violation) => return (items, Some(violation)),
                }
            }
        }
        (items, None::<Violation>)
    };
    let mut all = Vec::new();
    for opaque in [false, true] {
        let whole = read(opaque, &mut std::iter::once(data));
        assert_eq!(read(opaque, &mut data.chunks(1)), whole);
        all.extend(whole.0);
    }
    all
}

/// A packet is written as it was read, and so is every body that is taken.
pub fn pad_ws(data: &[u8]) {
    let Ok(packet) = ws::Packet::parse(data) else { return };
    let mut written = Vec::new();
    packet.encode(&mut written).expect("it came in a packet");
    assert_eq!(written, data);
    if let Ok(link) = ws::Link::parse(packet.body) {
        written.clear();
        link.encode(&mut written).expect("it came in a packet");
        assert_eq!(written, packet.body);
    }
    if let Ok(verdict) = ws::Verdict::parse(packet.body) {
        written.clear();
        verdict.encode(&mut written);
        assert_eq!(written, packet.body);
    }
    written.clear();
    for name in ws::channels(packet.body) {
        assert!(!name.contains(&0));
        if ws::push_channel(name, &mut written).is_err() {
            return;
        }
    }
    assert!(ws::channels(&written).eq(ws::channels(packet.body)));
}

/// What is read and written again reads the same, whatever was behind it.
pub fn pad_tcp(data: &[u8]) {
    let Ok(packet) = tcp::Packet::parse(data) else { return };
    let body = packet.body;
    let mut written = Vec::new();
    if packet.encode(&mut written).is_ok() {
        assert_eq!(tcp::Packet::parse(&written), Ok(packet));
        assert_eq!(written[4..], data[4..]);
    } else {
        assert!(data.len() > tcp::PACKET_MAX);
        return;
    }
    written.clear();
    if let Ok(string) = tcp::string(body) {
        tcp::push_string(string, &mut written).expect("it came in a packet");
        assert!(body.starts_with(&written));
    }
    written.clear();
    if let Ok(link) = tcp::Link::parse(body) {
        link.encode(&mut written).expect("it came in a packet");
        assert!(body.starts_with(&written));
    }
    written.clear();
    if let Ok(response) = tcp::AuthResponse::parse(body) {
        response.encode(&mut written).expect("it came in a packet");
        assert_eq!(tcp::AuthResponse::parse(&written), Ok(response));
    }
    written.clear();
    if let Ok(created) = tcp::PadCreated::parse(body) {
        created.encode(&mut written).expect("it came in a packet");
        assert!(body.starts_with(&written));
    }
    written.clear();
    if let Ok(names) = tcp::channels(body) {
        tcp::push_channels(names.iter().copied(), &mut written).expect("it came in a packet");
        assert!(body.starts_with(&written));
    }
}

/// Frames are split alike from pieces of any size; what was not sealed does not open; what was,
/// does.
pub fn pad_cipher(data: &[u8]) {
    let split = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut buffer, mut frames) = (BytesMut::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while let Some(frame) = cipher::split_frame(&mut buffer) {
                frames.push(frame);
            }
        }
        (frames, buffer)
    };
    let whole = split(&mut std::iter::once(data));
    assert_eq!(split(&mut data.chunks(1)), whole);
    let key = Key::new(&[7; 32]);
    for mut frame in whole.0 {
        assert!(key.open(&mut frame).is_err());
    }
    if let Some(hello) = data.first_chunk() {
        let _ = Secret::new([9; 32]).agree(hello);
    }
    let mut frame = [&[0; FRAME_HEADER_BYTES], data].concat();
    let sealed = key.seal(&mut Nonces::new([3; 16]), &mut frame);
    assert_eq!(sealed.is_ok(), (1..=PLAIN_MAX).contains(&data.len()));
    if sealed.is_ok() {
        assert_eq!(cipher::frame_bytes(&frame), Some(frame.len()));
        let mut damaged = frame.clone();
        *damaged.last_mut().expect("it has a header") ^= 1;
        assert!(key.open(&mut damaged).is_err());
        key.open(&mut frame).expect("sealed with this key");
        assert_eq!(frame[FRAME_HEADER_BYTES..], *data);
    }
}

/// Nothing vouches for itself; what is issued is verified, but with no other secret.
pub fn certificate(data: &[u8]) {
    const SECRET: &[u8] = b"a secret nobody has ever used";
    assert!(certificate::verify(SECRET, data).is_err());
    let issued = certificate::issue(SECRET, data);
    assert_eq!(certificate::verify(SECRET, &issued), Ok(data));
    assert!(certificate::verify(b"another", &issued).is_err());
    let _ = certificate::check_expiry(data, NOW_MS);
}

/// What is passed on is JSON that names its sender and keeps its size; whatever an SDP is, it is
/// read without a complaint.
pub fn book(data: &[u8]) {
    let source = Source { fp: "AB12", name: "the \"sender\"" };
    let sender = Fingerprint::new(&"5A".repeat(32)).expect("a fingerprint");
    for dialect in [Dialect::Readme, Dialect::Plan] {
        let Some(Message::Envelope(message)) = Message::read(data, dialect) else { continue };
        let _ = message.descriptions().any(|text| sdp::contradicts(text, &sender));
        for receiver in [Dialect::Readme, Dialect::Plan] {
            let mut out = Vec::new();
            envelope(receiver, source, &message, &mut out);
            // The names of members are printed anew: at most six bytes for one.
            assert!(out.len() <= envelope_capacity(6 * data.len()));
            let members = js::scan_object(&out, js::DEPTH_CEILING).ok().flatten();
            let members = members.expect("an envelope is an object");
            let (name, expected) = match receiver {
                Dialect::Readme => ("source_fp", source.fp),
                Dialect::Plan => ("source", source.name),
            };
            let said = members.get(name).and_then(|raw| raw.string());
            assert_eq!(said.as_ref().map(Str::as_bytes), Some(expected.as_bytes()));
        }
    }
}

/// Every command is answered with one JSON object under the number it came with, whatever is said in
/// it; what is passed on reads as a WebSocket's message to the same target with the same SDP.
pub fn book_channel(data: &[u8]) {
    let Some(request) = channel::Request::read(data) else { return };
    let said = String::from_utf8_lossy(data);
    let mut answers = Answers::default();
    let number = request.number;
    let all = [
        ("ack", "body", "", answers.ack(number, "", NOW_MS)),
        ("ack", "body", &*said, answers.ack(number, &said, NOW_MS)),
        ("nack", "desc", &*said, answers.nack(number, &said, NOW_MS)),
    ];
    for (sent, (kind, name, text, answer)) in all.iter().enumerate() {
        let object = |text| js::scan_object(text, js::DEPTH_CEILING).ok().flatten();
        let answer = object(answer).expect("an answer is an object");
        let is = |name: &str, text: String| {
            answer.get(name).expect("it is complete").text() == text.as_bytes()
        };
        assert!(is("message_id", (sent + 1).to_string()) && is("time", NOW_MS.to_string()));
        assert!(is("type", format!("\"{kind}\"")));
        let args = answer.get("args").and_then(|raw| object(raw.text())).expect("arguments");
        assert_eq!(args.get("ref").map(|raw| raw.text()), Some(number));
        let told = args.get(name).and_then(|raw| raw.string());
        let told = told.as_ref().and_then(|told| told.as_str());
        assert_eq!(told, Some(*text).filter(|text| !text.is_empty()));
    }
    let Ask::Signal(message) = request.ask else { return };
    let args = js::scan_object(data, js::DEPTH_CEILING).expect("it was read").expect("an object");
    let args = args.get("args").filter(|raw| raw.kind() == js::Kind::Object);
    let args = args.and_then(|raw| js::scan_object(raw.text(), js::DEPTH_CEILING).ok().flatten());
    let sent = |name: &str| args.as_ref().and_then(|args| args.get(name)).map(|raw| raw.text());
    let Some(Message::Envelope(envelope)) = Message::read(&message, Dialect::Readme) else {
        panic!("it is an envelope");
    };
    let members: Vec<_> = envelope.passed_on(Dialect::Readme).collect();
    let [(name, sdp)] = members.as_slice() else { panic!("one member is passed on") };
    assert!(matches!(name.as_bytes(), b"offer" | b"candidate"));
    assert_eq!(sdp.text(), sent("sdp").unwrap_or(b"null"));
    let target = sent("target").filter(|text| text.starts_with(b"\""));
    assert_eq!(envelope.target.is_some(), target.is_some());
}

/// Nobody makes a token but who has the secret, for whom it is bound to; rooms print as they read.
pub fn mesh(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(room) = Room::parse(&text) {
        assert_eq!(room.to_string(), text.to_ascii_lowercase());
        assert_eq!(Room::from_bytes(room.bytes()), Ok(room));
    }
    const NOW_S: u32 = 1_700_000_000;
    let (secret, node) = (token::Secret::new([7; 32]), [5; 32]);
    let (client, other) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from([192, 0, 2, 1]));
    if let Ok(token) = Token::read(&text) {
        assert!(token.check(&secret, &node, NOW_S, client).is_err());
    }
    let Some(random) = data.first_chunk() else { return };
    let mut made = Token::mint(&secret, &node, NOW_S, *random, Some(client));
    let token = Token::read(&made).expect("it was just made");
    assert_eq!(token.check(&secret, &node, NOW_S, client), Ok(()));
    assert!(token.check(&secret, &node, NOW_S, other).is_err());
    assert!(token.check(&secret, &node, NOW_S + token::LIFE_S + 1, client).is_err());
    let at = usize::from(random[0]) % made.len();
    let changed = if made.as_bytes()[at] == b'A' { "B" } else { "A" };
    made.replace_range(at..=at, changed);
    assert!(
        Token::read(&made).map(|token| token.check(&secret, &node, NOW_S, client)) != Ok(Ok(()))
    );
}
