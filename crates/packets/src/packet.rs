//! A packet as it came, in the buffer it came in.

use bytes::BytesMut;
use edge::ws::Frame;
use proto::pad::{Malformed, cipher::FRAME_HEADER_BYTES, tcp, ws};

/// Bytes of a body that are logged when packets are.
const DUMPED_BYTES: usize = 64;

/// Which generation a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wire {
    /// Generation A: WebSocket messages.
    WebSocket,
    /// Generation B: encrypted frames over TCP.
    Encrypted,
}

/// Which id a packet goes out with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id {
    /// This one: that of the request answered, or one of the service's own. Generation B keeps
    /// its low byte.
    Of(u32),
    /// The server begins: 0 in generation A, the connection's own count in generation B.
    Own,
}

/// One packet of an activated client. Owns the buffer it was read into, so that passing it on
/// costs no copy.
pub struct Packet {
    /// The type.
    pub kind: u16,
    /// The id the client chose.
    pub id: u32,
    pub(crate) carrier: Carrier,
}

/// A packet with room before it for what the wire puts there.
pub(crate) enum Carrier {
    /// An unmasked WebSocket frame.
    WebSocket(Frame),
    /// The plaintext, behind as many bytes as the frame's header has.
    Encrypted(BytesMut),
}

impl Packet {
    /// The packet in a whole message of generation A.
    pub(crate) fn from_message(frame: Frame) -> Result<Self, Malformed> {
        let packet = ws::Packet::parse(frame.as_payload())?;
        let (kind, id) = (packet.kind, packet.id);
        Ok(Self { kind, id, carrier: Carrier::WebSocket(frame) })
    }

    /// The packet in an opened frame of generation B.
    pub(crate) fn from_frame(frame: BytesMut) -> Result<Self, Malformed> {
        let plain = frame.get(FRAME_HEADER_BYTES..).ok_or(Malformed)?;
        let packet = tcp::Packet::parse(plain)?;
        let (kind, id) = (packet.kind.into(), packet.id.into());
        Ok(Self { kind, id, carrier: Carrier::Encrypted(frame) })
    }

    /// The generation it came in.
    pub fn wire(&self) -> Wire {
        match self.carrier {
            Carrier::WebSocket(_) => Wire::WebSocket,
            Carrier::Encrypted(_) => Wire::Encrypted,
        }
    }

    /// Logs its beginning, at the operator's wish.
    pub(crate) fn dump(&self) {
        let body = self.body();
        let begin = body[..body.len().min(DUMPED_BYTES)].iter();
        let hex: String = begin.map(|byte| format!("{byte:02x}")).collect();
        tracing::info!(wire = ?self.wire(), kind = self.kind, id = self.id, bytes = body.len(),
            body = hex, "packet");
    }

    /// What follows the header.
    pub fn body(&self) -> &[u8] {
        match &self.carrier {
            Carrier::WebSocket(frame) => &frame.as_payload()[ws::HEADER_BYTES..],
            Carrier::Encrypted(frame) => &frame[FRAME_HEADER_BYTES + tcp::HEADER_BYTES..],
        }
    }
}

impl Carrier {
    /// A packet of our own making.
    pub(crate) fn encode(wire: Wire, kind: u16, id: u32, body: &[u8]) -> Result<Self, Malformed> {
        match wire {
            Wire::WebSocket => {
                let mut packet = Vec::new();
                ws::Packet { kind, id, body }.encode(&mut packet)?;
                Ok(Self::WebSocket(Frame::binary(&packet)))
            }
            Wire::Encrypted => {
                let kind = u8::try_from(kind).map_err(|_| Malformed)?;
                let header = tcp::header(kind, id.to_le_bytes()[0], body.len())?;
                let mut frame =
                    BytesMut::with_capacity(FRAME_HEADER_BYTES + tcp::HEADER_BYTES + body.len());
                frame.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
                frame.extend_from_slice(&header);
                frame.extend_from_slice(body);
                Ok(Self::Encrypted(frame))
            }
        }
    }

    /// Bytes it takes on the wire.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::WebSocket(frame) => frame.len(),
            Self::Encrypted(frame) => frame.len(),
        }
    }
}
