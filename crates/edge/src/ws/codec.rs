//! Decoding of what a client sends. No I/O here, so that it can be fuzzed.

use bytes::{Buf, Bytes, BytesMut};

use super::frame::{self, Frame};

/// Longest payload of a control frame.
const CONTROL_MAX: usize = 125;

/// Frame kinds of RFC 6455, section 5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// What a client sent, put together and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A whole text message; valid UTF-8.
    Text(Bytes),
    /// A whole binary message.
    Binary(Bytes),
    /// A whole message of either kind, as a binary frame to be passed on; only from
    /// [`Decoder::opaque`].
    Whole(Frame),
    /// A message longer than the limit has passed by; only from [`Decoder::opaque`].
    Oversized,
    /// A ping, to be answered with the same payload.
    Ping(Bytes),
    /// A pong; what it answers does not matter.
    Pong,
    /// A close frame: its code and reason (UTF-8), if it has any.
    Close(Option<(u16, Bytes)>),
}

/// Why a connection has to be closed. Nothing can be decoded afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The frame breaks RFC 6455.
    #[error("{0}")]
    Protocol(&'static str),
    /// Text that is not UTF-8.
    #[error("invalid UTF-8")]
    Utf8,
    /// The message is longer than the limit.
    #[error("message too big")]
    TooBig,
}

impl Violation {
    /// The close code that tells it.
    pub fn code(self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::Utf8 => 1007,
            Self::TooBig => 1009,
        }
    }
}

/// Turns bytes into [`Item`]s. Holds nothing while there is no partial frame or message.
pub struct Decoder {
    pub(crate) buffer: BytesMut,
    /// The message that is being put together; boxed because it is rare.
    fragments: Option<Box<Fragments>>,
    max_message_bytes: usize,
    opaque: bool,
    /// Frames come from a server, so without a mask.
    unmasked: bool,
}

struct Fragments {
    opcode: Opcode,
    bytes: BytesMut,
    /// Too long: nothing of it is kept.
    skipped: Option<Skip>,
}

/// What is left of a frame whose message is not kept.
struct Skip {
    bytes: usize,
    last: bool,
}

/// What became of the bytes of a message that is not kept.
enum Skipped {
    Nothing,
    UpToHere,
    Message,
}

struct Head {
    opcode: Opcode,
    finished: bool,
    mask: [u8; 4],
    /// Bytes of header, mask included.
    size: usize,
    /// Bytes of payload.
    len: usize,
}

impl Decoder {
    /// A decoder that refuses messages longer than `max_message_bytes`.
    pub fn new(max_message_bytes: usize) -> Self {
        let (buffer, fragments) = (BytesMut::new(), None);
        Self { buffer, fragments, max_message_bytes, opaque: false, unmasked: false }
    }

    /// A decoder that does not tell text from binary, gives messages as [`Item::Whole`], and lets
    /// longer ones pass by as [`Item::Oversized`] without keeping any of them.
    pub fn opaque(max_message_bytes: usize) -> Self {
        Self { opaque: true, ..Self::new(max_message_bytes) }
    }

    /// As [`Decoder::opaque`], for the frames a server sends, which have no mask.
    pub fn of_server(max_message_bytes: usize) -> Self {
        Self { unmasked: true, ..Self::opaque(max_message_bytes) }
    }

    /// What has been read and not been decoded yet; more may be appended.
    pub fn buffer_mut(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Adds bytes as they came.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next item, or `None` until more bytes are fed.
    ///
    /// # Errors
    /// At the first violation, as early as the header tells.
    pub fn next_item(&mut self) -> Result<Option<Item>, Violation> {
        loop {
            match self.skip() {
                Skipped::Nothing => {}
                Skipped::UpToHere => return Ok(None),
                Skipped::Message => return Ok(Some(Item::Oversized)),
            }
            let Some(head) = self.head()? else { return Ok(None) };
            if self.opaque && self.is_too_long(&head) {
                self.begin_skip(&head);
                continue;
            }
            if self.buffer.len() < head.size + head.len {
                return Ok(None);
            }
            if self.opaque && head.finished && matches!(head.opcode, Opcode::Text | Opcode::Binary)
            {
                return Ok(Some(Item::Whole(self.take_whole(&head))));
            }
            let mut payload = self.take(&head);
            unmask(&mut payload, head.mask);
            if let Some(item) = self.item(&head, payload)? {
                return Ok(Some(item));
            }
        }
    }

    /// How many more bytes the frame that has begun needs, at least.
    pub fn missing(&self) -> usize {
        match self.head() {
            Ok(Some(head)) => (head.size + head.len).saturating_sub(self.buffer.len()),
            _ => 1,
        }
    }

    fn head(&self) -> Result<Option<Head>, Violation> {
        let Some((&[first, second], rest)) = self.buffer.split_first_chunk() else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(Violation::Protocol("reserved bits set"));
        }
        let opcode =
            Opcode::from_bits(first & 0x0F).ok_or(Violation::Protocol("unknown opcode"))?;
        let finished = first & 0x80 != 0;
        if (second & 0x80 == 0) != self.unmasked {
            return Err(Violation::Protocol(match self.unmasked {
                true => "frame is masked",
                false => "frame is not masked",
            }));
        }
        self.check_order(opcode, finished, second & 0x7F)?;
        let (len, rest, long) = match second & 0x7F {
            126 => match rest.split_first_chunk() {
                Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), rest, 2),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((len, rest)) => (u64::from_be_bytes(*len), rest, 8),
                None => return Ok(None),
            },
            len => (u64::from(len), rest, 0),
        };
        let len = usize::try_from(len).map_err(|_| Violation::TooBig)?;
        if len > self.room() && !opcode.is_control() && !self.opaque {
            return Err(Violation::TooBig);
        }
        if self.unmasked {
            return Ok(Some(Head { opcode, finished, mask: [0; 4], size: 2 + long, len }));
        }
        let Some(&mask) = rest.first_chunk() else { return Ok(None) };
        Ok(Some(Head { opcode, finished, mask, size: 6 + long, len }))
    }

    /// Bytes of payload that the message may still have.
    fn room(&self) -> usize {
        let gathered = self.fragments.as_ref().map_or(0, |fragments| fragments.bytes.len());
        self.max_message_bytes.saturating_sub(gathered)
    }

    fn is_too_long(&self, head: &Head) -> bool {
        let skipping = self.fragments.as_ref().is_some_and(|message| message.skipped.is_some());
        !head.opcode.is_control() && (skipping || head.len > self.room())
    }

    fn begin_skip(&mut self, head: &Head) {
        self.buffer.advance(head.size);
        let skipped = Some(Skip { bytes: head.len, last: head.finished });
        let message = Fragments { opcode: head.opcode, bytes: BytesMut::new(), skipped };
        self.fragments = Some(Box::new(message));
    }

    /// Throws away what is here of a message that is not kept.
    fn skip(&mut self) -> Skipped {
        let message = self.fragments.as_mut().and_then(|message| message.skipped.as_mut());
        let Some(skip) = message else { return Skipped::Nothing };
        let here = skip.bytes.min(self.buffer.len());
        self.buffer.advance(here);
        skip.bytes -= here;
        if skip.bytes > 0 {
            // An empty slice would keep the thread's buffer alive.
            self.buffer = BytesMut::new();
            return Skipped::UpToHere;
        }
        if skip.last {
            self.fragments = None;
            return Skipped::Message;
        }
        Skipped::Nothing
    }

    /// Takes a frame that is a whole message, as the frame to pass on: without the mask its header
    /// is shorter, so it is written over the one that came.
    fn take_whole(&mut self, head: &Head) -> Frame {
        let mut whole = self.split(head.size + head.len);
        let (header, payload) = whole.split_at_mut(head.size);
        unmask(payload, head.mask);
        let (new, used) = frame::header(Opcode::Binary, payload.len());
        let begin = header.len() - used;
        header[begin..].copy_from_slice(&new[..used]);
        whole.advance(begin);
        Frame::from_wire(whole.freeze())
    }

    fn check_order(&self, opcode: Opcode, finished: bool, len: u8) -> Result<(), Violation> {
        let rule = if opcode.is_control() {
            (!finished || usize::from(len) > CONTROL_MAX)
                .then_some("control frame too long or fragmented")
        } else if opcode == Opcode::Continuation {
            self.fragments.is_none().then_some("nothing to continue")
        } else {
            self.fragments.is_some().then_some("message inside a fragmented message")
        };
        rule.map_or(Ok(()), |broken| Err(Violation::Protocol(broken)))
    }

    /// Takes one frame out of the buffer, and the buffer away when that empties it.
    fn take(&mut self, head: &Head) -> BytesMut {
        self.buffer.advance(head.size);
        self.split(head.len)
    }

    fn split(&mut self, bytes: usize) -> BytesMut {
        if self.buffer.len() == bytes {
            std::mem::take(&mut self.buffer)
        } else {
            self.buffer.split_to(bytes)
        }
    }

    fn item(&mut self, head: &Head, payload: BytesMut) -> Result<Option<Item>, Violation> {
        match head.opcode {
            Opcode::Ping => Ok(Some(Item::Ping(payload.freeze()))),
            Opcode::Pong => Ok(Some(Item::Pong)),
            Opcode::Close => close(payload.freeze()).map(Some),
            Opcode::Continuation => {
                let mut fragments = self.fragments.take().expect("checked with the header");
                fragments.bytes.extend_from_slice(&payload);
                if head.finished && self.opaque {
                    return Ok(Some(Item::Whole(Frame::binary(&fragments.bytes))));
                }
                if head.finished {
                    return message(fragments.opcode, fragments.bytes).map(Some);
                }
                self.fragments = Some(fragments);
                Ok(None)
            }
            opcode if head.finished => message(opcode, payload).map(Some),
            opcode => {
                // A copy, because the message may take its time and must not hold the thread's
                // read buffer meanwhile.
                let bytes = BytesMut::from(&payload[..]);
                self.fragments = Some(Box::new(Fragments { opcode, bytes, skipped: None }));
                Ok(None)
            }
        }
    }
}

fn message(opcode: Opcode, payload: BytesMut) -> Result<Item, Violation> {
    if opcode == Opcode::Binary {
        return Ok(Item::Binary(payload.freeze()));
    }
    simdutf8::basic::from_utf8(&payload).map_err(|_| Violation::Utf8)?;
    Ok(Item::Text(payload.freeze()))
}

fn close(mut payload: Bytes) -> Result<Item, Violation> {
    if payload.is_empty() {
        return Ok(Item::Close(None));
    }
    let code = payload.try_get_u16().map_err(|_| Violation::Protocol("half a close code"))?;
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::Protocol("invalid close code"));
    }
    simdutf8::basic::from_utf8(&payload).map_err(|_| Violation::Utf8)?;
    Ok(Item::Close(Some((code, payload))))
}

/// Applies the mask (RFC 6455, section 5.3), a word at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    if mask == [0; 4] {
        return;
    }
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests;
