//! Frames to be sent, encoded once.

use bytes::Bytes;

use super::codec::Opcode;

/// Room for the longest header of an unmasked frame.
const HEADER_MAX: usize = 10;

/// One frame as it goes over the wire. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// A text frame; `payload` has to be UTF-8.
    pub fn text(payload: impl AsRef<[u8]>) -> Self {
        Self::copied(Opcode::Text, payload.as_ref())
    }

    /// A binary frame.
    pub fn binary(payload: impl AsRef<[u8]>) -> Self {
        Self::copied(Opcode::Binary, payload.as_ref())
    }

    /// A text frame whose payload `write` appends to a buffer with room for `capacity` bytes.
    ///
    /// Saves the copy that [`Frame::text`] makes. `write` must only append, and UTF-8.
    pub fn text_with(capacity: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut bytes = Vec::with_capacity(HEADER_MAX + capacity);
        bytes.resize(HEADER_MAX, 0);
        write(&mut bytes);
        let (header, len) = header(Opcode::Text, bytes.len() - HEADER_MAX);
        let begin = HEADER_MAX - len;
        bytes[begin..HEADER_MAX].copy_from_slice(&header[..len]);
        let mut bytes = Bytes::from(bytes);
        bytes::Buf::advance(&mut bytes, begin);
        Self(bytes)
    }

    /// A frame that is encoded already.
    pub(super) fn from_wire(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// A ping without payload.
    pub fn ping() -> Self {
        Self(Bytes::from_static(&[0x89, 0]))
    }

    /// The answer to a ping with this payload of at most 125 bytes.
    pub fn pong(payload: &[u8]) -> Self {
        Self::copied(Opcode::Pong, payload)
    }

    /// A close frame; without a code it is empty. The reason is cut to what fits.
    pub fn close(code: Option<u16>, reason: &[u8]) -> Self {
        let mut payload = Vec::with_capacity(2 + reason.len());
        if let Some(code) = code {
            payload.extend_from_slice(&code.to_be_bytes());
            payload.extend_from_slice(&reason[..cut(reason, 123)]);
        }
        Self::copied(Opcode::Close, &payload)
    }

    /// Length on the wire, header included, in bytes.
    #[expect(clippy::len_without_is_empty, reason = "no frame is empty: it has a header")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The payload, shared.
    pub fn payload(&self) -> Bytes {
        self.0.slice(header_len(&self.0)..)
    }

    /// The payload, borrowed.
    pub fn as_payload(&self) -> &[u8] {
        &self.0[header_len(&self.0)..]
    }

    /// The whole frame, shared.
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The whole frame.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    fn copied(opcode: Opcode, payload: &[u8]) -> Self {
        let (header, len) = header(opcode, payload.len());
        let mut bytes = Vec::with_capacity(len + payload.len());
        bytes.extend_from_slice(&header[..len]);
        bytes.extend_from_slice(payload);
        Self(bytes.into())
    }
}

/// The largest length up to `max` that does not cut a UTF-8 character.
fn cut(text: &[u8], max: usize) -> usize {
    if text.len() <= max {
        return text.len();
    }
    (0..=max).rev().find(|&end| text[end] & 0xC0 != 0x80).unwrap_or(0)
}

pub(super) fn header(opcode: Opcode, len: usize) -> ([u8; HEADER_MAX], usize) {
    let mut header = [0; HEADER_MAX];
    header[0] = 0x80 | opcode as u8;
    let used = match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len), _) if len < 126 => {
            header[1] = len;
            2
        }
        (_, Ok(len)) => {
            header[1] = 126;
            header[2..4].copy_from_slice(&len.to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..10].copy_from_slice(&(len as u64).to_be_bytes());
            10
        }
    };
    (header, used)
}

fn header_len(frame: &[u8]) -> usize {
    match frame[1] {
        126 => 4,
        127 => 10,
        _ => 2,
    }
}

/// Length of the whole frame that begins here; the frame is one of ours.
pub(super) fn frame_len(frame: &[u8]) -> usize {
    let header = header_len(frame);
    let payload = match header {
        2 => usize::from(frame[1]),
        4 => usize::from(u16::from_be_bytes([frame[2], frame[3]])),
        _ => {
            let bytes = *frame[2..].first_chunk().expect("a ten byte header has eight of length");
            usize::try_from(u64::from_be_bytes(bytes)).expect("it was encoded from a usize")
        }
    };
    header + payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_making_a_frame_agree_at_every_header_size() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 100_000] {
            let payload = vec![b'x'; len];
            let frame = Frame::text(&payload);
            assert_eq!(frame, Frame::text_with(len, |out| out.extend_from_slice(&payload)));
            assert_eq!(frame.payload(), payload);
            assert_eq!(frame_len(frame.bytes()), frame.len());
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let frame = Frame::close(Some(1000), "é".repeat(100).as_bytes());
        assert_eq!(frame.payload().len(), 2 + 122);
        assert!(std::str::from_utf8(&frame.payload()[2..]).is_ok());
    }
}
