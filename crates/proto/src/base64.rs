//! Base64 as the original servers read it, and as everybody writes it.
//!
//! Reading never fails (spec 1): both alphabets may be mixed, other characters are skipped, the
//! first `=` ends the text, an incomplete last group yields the whole bytes it has. A character is
//! judged by the low byte of each of its UTF-16 units.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::js::Str;
use crate::js::{code_point, units};

/// Characters decoded together between two checks.
const BLOCK: usize = 64;

/// Marks a character outside both alphabets; above the 24 bits of a group.
const SKIP: u32 = 1 << 31;

/// Sextet of each byte, shifted to each of the four places in a group.
static PLACES: [[u32; 256]; 4] = [places(18), places(12), places(6), places(0)];

const fn places(shift: u32) -> [u32; 256] {
    let mut table = [SKIP; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut sextet = 0;
    while sextet < 64 {
        table[alphabet[sextet] as usize] = (sextet as u32) << shift;
        sextet += 1;
    }
    table[b'-' as usize] = 62 << shift;
    table[b'_' as usize] = 63 << shift;
    table
}

/// Decodes a whole string.
pub fn decode_lenient(text: &Str<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.as_bytes().len() / 4 * 3 + 3);
    let mut decoder = Decoder::new();
    decoder.feed(text.as_bytes(), &mut out);
    decoder.finish(&mut out);
    out
}

/// Whether strict readers take it too: groups of four from either alphabet, padded, no stray bits.
/// The current client refuses a whole page for one envelope in which this does not hold (spec 4.3).
pub fn is_canonical(text: &[u8]) -> bool {
    if !text.len().is_multiple_of(4) {
        return false;
    }
    let (digits, stray) = match text {
        [head @ .., last, b'=', b'='] => (head, PLACES[3][usize::from(*last)] & (SKIP | 0x0f)),
        [head @ .., last, b'='] => (head, PLACES[3][usize::from(*last)] & (SKIP | 0x03)),
        _ => (text, 0),
    };
    let all = digits.iter().fold(0, |all, byte| all | PLACES[3][usize::from(*byte)]);
    (all & SKIP) | stray == 0
}

/// Appends canonical base64: padded, `+` and `/`.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    STANDARD.encode_slice(bytes, &mut out[start..]).expect("the room was computed above");
}

/// Decodes a text that arrives in pieces, split anywhere.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    /// Sextets of the group that is not full yet, and how many.
    group: u32,
    held: u8,
    /// Start of a character that the last piece cut, and how many bytes of it.
    cut: [u8; 4],
    cut_length: u8,
    ended: bool,
}

impl Decoder {
    /// Starts a text.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decodes the next piece of WTF-8 and appends the bytes.
    pub fn feed(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        while !self.ended {
            if self.held == 0 && self.cut_length == 0 {
                piece = decode_groups(piece, out);
            }
            let Some((first, rest)) = piece.split_first() else { return };
            piece = rest;
            self.byte(*first, out);
        }
    }

    /// Ends the text and appends what an incomplete group holds.
    pub fn finish(self, out: &mut Vec<u8>) {
        let bytes = self.group << (6 * (4 - u32::from(self.held)));
        let whole = usize::from(self.held).saturating_sub(1);
        out.extend_from_slice(&bytes.to_be_bytes()[1..][..whole]);
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        if byte < 0x80 && self.cut_length == 0 {
            return self.unit(byte, out);
        }
        self.cut[usize::from(self.cut_length)] = byte;
        self.cut_length += 1;
        let length = match self.cut[0] {
            0..0xe0 => 2,
            0xe0..0xf0 => 3,
            _ => 4,
        };
        if self.cut_length == length {
            self.cut_length = 0;
            let (point, _) = code_point(&self.cut[..usize::from(length)]).unwrap_or_default();
            let (first, second) = units(point);
            self.unit(first.to_le_bytes()[0], out);
            if let Some(second) = second {
                self.unit(second.to_le_bytes()[0], out);
            }
        }
    }

    /// Takes the low byte of one UTF-16 unit.
    fn unit(&mut self, low: u8, out: &mut Vec<u8>) {
        let sextet = PLACES[3][usize::from(low)];
        if low == b'=' || self.ended {
            self.ended = true;
        } else if sextet != SKIP {
            self.group = self.group << 6 | sextet;
            self.held += 1;
            if self.held == 4 {
                out.extend_from_slice(&self.group.to_be_bytes()[1..]);
                (self.group, self.held) = (0, 0);
            }
        }
    }
}

/// Decodes full groups from the start of a text; what is left when something else comes.
fn decode_groups<'a>(mut text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    loop {
        let block = &text[..text.len().min(BLOCK) / 4 * 4];
        let mut bytes = [0; BLOCK / 4 * 3];
        let mut groups = 0;
        for (group, to) in block.chunks_exact(4).zip(bytes.chunks_exact_mut(3)) {
            let value = (0..4).fold(0, |sum, at| sum | PLACES[at][usize::from(group[at])]);
            if value & SKIP != 0 {
                break;
            }
            to.copy_from_slice(&value.to_be_bytes()[1..]);
            groups += 1;
        }
        out.extend_from_slice(&bytes[..groups * 3]);
        text = &text[groups * 4..];
        if groups < BLOCK / 4 {
            return text;
        }
    }
}

/// Encodes bytes that arrive in pieces as one canonical text.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    carry: [u8; 3],
    carried: usize,
}

impl Encoder {
    /// Starts a text.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes the next piece and appends what is complete.
    pub fn feed(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        while self.carried > 0 && self.carried < 3 {
            let Some((first, rest)) = piece.split_first() else { return };
            self.carry[self.carried] = *first;
            self.carried += 1;
            piece = rest;
        }
        if self.carried == 3 {
            encode(&self.carry, out);
            self.carried = 0;
        }
        let whole = piece.len() / 3 * 3;
        encode(&piece[..whole], out);
        let rest = &piece[whole..];
        self.carry[..rest.len()].copy_from_slice(rest);
        self.carried = rest.len();
    }

    /// Ends the text with its padding.
    pub fn finish(self, out: &mut Vec<u8>) {
        encode(&self.carry[..self.carried], out);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vectors::{hex, table, text};

    /// The rule of the module doc, one character at a time.
    fn naive(text: &str) -> Vec<u8> {
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let (mut bits, mut count, mut out) = (0_u32, 0, Vec::new());
        for unit in text.encode_utf16() {
            let low = match char::from(unit.to_le_bytes()[0]) {
                '-' => '+',
                '_' => '/',
                '=' => break,
                other => other,
            };
            let Some(sextet) = alphabet.find(low) else { continue };
            bits = bits << 6 | u32::try_from(sextet).unwrap();
            count += 6;
            if count >= 8 {
                count -= 8;
                out.push((bits >> count & 0xff) as u8);
            }
        }
        out
    }

    fn in_pieces(text: &[u8], cuts: &[prop::sample::Index]) -> Vec<u8> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let (mut decoder, mut out) = (Decoder::new(), Vec::new());
        cuts.windows(2).for_each(|pair| decoder.feed(&text[pair[0]..pair[1]], &mut out));
        decoder.finish(&mut out);
        out
    }

    #[test]
    fn texts_decode_as_in_javascript() {
        for row in table("base64") {
            assert_eq!(decode_lenient(&text(&row, "text").into()), hex(&row, "hex"), "{row}");
            assert_eq!(naive(text(&row, "text")), hex(&row, "hex"), "{row}");
        }
    }

    #[test]
    fn canonical_means_what_strict_readers_accept() {
        let yes = ["", "YQ==", "YWI=", "YWJj", "-_-_", "+_-/", "AAAAAA=="];
        let no = [
            "YQ", "YQ=", "YR==", "YWJ=", "Y===", "====", "=", "YW J", "YQ==YQ==", "YWJj\n", "ab=c",
            "é===",
        ];
        yes.into_iter().for_each(|text| assert!(is_canonical(text.as_bytes()), "{text}"));
        no.into_iter().for_each(|text| assert!(!is_canonical(text.as_bytes()), "{text}"));
    }

    proptest! {
        #[test]
        fn decoding_matches_the_naive_model(
            text in "([A-Za-z0-9+/_-]{0,90}[ =\\n!é€😀İ]{0,2}){0,4}",
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let expected = naive(&text);
            prop_assert_eq!(&decode_lenient(&text.as_str().into()), &expected);
            prop_assert_eq!(&in_pieces(text.as_bytes(), &cuts), &expected);
        }

        #[test]
        fn any_bytes_decode_the_same_in_pieces(
            text in prop::collection::vec(any::<u8>(), 0..40),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            prop_assert_eq!(in_pieces(&text, &cuts), in_pieces(&text, &[]));
        }

        #[test]
        fn what_is_encoded_decodes_and_is_canonical(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut text = Vec::new();
            encode(&bytes, &mut text);
            prop_assert!(is_canonical(&text));
            prop_assert_eq!(&decode_lenient(&Str::from_wtf8(&text)), &bytes);
            let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
            let (mut encoder, mut pieces) = (Encoder::new(), Vec::new());
            [head, tail].into_iter().for_each(|piece| encoder.feed(piece, &mut pieces));
            encoder.finish(&mut pieces);
            prop_assert_eq!(pieces, text);
        }
    }
}
