//! Addresses of rooms.

use super::{hex, unhex_any};

/// A room: the SHA-1 or SHA-256 of a name only its members know.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Room(Box<[u8]>);

/// Neither 40 nor 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a room is 40 or 64 hexadecimal digits")]
pub struct BadRoom;

impl Room {
    /// From hexadecimal digits of either case.
    ///
    /// # Errors
    /// When there are not 40 or 64 of them.
    pub fn parse(text: &str) -> Result<Self, BadRoom> {
        if !matches!(text.len(), 40 | 64) {
            return Err(BadRoom);
        }
        Ok(Self(unhex_any(text).ok_or(BadRoom)?.into()))
    }

    /// From its 20 or 32 bytes.
    ///
    /// # Errors
    /// When there are other than 20 or 32.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadRoom> {
        if matches!(bytes.len(), 20 | 32) { Ok(Self(bytes.into())) } else { Err(BadRoom) }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Display for Room {
    /// Lower case digits.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl std::fmt::Debug for Room {
    /// Without its address, which is as good as membership.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Room")
    }
}
