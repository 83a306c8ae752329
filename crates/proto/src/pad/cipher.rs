//! The encrypted transport of generation B.
//!
//! ```text
//! client -> server   20 00, raw X25519 public key (32 bytes)
//! server -> client   20 00, raw X25519 public key (32 bytes)
//! then both ways     u16 L, 16 IV, 16 TAG, L - 32 bytes of ciphertext
//! ```
//! The key of ChaCha20-Poly1305 (RFC 8439, no associated data) is the raw shared secret (RFC 7748),
//! the same in both directions. The nonce is the first 12 bytes of IV; the other four mean
//! nothing. Neither side is authenticated and old frames are not noticed: the wire offers nothing
//! better, so this keeps listeners out and no more.
//!
//! Random numbers are arguments. No I/O: [`split_frame`] takes frames off what has been read.

use bytes::BytesMut;
use curve25519_dalek::MontgomeryPoint;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, Tag, UnboundKey};
use subtle::ConstantTimeEq;

/// Bytes of a public key, of a secret and of the key both sides agree on.
pub const KEY_BYTES: usize = 32;
/// What a handshake message begins with: the length of the key behind it.
pub const HANDSHAKE_HEADER: [u8; 2] = [KEY_BYTES as u8, 0];
/// Bytes of a handshake message.
pub const HANDSHAKE_BYTES: usize = 2 + KEY_BYTES;
/// Bytes before the ciphertext of a frame: length, IV and tag.
pub const FRAME_HEADER_BYTES: usize = 2 + IV_BYTES + TAG_BYTES;
/// Longest plaintext of a frame.
pub const PLAIN_MAX: usize = 65_535 - IV_BYTES - TAG_BYTES;

const IV_BYTES: usize = 16;
const TAG_BYTES: usize = 16;

/// Why no key could be agreed on, or a frame not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The first message is not a length of 32 and a key.
    #[error("not a handshake")]
    NotAHandshake,
    /// The other side's point yields the same key for everybody (RFC 7748, section 6.1).
    #[error("worthless public key")]
    LowOrder,
    /// No room for a byte of ciphertext.
    #[error("frame too short")]
    Short,
    /// Made with another key, or changed on its way.
    #[error("wrong tag")]
    Tag,
}

/// One side's part of the handshake; for one connection only.
pub struct Secret([u8; KEY_BYTES]);

impl Secret {
    /// A secret of random bytes that nobody else has.
    pub fn new(random: [u8; KEY_BYTES]) -> Self {
        Self(random)
    }

    /// The message to the other side: length and public key.
    pub fn hello(&self) -> [u8; HANDSHAKE_BYTES] {
        let mut message = [0; HANDSHAKE_BYTES];
        message[..2].copy_from_slice(&HANDSHAKE_HEADER);
        message[2..].copy_from_slice(MontgomeryPoint::mul_base_clamped(self.0).as_bytes());
        message
    }

    /// The key shared with whoever sent `hello`.
    ///
    /// # Errors
    /// When `hello` is no handshake message or its point is of low order, the zero point included.
    pub fn agree(self, hello: &[u8; HANDSHAKE_BYTES]) -> Result<Key, Refused> {
        let (header, point) = hello.split_first_chunk::<2>().ok_or(Refused::NotAHandshake)?;
        let point = <[u8; KEY_BYTES]>::try_from(point).map_err(|_| Refused::NotAHandshake)?;
        if *header != HANDSHAKE_HEADER {
            return Err(Refused::NotAHandshake);
        }
        let shared = MontgomeryPoint(point).mul_clamped(self.0).to_bytes();
        if bool::from(shared.ct_eq(&[0; KEY_BYTES])) {
            return Err(Refused::LowOrder);
        }
        Ok(Key::new(&shared))
    }
}

/// The key of one connection.
pub struct Key(LessSafeKey);

impl Key {
    /// A key that both sides know.
    pub fn new(shared: &[u8; KEY_BYTES]) -> Self {
        let key = UnboundKey::new(&CHACHA20_POLY1305, shared);
        Self(LessSafeKey::new(key.expect("the algorithm takes keys of this length")))
    }

    /// Decrypts `frame`, a whole one, in place: afterwards the plaintext stands from
    /// [`FRAME_HEADER_BYTES`] on.
    ///
    /// # Errors
    /// When it is too short or the tag does not match; what stands there then is of no use.
    pub fn open(&self, frame: &mut [u8]) -> Result<(), Refused> {
        if frame.len() <= FRAME_HEADER_BYTES {
            return Err(Refused::Short);
        }
        let (header, cipher) = frame.split_at_mut(FRAME_HEADER_BYTES);
        let nonce = *header[2..].first_chunk::<NONCE_LEN>().ok_or(Refused::Short)?;
        let tag = *header[2 + IV_BYTES..].first_chunk::<TAG_BYTES>().ok_or(Refused::Short)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened =
            self.0.open_in_place_separate_tag(nonce, Aad::empty(), Tag::from(tag), cipher, 0..);
        opened.map(drop).map_err(|_| Refused::Tag)
    }

    /// Encrypts in place: `frame` has the plaintext from [`FRAME_HEADER_BYTES`] on and becomes the
    /// whole frame.
    ///
    /// # Errors
    /// When the plaintext is empty or longer than [`PLAIN_MAX`]; nothing is changed then.
    pub fn seal(&self, nonces: &mut Nonces, frame: &mut [u8]) -> Result<(), Refused> {
        put_length(frame)?;
        let (header, plain) = frame.split_at_mut(FRAME_HEADER_BYTES);
        let iv = nonces.next_iv();
        let nonce = *iv.first_chunk::<NONCE_LEN>().ok_or(Refused::Short)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::empty(), plain);
        let tag = tag.map_err(|_| Refused::Short)?;
        header[2..2 + IV_BYTES].copy_from_slice(&iv);
        header[2 + IV_BYTES..].copy_from_slice(tag.as_ref());
        Ok(())
    }
}

/// The IVs of one side: a 96-bit number that begins anywhere and grows by one per frame.
///
/// Never repeats within a connection. Both sides share the key, so a random beginning of 96 bits is
/// what keeps them apart: with 2^40 frames each way they meet with a chance of 2^-55.
pub struct Nonces([u8; IV_BYTES]);

impl Nonces {
    /// Begins at random bytes from the operating system.
    pub fn new(random: [u8; IV_BYTES]) -> Self {
        Self(random)
    }

    fn next_iv(&mut self) -> [u8; IV_BYTES] {
        let iv = self.0;
        for byte in &mut self.0[..NONCE_LEN] {
            let carried;
            (*byte, carried) = byte.overflowing_add(1);
            if !carried {
                break;
            }
        }
        iv
    }
}

/// Writes a frame's length where it stands, and leaves the rest alone.
///
/// # Errors
/// When the plaintext is empty or longer than [`PLAIN_MAX`]; nothing is changed then.
pub fn put_length(frame: &mut [u8]) -> Result<(), Refused> {
    let length = frame.len().checked_sub(2).and_then(|length| u16::try_from(length).ok());
    let length = length.filter(|_| frame.len() > FRAME_HEADER_BYTES).ok_or(Refused::Short)?;
    frame[..2].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// The length of the frame that begins in `buffer`, its own two bytes included, once they are there.
pub fn frame_bytes(buffer: &[u8]) -> Option<usize> {
    let length = buffer.first_chunk::<2>()?;
    Some(2 + usize::from(u16::from_le_bytes(*length)))
}

/// Takes the next whole frame off `buffer`; `None` until it is all there.
pub fn split_frame(buffer: &mut BytesMut) -> Option<BytesMut> {
    let length = frame_bytes(buffer).filter(|length| *length <= buffer.len())?;
    Some(if length == buffer.len() { std::mem::take(buffer) } else { buffer.split_to(length) })
}
