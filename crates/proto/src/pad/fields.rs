//! Little-endian fields, read in order.

/// The bytes are no packet, or no body of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed packet")]
pub struct Malformed;

/// What is left of a body.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.0.split_first().ok_or(Malformed)?;
        self.0 = rest;
        Ok(first)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(u16::from_le_bytes(*bytes))
    }

    pub(super) fn take(&mut self, count: u16) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count.into()).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// `u16 length` and as many bytes: a string or byte array of generation B.
    pub(super) fn string(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u16()?;
        self.take(length)
    }
}

/// The length of a field, which has to fit 16 bits.
pub(super) fn length(bytes: &[u8]) -> Result<[u8; 2], Malformed> {
    u16::try_from(bytes.len()).map(u16::to_le_bytes).map_err(|_| Malformed)
}
