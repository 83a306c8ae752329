//! Packets of generation A, carried by WebSocket messages.
//!
//! ```text
//! u16 size   of the whole packet, these 8 bytes included; equals the message's length
//! u16 type
//! u32 id     chosen by the sender of a request, echoed in its answer
//! ...        body
//! ```

use super::fields::{Fields, Malformed, length};

/// Bytes of a packet's header.
pub const HEADER_BYTES: usize = 8;
/// Longest packet, header included.
pub const PACKET_MAX: usize = 65_535;
/// Longest body.
pub const BODY_MAX: usize = PACKET_MAX - HEADER_BYTES;

/// Packet types of peer-linker beside those in [`super::kind`].
pub mod linker {
    /// To the server: the body is the name of the pad to be made.
    pub const REGISTER: u16 = 3;
    /// To the server: removes the session's pad; the body is ignored.
    pub const UNREGISTER: u16 = 4;
    /// To the server: a [`Link`](super::Link), the pad wanted and a secret for its owner.
    pub const LINK: u16 = 5;
    /// To the server: ends the link; the body is ignored.
    pub const UNLINK: u16 = 6;
    /// To the requester: the link is made; empty.
    pub const LINK_SUCCESS: u16 = 7;
    /// To the requester: the owner of the pad refused; empty.
    pub const LINK_DENIED: u16 = 8;
    /// To a linked client: its partner is gone; empty.
    pub const UNLINKED: u16 = 9;
    /// To the owner of a pad: a [`Link`](super::Link), the requester's pad and its secret.
    pub const LINK_AUTH: u16 = 10;
    /// To the server: a [`Verdict`](super::Verdict) with the requester's name.
    pub const LINK_AUTH_RESPONSE: u16 = 11;
}

/// Packet types of channel-hub beside those in [`super::kind`].
pub mod hub {
    /// To the server: the body is the name of the channel to be made.
    pub const REGISTER: u16 = 3;
    /// To the server: the body is the name of the channel to be removed.
    pub const UNREGISTER: u16 = 4;
    /// To the server: asks for all channels; the body is ignored.
    pub const GET_CHANNELS: u16 = 5;
    /// To the client: every name, each followed by one NUL; see [`channels`](super::channels).
    pub const GET_CHANNELS_RESPONSE: u16 = 6;
    /// To the server and on to the channel's owner: the body is the channel's name.
    pub const PAD_REQUEST: u16 = 7;
    /// From the owner to the server and on to the requester: a [`Verdict`](super::Verdict) with
    /// the pad's name.
    pub const PAD_REQUEST_RESPONSE: u16 = 8;
}

/// One packet, borrowed from its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The type.
    pub kind: u16,
    /// The id.
    pub id: u32,
    /// What follows the header.
    pub body: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Reads a whole message.
    ///
    /// # Errors
    /// When it is shorter than a header or its size field names another length.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let (header, body) = message.split_first_chunk::<HEADER_BYTES>().ok_or(Malformed)?;
        let [s0, s1, k0, k1, id @ ..] = *header;
        if usize::from(u16::from_le_bytes([s0, s1])) != message.len() {
            return Err(Malformed);
        }
        Ok(Self { kind: u16::from_le_bytes([k0, k1]), id: u32::from_le_bytes(id), body })
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
pub fn header(kind: u16, id: u32, body_bytes: usize) -> Result<[u8; HEADER_BYTES], Malformed> {
    let size = u16::try_from(HEADER_BYTES + body_bytes).map_err(|_| Malformed)?;
    let ([s0, s1], [k0, k1]) = (size.to_le_bytes(), kind.to_le_bytes());
    let [i0, i1, i2, i3] = id.to_le_bytes();
    Ok([s0, s1, k0, k1, i0, i1, i2, i3])
}

/// Body of [`linker::LINK`] and [`linker::LINK_AUTH`]: `u16 name length`, `u16 secret length`,
/// name, secret.
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
    /// When the lengths do not add up to exactly the body's.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(body);
        let (name, secret) = (fields.u16()?, fields.u16()?);
        let link = Self { name: fields.take(name)?, secret: fields.take(secret)? };
        if fields.0.is_empty() { Ok(link) } else { Err(Malformed) }
    }

    /// Appends the body.
    ///
    /// # Errors
    /// When it would be longer than [`BODY_MAX`]; nothing is appended then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let lengths = (length(self.name)?, length(self.secret)?);
        if 4 + self.name.len() + self.secret.len() > BODY_MAX {
            return Err(Malformed);
        }
        out.extend_from_slice(&lengths.0);
        out.extend_from_slice(&lengths.1);
        out.extend_from_slice(self.name);
        out.extend_from_slice(self.secret);
        Ok(())
    }
}

/// Body of [`linker::LINK_AUTH_RESPONSE`] and [`hub::PAD_REQUEST_RESPONSE`]: `u16 ok`, then a name
/// that fills the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// 0 refuses, anything else accepts.
    pub ok: u16,
    /// The requester's pad, or the pad that was made for it.
    pub name: &'a [u8],
}

impl<'a> Verdict<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// When it is shorter than two bytes.
    pub fn parse(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut fields = Fields(body);
        Ok(Self { ok: fields.u16()?, name: fields.0 })
    }

    /// Appends the body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.ok.to_le_bytes());
        out.extend_from_slice(self.name);
    }
}

/// The names in the body of [`hub::GET_CHANNELS_RESPONSE`]: each ends with a NUL, so a name that
/// holds one reads as two. A last name without its NUL counts too.
pub fn channels(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let body = body.strip_suffix(&[0]).unwrap_or(body);
    let count = if body.is_empty() { 0 } else { usize::MAX };
    body.split(|byte| *byte == 0).take(count)
}

/// Appends one name to the body of [`hub::GET_CHANNELS_RESPONSE`].
///
/// # Errors
/// When the body would be longer than [`BODY_MAX`]; nothing is appended then.
pub fn push_channel(name: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    if out.len() + name.len() + 1 > BODY_MAX {
        return Err(Malformed);
    }
    out.extend_from_slice(name);
    out.push(0);
    Ok(())
}
