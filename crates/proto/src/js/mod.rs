//! JSON and text as JavaScript reads and writes them.
//!
//! Promise: what [`parse()`] returns and [`write()`] prints is what `JSON.parse` and
//! `JSON.stringify` would, byte for byte, because signatures and stored envelopes depend on it:
//!
//! * a repeated key keeps its first position and its last value;
//! * keys that are array indexes (`"0"` to `"4294967294"`) come first, ascending;
//! * every number is an `f64`, printed with the fewest digits that read back the same;
//! * strings are sequences of UTF-16 units, so a lone surrogate is legal: [`Str`] is WTF-8.
//!
//! Unlike JavaScript, nesting is limited: by the caller, and by [`DEPTH_CEILING`] in any case.

mod lex;
mod parse;
mod plain;
mod scan;
mod text;
mod value;
mod write;

#[cfg(test)]
mod tests;

pub use parse::{body_text, parse};
pub use scan::{Kind, Members, Raw, Scanned, scan, scan_object};
pub use text::{Str, cmp_utf16, parse_int_limit, trim, trim_dedup_sort, utf16_len};
pub(crate) use text::{code_point, units};
pub use value::{Object, Value};
pub use write::{display, number, string, write};

/// Nesting which no caller can exceed, whatever limit it asks for. Reading, writing and dropping a
/// value recurse once per level; this many levels fit a 2 MiB stack in an unoptimised build.
pub const DEPTH_CEILING: usize = 256;

/// Why a text is not JSON that we accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Outside the grammar of RFC 8259.
    #[error("invalid JSON at byte {at}")]
    Syntax {
        /// Offset of the first byte that does not fit.
        at: usize,
    },
    /// Nested deeper than the caller's limit or [`DEPTH_CEILING`].
    #[error("JSON nested too deeply")]
    TooDeep,
    /// Not UTF-8. Callers for whom that is legal pass the text through [`body_text`] first.
    #[error("JSON is not UTF-8")]
    NotUtf8,
}
