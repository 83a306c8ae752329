//! Every message on every wire: parse, encode, limits, error codes, signature checks.
//!
//! No I/O, no async, no clock, no SQL: bytes in, values or a refusal out.
//!
//! The protocols were first spoken by JavaScript programs, and what clients sign depends on how
//! JavaScript reads and prints numbers, strings and base64. [`js`], [`base64`] and [`query`] hold
//! those rules once; [`sign`] holds the one signature check.
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

pub mod base64;
pub mod book;
pub mod js;
pub mod mesh;
pub mod pad;
pub mod query;
pub mod relay;
pub mod relay_blob;
pub mod sign;
pub mod signal;

#[cfg(test)]
mod vectors;
