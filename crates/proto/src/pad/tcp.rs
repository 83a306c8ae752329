//! Packets of generation B, carried by encrypted frames over TCP.
//!
//! ```text
//! u8  type
//! u8  id
//! u16 size   of the body; written correctly, not looked at when read
//! ...        body: the rest of the frame
//! ```
//! Strings and byte arrays are `u16 length` and the bytes, lists `u16 count` and the elements,
//! booleans one byte. Bytes behind the last field of a body are ignored.

use super::fields::{Fields, Malformed, length};

/// Bytes of a packet's header.
pub const HEADER_BYTES: usize = 4;
/// Longest packet, header included: what is left of a frame of 65,535 bytes.
pub const PACKET_MAX: usize = 65_503;
/// Longest body.
pub const BODY_MAX: usize = PACKET_MAX - HEADER_BYTES;

/// Packet types of peer-linker beside those in [`super::kind`].
pub mod linker {
    /// To the server: a string, the name of the pad to be made.
    pub const REGISTER_PAD: u16 = 0x03;
    /// To the server: removes the session's pad.
    pub const UNREGISTER_PAD: u16 = 0x04;
    /// To the server: a [`Link`](super::Link), the pad wanted and a secret for its owner.
    pub const LINK: u16 = 0x05;
    /// To the server: ends the link.
    pub const UNLINK: u16 = 0x06;
    /// To a linked client: its partner is gone; empty.
    pub const UNLINKED: u16 = 0x07;
    /// To the owner of a pad: a [`Link`](super::Link), the requester's pad and its secret.
    pub const AUTH: u16 = 0x08;
    /// To the server: an [`AuthResponse`](super::AuthResponse).
    pub const AUTH_RESPONSE: u16 = 0x09;
    /// Both ways: bytes for the linked pad.
    pub const PAYLOAD: u16 = 0x10;
}

/// Packet types of channel-hub beside those in [`super::kind`].
pub mod hub {
    /// To the server: a string, the name of the channel to be made.
    pub const REGISTER_CHANNEL: u16 = 0x03;
    /// To the server: a string, the name of the channel to be removed.
    pub const UNREGISTER_CHANNEL: u16 = 0x04;
    /// To the server: asks for all channels.
    pub const GET_CHANNELS: u16 = 0x05;
    /// To the client: a list of strings in the order of registration.
    pub const CHANNELS: u16 = 0x06;
    /// To the server and on to the channel's owner: a string, the channel's name.
    pub const REQUEST_PAD: u16 = 0x07;
    /// From the owner to the server and on to the requester: a
    /// [`PadCreated`](super::PadCreated).
    pub const PAD_CREATED: u16 = 0x08;
}

/// One packet, borrowed from its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The type.
    pub kind: u8,
    /// The id: a request's, echoed in its answer, or the next of the sender's own.
    pub id: u8,
    /// What follows the header.
    pub body: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads the plaintext of one frame.
    ///
    /// # Errors
    /// When it is shorter than a header. Any size field is taken.
    pub fn parse(plain: &'a [u8]) -> Result<Self, Malformed> {
        let (&[kind, id, ..], body) = plain.split_first_chunk::<HEADER_BYTES>().ok_or(Malformed)?;
        Ok(Self { kind, id, body })
    }

    /// Appends the packet.
    ///
    /// # Errors
    /// When the body is longer than [`BODY_MAX`]; nothing is appended then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        out.reserve(HEADER_BYTES + self.body.len());
        out.extend_from_slice(&header(self.kind, self.id, self.body.len())?);
        out.extend_from_slice(self.body);
        Ok(())
    }
}

/// The header of a packet with a body of `body_bytes`.
///
/// # Errors
/// When the body is longer than [`BODY_MAX`].
pub fn header(kind: u8, id: u8, body_bytes: usize) -> Result<[u8; HEADER_BYTES], Malformed> {
    let size =
        u16::try_from(body_bytes).ok().filter(|_| body_bytes <= BODY_MAX).ok_or(Malformed)?;
    let [low, high] = size.to_le_bytes();
    Ok([kind, id, low, high])
}

/// The id after `last` in the sender's own count: 1, 2, ... 255, 0, 1, ...; begin with 0.
pub fn next_id(last: u8) -> u8 {
    last.wrapping_add(1)
}

/// Reads a body of one string, such as a certificate or a name.
///
/// # Errors
/// When it is cut short.
pub fn string(body: &[u8]) -> Result<&[u8], Malformed> {
    Fields(body).string()
}

/// Appends one string.
///
/// # Errors
/// When it is longer than 65,535 bytes; nothing is appended then.
pub fn push_string(string: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    out.extend_from_slice(&length(string)?);
    out.extend_from_slice(string);
    Ok(())
}

/// Body of [`linker::LINK`] and [`linker::AUTH`]: string name, bytes secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link<'a> {
    /// The pad asked for, or the pad that asks.
    pub name: &'a [u8],
    /// What the owner of the pad asked for decides by; may be empty.
    pub secret: &'a [u8],
}

impl<'a> Link<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is cut short.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(body);
        Ok(Self { name: fields.string()?, secret: fields.string()? })
    }

    /// Appends the body.
    ///
    /// # Errors
    /// When it would be longer than [`BODY_MAX`]; nothing is appended then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        push_strings(self.name, self.secret, out)
    }
}

/// Body of [`linker::AUTH_RESPONSE`]: string requester, bool ok.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthResponse<'a> {
    /// The pad that asked.
    pub requester: &'a [u8],
    /// Whether it is accepted; read from any byte but zero, written as 1.
    pub ok: bool,
}

impl<'a> AuthResponse<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is cut short.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(body);
        Ok(Self { requester: fields.string()?, ok: fields.u8()? != 0 })
    }

    /// Appends the body.
    ///
    /// # Errors
    /// When the name is longer than 65,535 bytes; nothing is appended then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        push_string(self.requester, out)?;
        out.push(self.ok.into());
        Ok(())
    }
}

/// Body of [`hub::PAD_CREATED`]: string channel, string pad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PadCreated<'a> {
    /// The channel for which a pad was asked.
    pub channel: &'a [u8],
    /// The pad's name; empty means refused.
    pub pad: &'a [u8],
}

impl<'a> PadCreated<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is cut short.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(body);
        Ok(Self { channel: fields.string()?, pad: fields.string()? })
    }

    /// Appends the body.
    ///
    /// # Errors
    /// When it would be longer than [`BODY_MAX`]; nothing is appended then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        push_strings(self.channel, self.pad, out)
    }
}

fn push_strings(first: &[u8], second: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    if 4 + first.len() + second.len() > BODY_MAX {
        return Err(Malformed);
    }
    push_string(first, out)?;
    push_string(second, out)
}

/// Reads the body of [`hub::CHANNELS`].
///
/// # Errors
/// When it is cut short.
pub fn channels(body: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    let mut fields = Fields(body);
    let count = fields.u16()?;
    (0..count).map(|_| fields.string()).collect()
}

/// Appends the body of [`hub::CHANNELS`].
///
/// # Errors
/// When it would be longer than [`BODY_MAX`]; `out` holds a part of it then.
pub fn push_channels<'a>(
    names: impl ExactSizeIterator<Item = &'a [u8]>,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let begin = out.len();
    let count = u16::try_from(names.len()).map_err(|_| Malformed)?;
    out.extend_from_slice(&count.to_le_bytes());
    for name in names {
        push_string(name, out)?;
        if out.len() - begin > BODY_MAX {
            return Err(Malformed);
        }
    }
    Ok(())
}
