use proptest::{collection::vec, prelude::*};

use super::*;

/// What a client might say, and how it might cut it.
#[derive(Clone, Debug)]
enum Said {
    Text(String, Vec<usize>),
    Binary(Vec<u8>, Vec<usize>),
    Ping(Vec<u8>),
    Pong,
}

fn said() -> impl Strategy<Value = Said> {
    let cuts = vec(0..70_000_usize, 0..4);
    prop_oneof![
        (".{0,300}", cuts.clone()).prop_map(|(text, cuts)| Said::Text(text, cuts)),
        (vec(any::<u8>(), 0..300), cuts.clone())
            .prop_map(|(bytes, cuts)| Said::Binary(bytes, cuts)),
        (0..70_000_usize, cuts).prop_map(|(len, cuts)| Said::Binary(vec![7; len], cuts)),
        vec(any::<u8>(), 0..=CONTROL_MAX).prop_map(Said::Ping),
        Just(Said::Pong),
    ]
}

fn frame(out: &mut Vec<u8>, first: u8, payload: &[u8], mask: [u8; 4]) {
    out.push(first);
    match payload.len() {
        len @ 0..=125 => out.push(0x80 | u8::try_from(len).unwrap()),
        len @ 126..=65_535 => {
            out.push(0x80 | 126);
            out.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend((len as u64).to_be_bytes());
        }
    }
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// The message in fragments, a ping between each two.
fn fragments(
    out: &mut Vec<u8>,
    expected: &mut Vec<Item>,
    opcode: u8,
    payload: &[u8],
    cuts: &[usize],
    mask: [u8; 4],
) {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (payload.len() + 1)).collect();
    ends.sort_unstable();
    let (mut begin, mut opcode) = (0, opcode);
    for end in ends {
        frame(out, opcode, &payload[begin..end], mask);
        frame(out, 0x89, b"between", mask);
        expected.push(Item::Ping(Bytes::from_static(b"between")));
        (begin, opcode) = (end, 0);
    }
    frame(out, 0x80 | opcode, &payload[begin..], mask);
}

fn encode(said: &[Said], mask: [u8; 4]) -> (Vec<u8>, Vec<Item>) {
    let (mut out, mut expected) = (Vec::new(), Vec::new());
    for said in said {
        match said {
            Said::Text(text, cuts) => {
                fragments(&mut out, &mut expected, 1, text.as_bytes(), cuts, mask);
                expected.push(Item::Text(Bytes::copy_from_slice(text.as_bytes())));
            }
            Said::Binary(bytes, cuts) => {
                fragments(&mut out, &mut expected, 2, bytes, cuts, mask);
                expected.push(Item::Binary(Bytes::copy_from_slice(bytes)));
            }
            Said::Ping(payload) => {
                frame(&mut out, 0x89, payload, mask);
                expected.push(Item::Ping(Bytes::copy_from_slice(payload)));
            }
            Said::Pong => {
                frame(&mut out, 0x8A, b"", mask);
                expected.push(Item::Pong);
            }
        }
    }
    (out, expected)
}

/// Everything decodable from bytes that arrive in pieces of the given lengths.
fn decode(bytes: &[u8], pieces: &[usize], max: usize) -> (Vec<Item>, Option<Violation>) {
    decode_by(Decoder::new(max), bytes, pieces)
}

fn decode_by(
    mut decoder: Decoder,
    bytes: &[u8],
    pieces: &[usize],
) -> (Vec<Item>, Option<Violation>) {
    let (mut items, mut rest) = (Vec::new(), bytes);
    let mut pieces = pieces.iter().cycle();
    loop {
        loop {
            match decoder.next_item() {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(violation) => return (items, Some(violation)),
            }
        }
        if rest.is_empty() {
            return (items, None);
        }
        let (piece, later) =
            rest.split_at(pieces.next().copied().unwrap_or(1).clamp(1, rest.len()));
        decoder.feed(piece);
        rest = later;
    }
}

proptest! {
    #[test]
    fn any_split_of_the_stream_gives_the_same_messages(
        said in vec(said(), 0..8),
        pieces in vec(1..5000_usize, 1..8),
        mask in any::<[u8; 4]>(),
    ) {
        let (bytes, expected) = encode(&said, mask);
        prop_assert_eq!(decode(&bytes, &pieces, 1 << 20), (expected, None));
    }

    #[test]
    fn an_opaque_decoder_gives_frames_to_pass_on_and_lets_long_messages_pass_by(
        said in vec(said(), 0..8),
        pieces in vec(1..5000_usize, 1..8),
        mask in any::<[u8; 4]>(),
        max in 0..40_000_usize,
    ) {
        let (bytes, expected) = encode(&said, mask);
        let expected = expected.into_iter().map(|item| match item {
            Item::Text(payload) | Item::Binary(payload) if payload.len() <= max => {
                Item::Whole(Frame::binary(payload))
            }
            Item::Text(_) | Item::Binary(_) => Item::Oversized,
            other => other,
        });
        let expected: Vec<_> = expected.collect();
        prop_assert_eq!(decode_by(Decoder::opaque(max), &bytes, &pieces), (expected, None));
    }

    #[test]
    fn random_bytes_never_panic_and_pieces_do_not_matter(
        bytes in vec(any::<u8>(), 0..2000),
        pieces in vec(1..100_usize, 1..8),
    ) {
        prop_assert_eq!(decode(&bytes, &[bytes.len()], 1000), decode(&bytes, &pieces, 1000));
    }

    #[test]
    fn damage_never_panics_and_pieces_do_not_matter(
        said in vec(said(), 1..5),
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
        pieces in vec(1..5000_usize, 1..8),
    ) {
        let (mut bytes, _) = encode(&said, [1, 2, 3, 4]);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let whole = decode(&bytes, &[bytes.len()], 1 << 20);
        prop_assert_eq!(decode(&bytes, &pieces, 1 << 20), whole);
    }
}

#[test]
fn an_empty_decoder_holds_no_memory() {
    let (bytes, expected) = encode(&[Said::Text("hello".to_owned(), vec![2])], [9; 4]);
    let mut decoder = Decoder::new(100);
    decoder.feed(&bytes);
    let mut items = Vec::new();
    while let Some(item) = decoder.next_item().unwrap() {
        items.push(item);
    }
    assert_eq!(items, expected);
    assert_eq!((decoder.buffer.capacity(), decoder.fragments.is_none()), (0, true));
}

#[test]
fn a_frame_that_is_too_long_is_refused_before_its_payload() {
    let header = [0x82, 0xFF, 0, 0, 0, 0, 0, 16, 0, 1];
    assert_eq!(decode(&header, &[1], 1 << 20), (Vec::new(), Some(Violation::TooBig)));
}
