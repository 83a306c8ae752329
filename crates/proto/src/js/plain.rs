//! Finding the next byte of a string that needs attention, eight bytes at a time.

const LOW: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// How many bytes stand before a quote, a backslash or a control character.
pub(super) fn before_special(text: &[u8]) -> usize {
    before(text, |word| below(word, 0x20) | equal(word, b'"') | equal(word, b'\\'))
}

/// As [`before_special`], stopping also where the bytes of a surrogate may start.
pub(super) fn before_escape(text: &[u8]) -> usize {
    before(text, |word| {
        below(word, 0x20) | equal(word, b'"') | equal(word, b'\\') | equal(word, 0xed)
    })
}

#[inline(always)]
fn before(text: &[u8], marks: impl Fn(u64) -> u64) -> usize {
    let mut length = 0;
    let (words, rest) = text.as_chunks::<8>();
    for word in words {
        let found = marks(u64::from_le_bytes(*word));
        if found != 0 {
            return length + first(found);
        }
        length += 8;
    }
    // Filled up with letters, which are never special.
    let mut word = [b'a'; 8];
    word[..rest.len()].copy_from_slice(rest);
    length + first(marks(u64::from_le_bytes(word))).min(rest.len())
}

/// Which byte the lowest mark is in; 8 if there is none. Marks above the lowest may be false:
/// the subtractions below borrow from byte to byte.
fn first(marks: u64) -> usize {
    marks.trailing_zeros() as usize / 8
}

fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(LOW * u64::from(limit)) & !word & HIGH
}

fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (LOW * u64::from(byte)), 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_special_byte_is_found(text in prop::collection::vec(any::<u8>(), 0..40), quiet in any::<bool>()) {
            // Mostly plain bytes, or the first eight decide every time.
            let text: Vec<u8> = text.iter().map(|byte| if quiet { byte | 0x40 } else { *byte }).collect();
            let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
            let naive = text.iter().position(special).unwrap_or(text.len());
            prop_assert_eq!(before_special(&text), naive);
            let escape = |byte: &u8| special(byte) || *byte == 0xed;
            let naive = text.iter().position(escape).unwrap_or(text.len());
            prop_assert_eq!(before_escape(&text), naive);
        }
    }
}
