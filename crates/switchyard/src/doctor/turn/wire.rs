//! STUN messages (RFC 8489) as far as a TURN allocation (RFC 8656) needs them.
//!
//! ```text
//!  0                   2                   4
//!  +---------+---------+-------------------+
//!  | kind              | length            |   length: of what follows the header
//!  | magic cookie 2112A442                 |
//!  | transaction (12 bytes)                |
//!  +---------------------------------------+
//!  | attribute         | length            |   each attribute padded to 4 bytes
//!  | value ...                             |
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;

const MAGIC: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
/// Bytes before the attributes.
pub(super) const HEADER: usize = 20;
/// No answer to our questions is longer; a stream that announces more is not STUN.
pub(super) const LONGEST: usize = 4096;

/// Requests; an answer has [`SUCCESS`] or [`ERROR`] added.
pub(super) const BINDING: u16 = 0x0001;
pub(super) const ALLOCATE: u16 = 0x0003;
pub(super) const REFRESH: u16 = 0x0004;
pub(super) const SUCCESS: u16 = 0x0100;
pub(super) const ERROR: u16 = 0x0110;

/// Attributes.
pub(super) const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
pub(super) const LIFETIME: u16 = 0x000D;
pub(super) const REALM: u16 = 0x0014;
pub(super) const NONCE: u16 = 0x0015;
pub(super) const XOR_RELAYED_ADDRESS: u16 = 0x0016;
pub(super) const REQUESTED_TRANSPORT: u16 = 0x0019;
pub(super) const XOR_MAPPED_ADDRESS: u16 = 0x0020;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Method and class.
    pub(super) kind: u16,
    /// Which question it belongs to.
    pub(super) transaction: [u8; 12],
    attributes: Vec<(u16, Vec<u8>)>,
    /// The bytes before its MESSAGE-INTEGRITY, and what that says.
    signed: Option<(Vec<u8>, Vec<u8>)>,
}

impl Message {
    /// A question without attributes.
    pub(super) fn ask(kind: u16, transaction: [u8; 12]) -> Self {
        Self { kind, transaction, attributes: Vec::new(), signed: None }
    }

    /// With one more attribute.
    pub(super) fn with(mut self, attribute: u16, value: impl Into<Vec<u8>>) -> Self {
        self.attributes.push((attribute, value.into()));
        self
    }

    /// The first attribute of this kind.
    pub(super) fn get(&self, attribute: u16) -> Option<&[u8]> {
        let found = self.attributes.iter().find(|(kind, _)| *kind == attribute);
        found.map(|(_, value)| value.as_slice())
    }

    /// An address the server hid from NATs that rewrite what looks like one.
    pub(super) fn address(&self, attribute: u16) -> Option<SocketAddr> {
        let value = self.get(attribute)?;
        let mut mask = [0; 16];
        mask[..4].copy_from_slice(&MAGIC);
        mask[4..].copy_from_slice(&self.transaction);
        let port = u16::from_be_bytes([value.get(2)? ^ MAGIC[0], value.get(3)? ^ MAGIC[1]]);
        let mut bytes: Vec<u8> = value.get(4..)?.to_vec();
        bytes.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
        let ip: IpAddr = match value.get(1)? {
            1 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
            2 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }

    /// Code and reason of an error.
    pub(super) fn error(&self) -> Option<(u16, String)> {
        let value = self.get(ERROR_CODE)?;
        let code = u16::from(value.get(2)? & 7) * 100 + u16::from(*value.get(3)?);
        Some((code, String::from_utf8_lossy(value.get(4..)?).into_owned()))
    }

    /// The bytes to send.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.kind.to_be_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend(MAGIC);
        bytes.extend(self.transaction);
        for (kind, value) in &self.attributes {
            append(&mut bytes, *kind, value);
        }
        set_length(&mut bytes, 0);
        bytes
    }

    /// The bytes to send, signed with `key`.
    pub(super) fn encode_signed(&self, key: &[u8]) -> Vec<u8> {
        let mut bytes = self.encode();
        // What is signed already counts the signature.
        set_length(&mut bytes, 24);
        let signature = hmac(key, &bytes);
        append(&mut bytes, MESSAGE_INTEGRITY, &signature);
        bytes
    }

    /// Reads one whole message; `None` when it is none.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let kind = u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]);
        let length = length(bytes)?;
        let transaction = bytes.get(8..HEADER)?.try_into().ok()?;
        if kind & 0xC000 != 0 || bytes.len() != HEADER + length {
            return None;
        }
        let mut message = Self::ask(kind, transaction);
        let mut at = HEADER;
        while at < bytes.len() {
            let head = bytes.get(at..at + 4)?;
            let attribute = u16::from_be_bytes([head[0], head[1]]);
            let size = usize::from(u16::from_be_bytes([head[2], head[3]]));
            let value = bytes.get(at + 4..at + 4 + size)?.to_vec();
            if attribute == MESSAGE_INTEGRITY && message.signed.is_none() {
                let mut signed = bytes[..at].to_vec();
                set_length(&mut signed, 24);
                message.signed = Some((signed, value.clone()));
            }
            message.attributes.push((attribute, value));
            at += 4 + size.next_multiple_of(4);
        }
        Some(message)
    }

    /// Whether whoever sent it knows `key`.
    pub(super) fn is_signed_with(&self, key: &[u8]) -> bool {
        let Some((signed, signature)) = &self.signed else { return false };
        let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(signed);
        mac.verify_slice(signature).is_ok()
    }
}

/// The length that a header announces; `None` when it is no header of ours.
pub(super) fn length(header: &[u8]) -> Option<usize> {
    let length = usize::from(u16::from_be_bytes([*header.get(2)?, *header.get(3)?]));
    let ours = header.get(4..8)? == MAGIC && length.is_multiple_of(4) && length <= LONGEST;
    ours.then_some(length)
}

fn append(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend(kind.to_be_bytes());
    bytes.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// Writes how much follows the header, with `more` bytes still to come.
fn set_length(bytes: &mut [u8], more: usize) {
    let length = u16::try_from(bytes.len() - HEADER + more).unwrap_or(u16::MAX);
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
}

fn hmac(key: &[u8], bytes: &[u8]) -> [u8; 20] {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(bytes);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769, section 2.2.
    const SAMPLE: &str = "0101003c 2112a442 b7e7a701bc34d686fa87dfae \
        8022000b 7465737420766563746f7220 00200008 0001a147e112a643 \
        00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7 80280004 c07d4c96";
    const PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";

    fn sample() -> Vec<u8> {
        let hex: String = SAMPLE.split_whitespace().collect();
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn the_rfcs_sample_is_read() {
        let message = Message::decode(&sample()).unwrap();
        assert_eq!(message.kind, BINDING | SUCCESS);
        assert_eq!(message.address(XOR_MAPPED_ADDRESS), Some("192.0.2.1:32853".parse().unwrap()));
        assert!(message.is_signed_with(PASSWORD));
        assert!(!message.is_signed_with(b"another"));
    }

    #[test]
    fn what_is_signed_is_read_again() {
        let asked = Message::ask(ALLOCATE, [7; 12]).with(USERNAME, *b"a name").with(NONCE, *b"n");
        let read = Message::decode(&asked.encode_signed(b"key")).unwrap();
        assert!(read.is_signed_with(b"key") && !read.is_signed_with(b"kex"));
        assert_eq!(read.get(USERNAME), Some(&b"a name"[..]));
    }

    #[test]
    fn no_cut_or_changed_sample_is_taken_for_another() {
        let sample = sample();
        for end in 0..sample.len() {
            assert!(Message::decode(&sample[..end]).is_none(), "{end}");
        }
        for at in HEADER..HEADER + 28 {
            let mut changed = sample.clone();
            changed[at] ^= 1;
            let read = Message::decode(&changed);
            assert!(read.is_none_or(|read| !read.is_signed_with(PASSWORD)), "{at}");
        }
    }
}
