use std::collections::HashMap;

use bytes::BytesMut;
use proptest::{collection::vec, prelude::*};
use serde_json::Value;

use super::*;
use crate::vectors::{hex, pads, text};

fn steps(generation: &str) -> impl Iterator<Item = (Value, Value)> {
    let of = pads().into_iter().filter(move |scenario| scenario["generation"] == generation);
    of.flat_map(|mut scenario| match scenario["steps"].take() {
        Value::Array(steps) => {
            steps.into_iter().map(|step| (scenario.clone(), step)).collect::<Vec<_>>()
        }
        other => panic!("no steps: {other}"),
    })
}

#[test]
fn every_recorded_message_reads_and_writes_back() {
    let mut read = 0;
    for (_, step) in steps("A").filter(|(_, step)| step["hex"].is_string()) {
        let message = hex(&step, "hex");
        let Ok(packet) = ws::Packet::parse(&message) else { continue };
        let mut again = Vec::new();
        packet.encode(&mut again).unwrap();
        assert_eq!(again, message);
        read += 1;
    }
    assert!(read > 400, "only {read} packets");
}

#[test]
fn every_recorded_frame_opens_with_the_key_of_its_handshake() {
    let (mut keys, mut opened): (HashMap<String, cipher::Key>, _) = (HashMap::new(), 0);
    for (scenario, step) in steps("B").filter(|(_, step)| step["wire"].is_string()) {
        let session = &scenario["sessions"][text(&step, "client")];
        let mut wire = hex(&step, "wire");
        if step["layer"] == "handshake" || session["client_private"].is_null() {
            continue;
        }
        let name = ["server", "scenario"].map(|name| text(&scenario, name)).join(" ");
        let name = format!("{name} {}", text(&step, "client"));
        let key = keys.entry(name).or_insert_with(|| {
            let secret = cipher::Secret::new(hex(session, "client_private").try_into().unwrap());
            assert_eq!(secret.hello()[2..], hex(session, "client_public"));
            let mut hello = cipher::HANDSHAKE_HEADER.to_vec();
            hello.extend(hex(session, "server_public"));
            secret.agree(&hello.try_into().unwrap()).unwrap()
        });
        let readable = key.open(&mut wire).is_ok();
        // Frames the recorder broke on purpose are the ones without a layer inside.
        assert_eq!(readable, step["layer"] != "raw", "{step}");
        if readable {
            assert_eq!(wire[cipher::FRAME_HEADER_BYTES..], hex(&step, "hex"));
            opened += 1;
        }
    }
    assert!(opened > 300, "only {opened} frames");
}

#[test]
fn the_recorded_certificates_are_ours() {
    let scenarios = pads();
    let rows = scenarios[0]["certificates"].as_array().unwrap();
    assert!(rows.len() >= 7);
    for row in rows {
        let (secret, content) = (hex(row, "secret_hex"), hex(row, "content_hex"));
        let certificate = hex(row, "certificate_hex");
        assert_eq!(certificate::issue(&secret, &content), certificate);
        assert_eq!(certificate::verify(&secret, &certificate), Ok(&content[..]));
        let mut other = secret.clone();
        other[0] ^= 1;
        let refused = certificate::verify(&other, &certificate);
        assert_eq!(refused, Err(certificate::Refused::Signature));
    }
}

#[test]
fn broken_certificates_are_refused() {
    use certificate::Refused::{Malformed, Signature};
    let good = certificate::issue(b"secret", b"user=example");
    let (hash, content) = good.split_at(44);
    let with = |hash: &[u8]| [hash, content].concat();
    let refused = |certificate: &[u8]| certificate::verify(b"secret", certificate).unwrap_err();
    assert_eq!(refused(b""), Malformed);
    assert_eq!(refused(hash), Malformed, "no LF");
    assert_eq!(refused(content), Malformed, "no hash");
    assert_eq!(refused(&with(&hash[..43])), Malformed, "no padding");
    assert_eq!(refused(&with(&[hash, b"\r"].concat())), Malformed);
    assert_eq!(refused(&with(&[hash, b"AAAA"].concat())), Malformed, "too long");
    assert_eq!(refused(&with(&[b"A".repeat(96), vec![b'=']].concat())), Malformed);
    assert_eq!(refused(&with(&[&b"!"[..], &hash[1..]].concat())), Malformed);
    assert_eq!(refused(&[&good[..], b"\n"].concat()), Signature);
}

#[test]
fn stray_bits_in_the_last_group_are_taken_as_the_originals_do() {
    let mut certificate = certificate::issue(b"secret", b"x");
    assert_eq!(certificate[43], b'=');
    certificate[42] += 1; // the characters used there have a successor in the alphabet
    assert_eq!(certificate::verify(b"secret", &certificate), Ok(&b"x"[..]));
}

#[test]
fn lines_say_when_a_certificate_expires() {
    use certificate::{Refused, check_expiry};
    let end_ms = 1_735_689_600_000; // 2024-12-31 24:00 UTC
    let day = b"user=origin\nexpire=20241231\n";
    assert_eq!(check_expiry(day, end_ms - 1), Ok(()));
    assert_eq!(check_expiry(day, end_ms), Err(Refused::Expired));
    let second = b"expires = 1735689600\r\nuser=x";
    assert_eq!(check_expiry(second, end_ms - 1), Ok(()));
    assert_eq!(check_expiry(second, end_ms), Err(Refused::Expired));
    let both = b"expires=20991231\nexpires=1";
    assert_eq!(check_expiry(both, end_ms), Err(Refused::Expired), "the earlier one counts");
    assert_eq!(check_expiry(b"expired=1\nuser expires\n", end_ms), Ok(()));
    for value in ["", "never", "20241301", "20230229", "-1", "99999999999999999999", "1 2"] {
        let content = format!("expires={value}");
        assert_eq!(check_expiry(content.as_bytes(), end_ms), Err(Refused::Expiry), "{value}");
    }
    assert_eq!(check_expiry(b"expires=20240229", end_ms), Err(Refused::Expired), "a leap day");
}

#[test]
fn a_point_that_yields_the_same_key_for_everybody_is_refused() {
    // RFC 7748, section 6.1: the points of order 1, 2, 4 and 8 that fit 255 bits begin like these.
    let mut one = [0; 32];
    one[0] = 1;
    let eight = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800";
    let eight = hex(&serde_json::json!({ "point": eight }), "point");
    for point in [&[0; 32][..], &one, &eight] {
        let hello = [&cipher::HANDSHAKE_HEADER[..], point].concat().try_into().unwrap();
        let agreed = cipher::Secret::new([7; 32]).agree(&hello);
        assert_eq!(agreed.err(), Some(cipher::Refused::LowOrder));
    }
}

#[test]
fn the_two_directions_of_a_handshake_agree() {
    let (client, server) = (cipher::Secret::new([1; 32]), cipher::Secret::new([2; 32]));
    let (to_server, to_client) = (client.hello(), server.hello());
    let (client, server) = (client.agree(&to_client).unwrap(), server.agree(&to_server).unwrap());
    let mut nonces = cipher::Nonces::new([0xff; 16]);
    let mut ivs = std::collections::HashSet::new();
    for text in [&b"x"[..], &[7; 1000], &[9; cipher::PLAIN_MAX]] {
        let mut frame = [&[0; cipher::FRAME_HEADER_BYTES][..], text].concat();
        client.seal(&mut nonces, &mut frame).unwrap();
        assert_eq!(cipher::frame_bytes(&frame), Some(frame.len()));
        assert!(ivs.insert(frame[2..14].to_vec()), "a nonce was used twice");
        let mut changed = frame.clone();
        changed[cipher::FRAME_HEADER_BYTES] ^= 1;
        assert_eq!(server.open(&mut changed), Err(cipher::Refused::Tag));
        assert_eq!(server.open(&mut frame), Ok(()));
        assert_eq!(&frame[cipher::FRAME_HEADER_BYTES..], text);
    }
    let mut empty = vec![0; cipher::FRAME_HEADER_BYTES];
    assert_eq!(client.seal(&mut nonces, &mut empty), Err(cipher::Refused::Short));
    assert_eq!(server.open(&mut empty), Err(cipher::Refused::Short));
    let mut long = vec![0; cipher::FRAME_HEADER_BYTES + cipher::PLAIN_MAX + 1];
    assert_eq!(client.seal(&mut nonces, &mut long), Err(cipher::Refused::Short));
}

#[test]
fn bodies_are_as_long_as_the_header_can_say_and_no_longer() {
    let mut out = Vec::new();
    for (length, fits) in [(ws::BODY_MAX, true), (ws::BODY_MAX + 1, false)] {
        let body = vec![1; length];
        let packet = ws::Packet { kind: 12, id: u32::MAX, body: &body };
        assert_eq!(packet.encode(&mut out).is_ok(), fits);
    }
    for (length, fits) in [(tcp::BODY_MAX, true), (tcp::BODY_MAX + 1, false)] {
        let body = vec![1; length];
        assert_eq!(tcp::Packet { kind: 16, id: 1, body: &body }.encode(&mut out).is_ok(), fits);
    }
    assert_eq!(tcp::next_id(255), 0);
    assert!(ws::Link { name: &[1; 65_000], secret: &[2; 1_000] }.encode(&mut out).is_err());
    assert!(tcp::Link { name: &[1; 65_000], secret: &[2; 1_000] }.encode(&mut out).is_err());
}

#[test]
fn channels_are_listed_as_the_originals_do() {
    let mut list = Vec::new();
    assert_eq!(ws::channels(&list).count(), 0);
    for name in [&b"a"[..], b"bc"] {
        ws::push_channel(name, &mut list).unwrap();
    }
    assert_eq!(list, b"a\0bc\0");
    assert_eq!(ws::channels(&list).collect::<Vec<_>>(), [&b"a"[..], b"bc"]);
    assert!(ws::push_channel(&[1; ws::BODY_MAX], &mut list).is_err());
    assert_eq!(tcp::channels(&[1, 0, 2, 0, b'x']), Err(Malformed));
}

proptest! {
    #[test]
    fn bodies_of_generation_a_read_back(name in vec(any::<u8>(), 0..300), ok: u16,
                                        secret in vec(any::<u8>(), 0..300)) {
        let (link, verdict) = (ws::Link { name: &name, secret: &secret },
                               ws::Verdict { ok, name: &name });
        let mut out = Vec::new();
        link.encode(&mut out).unwrap();
        prop_assert_eq!(ws::Link::parse(&out), Ok(link));
        out.push(0);
        prop_assert_eq!(ws::Link::parse(&out), Err(Malformed));
        out.clear();
        verdict.encode(&mut out);
        prop_assert_eq!(ws::Verdict::parse(&out), Ok(verdict));
    }

    #[test]
    fn bodies_of_generation_b_read_back_and_not_when_cut(
        one in vec(any::<u8>(), 0..300), two in vec(any::<u8>(), 0..300), ok: bool, cut in 1..9_usize,
    ) {
        let (link, created) = (tcp::Link { name: &one, secret: &two },
                               tcp::PadCreated { channel: &one, pad: &two });
        let answer = tcp::AuthResponse { requester: &one, ok };
        let mut out = Vec::new();
        link.encode(&mut out).unwrap();
        prop_assert_eq!(tcp::Link::parse(&out), Ok(link));
        prop_assert_eq!(tcp::PadCreated::parse(&out), Ok(created));
        prop_assert!(tcp::Link::parse(&out[..out.len().saturating_sub(cut)]).is_err());
        out.push(3);
        prop_assert_eq!(tcp::Link::parse(&out), Ok(link), "what follows is ignored");
        out.clear();
        answer.encode(&mut out).unwrap();
        prop_assert_eq!(tcp::AuthResponse::parse(&out), Ok(answer));
        out.clear();
        tcp::push_channels([&one[..], &two].into_iter(), &mut out).unwrap();
        prop_assert_eq!(tcp::channels(&out), Ok(vec![&one[..], &two]));
        prop_assert!(tcp::channels(&out[..out.len() - 1]).is_err());
    }

    #[test]
    fn frames_come_apart_wherever_the_stream_was_cut(
        sizes in vec(0..500_usize, 1..8), piece in 1..700_usize,
    ) {
        let mut stream = Vec::new();
        for size in &sizes {
            stream.extend_from_slice(&u16::try_from(*size).unwrap().to_le_bytes());
            stream.resize(stream.len() + size, 7);
        }
        let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
        for bytes in stream.chunks(piece) {
            buffer.extend_from_slice(bytes);
            while let Some(frame) = cipher::split_frame(&mut buffer) {
                found.push(frame.len() - 2);
            }
        }
        prop_assert_eq!(found, sizes);
        prop_assert!(buffer.is_empty());
    }
}
