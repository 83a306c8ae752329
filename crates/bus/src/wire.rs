//! What the replicas send each other.
//!
//! ```text
//! packet = 01  from:16  part*
//! part   = number:u64  previous:u64  kind:u8  length:u32  bytes
//! kind   = 0 a whole message | 1 more of it follows | 2 something before this is missing
//! ```
//! Integers are big-endian. A sender numbers all its parts; `previous` is the number of the part
//! before it in the same topic, 0 for the first. So a receiver notices a gap and a repetition.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;

const VERSION: u8 = 1;

/// Bytes of a packet before its parts.
pub(crate) const HEAD: usize = 1 + 16;

/// Bytes of a part before its message.
pub(crate) const PART: usize = 8 + 8 + 1 + 4;

/// What a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Whole = 0,
    More = 1,
    Loss = 2,
}

/// One message, or a piece of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) number: u64,
    pub(crate) previous: u64,
    pub(crate) kind: Kind,
    pub(crate) bytes: Bytes,
}

impl Part {
    /// Bytes on the wire.
    pub(crate) fn len(&self) -> usize {
        PART + self.bytes.len()
    }
}

/// Begins a packet.
pub(crate) fn begin(from: Uuid, capacity: usize) -> BytesMut {
    let mut packet = BytesMut::with_capacity(HEAD + capacity);
    packet.put_u8(VERSION);
    packet.put_slice(from.as_bytes());
    packet
}

/// Appends a part.
pub(crate) fn append(packet: &mut BytesMut, part: &Part) {
    packet.put_u64(part.number);
    packet.put_u64(part.previous);
    packet.put_u8(part.kind as u8);
    packet.put_u32(u32::try_from(part.bytes.len()).unwrap_or(u32::MAX));
    packet.put_slice(&part.bytes);
}

/// The sender and the parts, which share the packet's memory; `None` for what is no packet.
pub(crate) fn decode(mut packet: Bytes) -> Option<(Uuid, Vec<Part>)> {
    if packet.len() < HEAD || packet.get_u8() != VERSION {
        return None;
    }
    let from = Uuid::from_u128(packet.get_u128());
    let mut parts = Vec::new();
    while !packet.is_empty() {
        if packet.len() < PART {
            return None;
        }
        let (number, previous) = (packet.get_u64(), packet.get_u64());
        let kind = match packet.get_u8() {
            0 => Kind::Whole,
            1 => Kind::More,
            2 => Kind::Loss,
            _ => return None,
        };
        let length = usize::try_from(packet.get_u32()).ok()?;
        if length > packet.len() {
            return None;
        }
        parts.push(Part { number, previous, kind, bytes: packet.split_to(length) });
    }
    Some((from, parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_back_whole_and_cut_ones_do_not() {
        let from = Uuid::from_u128(7);
        let part = |number, kind, bytes| Part { number, previous: number - 1, kind, bytes };
        let parts = [
            part(1, Kind::More, Bytes::from_static(b"he")),
            part(2, Kind::Whole, Bytes::from_static(b"llo")),
            part(3, Kind::Loss, Bytes::new()),
        ];
        let mut packet = begin(from, 0);
        parts.iter().for_each(|part| append(&mut packet, part));
        let packet = packet.freeze();
        assert_eq!(decode(packet.clone()), Some((from, parts.to_vec())));
        for end in (0..packet.len()).filter(|end| ![17, 40, 64].contains(end)) {
            assert_eq!(decode(packet.slice(..end)), None, "{end} bytes");
        }
    }
}
