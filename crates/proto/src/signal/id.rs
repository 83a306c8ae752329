//! Ids of server frames: `srv-<kind>-` and a version 4 UUID.

use std::{
    cell::Cell,
    hash::{BuildHasher, Hasher, RandomState},
};

thread_local! {
    // Ids have to be unique, not secret: a seeded counter through a mixer costs a few nanoseconds.
    static STATE: Cell<u64> = Cell::new(seed());
    static STREAM: Cell<u64> = Cell::new(seed());
}

fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn next(state: &'static std::thread::LocalKey<Cell<u64>>) -> u64 {
    // SplitMix64: every 64-bit value once per period.
    let mut mixed = state.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    state.set(mixed);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Bytes of a UUID in text.
pub(crate) const UUID_LEN: usize = 36;

/// Appends a fresh version 4 UUID.
pub(crate) fn push_uuid(out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let high = (next(&STATE) & !0xf000) | 0x4000;
    let low = (next(&STREAM) & !(0b11 << 62)) | (0b10 << 62);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&high.to_be_bytes());
    bytes[8..].copy_from_slice(&low.to_be_bytes());
    let mut text = [b'-'; UUID_LEN];
    let mut at = 0;
    for (index, byte) in bytes.into_iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_distinct_version_4_uuids() {
        let mut seen = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let mut id = Vec::new();
            push_uuid(&mut id);
            assert_eq!(id.len(), UUID_LEN);
            assert_eq!((id[8], id[13], id[14], id[18], id[23]), (b'-', b'-', b'4', b'-', b'-'));
            assert!(matches!(id[19], b'8' | b'9' | b'a' | b'b'));
            assert!(seen.insert(id));
        }
    }
}
