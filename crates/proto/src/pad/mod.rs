//! The pad protocols of peer-linker and channel-hub, in both of their generations.
//!
//! | | [`ws`], generation A | [`tcp`], generation B |
//! |---|---|---|
//! | carrier | one WebSocket message per packet | one [`cipher`] frame per packet |
//! | header | `u16 size`, `u16 type`, `u32 id` | `u8 type`, `u8 id`, `u16 size` |
//! | longest body | 65,527 bytes | 65,499 bytes |
//!
//! All integers are little endian, without padding. Names are raw bytes of any value. Parsers
//! borrow from what they are given; encoders append. [`certificate`] is common to both.
//!
//! Source: the wire specification of mojyack/peer-linker at 41fca14 (A) and 5c7c241 (B).

pub mod certificate;
pub mod cipher;
mod fields;
pub mod tcp;
pub mod ws;

pub use fields::Malformed;

/// The three packet types every program of either generation has under the same numbers.
pub mod kind {
    /// A request was carried out; empty.
    pub const SUCCESS: u16 = 0;
    /// A request was refused; empty.
    pub const ERROR: u16 = 1;
    /// Opens a session: a user certificate, raw in generation A, a string in generation B.
    pub const ACTIVATE: u16 = 2;
}

#[cfg(test)]
mod tests;
