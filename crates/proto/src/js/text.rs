//! JavaScript strings: comparing, trimming, counting, turning into bytes.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use super::Value;

/// A JavaScript string as WTF-8: UTF-8 in which a lone surrogate is three bytes.
///
/// Two halves of a pair never stand next to each other as six bytes, so equality of bytes is
/// equality of strings, and the bytes can key a table.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Str<'a>(Cow<'a, [u8]>);

impl<'a> Str<'a> {
    /// Wraps bytes known to be WTF-8, such as those read back from a table.
    pub const fn from_wtf8(bytes: &'a [u8]) -> Self {
        Self(Cow::Borrowed(bytes))
    }

    /// The WTF-8 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The WTF-8 bytes, borrowed still if they were.
    pub fn into_bytes(self) -> Cow<'a, [u8]> {
        self.0
    }

    /// The same string, free of the buffer it was read from.
    pub fn into_owned(self) -> Str<'static> {
        Str(Cow::Owned(self.0.into_owned()))
    }

    /// The same string without copying its bytes.
    pub fn reborrow(&self) -> Str<'_> {
        Str(Cow::Borrowed(&self.0))
    }

    /// Whether there are no characters.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As UTF-8, unless there is a lone surrogate.
    pub fn as_str(&self) -> Option<&str> {
        simdutf8::basic::from_utf8(&self.0).ok()
    }

    /// The bytes that enter a signature: UTF-8, each lone surrogate replaced by U+FFFD (spec 1).
    pub fn to_signature_bytes(&self) -> Cow<'_, [u8]> {
        let mut first = memchr::memchr_iter(0xed, &self.0);
        let surrogate = |at: &usize| self.0.get(at + 1).is_some_and(|next| *next >= 0xa0);
        if first.find(surrogate).is_none() {
            return Cow::Borrowed(&self.0);
        }
        let mut bytes = self.0.to_vec();
        for at in memchr::memchr_iter(0xed, &self.0).filter(surrogate) {
            // U+FFFD also takes three bytes.
            for (to, from) in bytes[at..].iter_mut().zip("\u{fffd}".bytes()) {
                *to = from;
            }
        }
        Cow::Owned(bytes)
    }

    /// The UTF-16 units of the string.
    pub fn utf16(&self) -> impl Iterator<Item = u16> + '_ {
        Units { rest: &self.0, low: None }
    }
}

impl<'a> From<&'a str> for Str<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }
}

impl From<String> for Str<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text.into_bytes()))
    }
}

impl<'a> From<Cow<'a, [u8]>> for Str<'a> {
    /// The bytes must be WTF-8.
    fn from(bytes: Cow<'a, [u8]>) -> Self {
        Self(bytes)
    }
}

impl PartialEq<str> for Str<'_> {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other.as_bytes()
    }
}

impl PartialEq<&str> for Str<'_> {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == *other.as_bytes()
    }
}

impl fmt::Display for Str<'_> {
    /// Lone surrogates show as U+FFFD.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.to_signature_bytes()))
    }
}

impl fmt::Debug for Str<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::with_capacity(self.0.len() + 2);
        super::string(self, &mut out);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

/// Walks WTF-8 as UTF-16. Bytes that are not WTF-8 give some units, never a panic.
struct Units<'a> {
    rest: &'a [u8],
    low: Option<u16>,
}

impl Iterator for Units<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if let Some(low) = self.low.take() {
            return Some(low);
        }
        let (point, length) = code_point(self.rest)?;
        self.rest = &self.rest[length..];
        let (first, low) = units(point);
        self.low = low;
        Some(first)
    }
}

/// The first code point (lone surrogates included) and how many bytes it takes.
pub(crate) fn code_point(bytes: &[u8]) -> Option<(u32, usize)> {
    let lead = u32::from(*bytes.first()?);
    let (bits, length) = match lead {
        0..0x80 => return Some((lead, 1)),
        0x80..0xe0 => (lead & 0x1f, 2),
        0xe0..0xf0 => (lead & 0x0f, 3),
        _ => (lead & 0x07, 4),
    };
    let length = length.min(bytes.len());
    let tail = bytes[1..length].iter();
    Some((tail.fold(bits, |point, byte| point << 6 | u32::from(byte & 0x3f)), length))
}

/// One or two UTF-16 units of a code point.
pub(crate) fn units(point: u32) -> (u16, Option<u16>) {
    match u16::try_from(point) {
        Ok(unit) => (unit, None),
        Err(_) => {
            let offset = point - 0x1_0000;
            // Both halves hold ten bits, so the casts cut nothing.
            (0xd800 | (offset >> 10 & 0x3ff) as u16, Some(0xdc00 | (offset & 0x3ff) as u16))
        }
    }
}

/// Compares by UTF-16 units, as JavaScript's `<` and `sort` do. Differs from the order of bytes
/// where a character above U+FFFF meets one from U+E000 on.
pub fn cmp_utf16(a: &Str<'_>, b: &Str<'_>) -> Ordering {
    // Below 0xee no byte order differs from unit order: those leads are units below U+E000.
    if a.0.iter().all(|byte| *byte < 0xed) && b.0.iter().all(|byte| *byte < 0xed) {
        return a.0.cmp(&b.0);
    }
    a.utf16().cmp(b.utf16())
}

/// `length` of the string in JavaScript.
pub fn utf16_len(text: &Str<'_>) -> usize {
    // Every lead byte is a unit; four-byte characters take a second one.
    text.0.iter().map(|byte| usize::from(byte & 0xc0 != 0x80) + usize::from(*byte >= 0xf0)).sum()
}

/// Strips what JavaScript's `trim` strips from both ends (spec 1): not U+0085, but U+FEFF.
pub fn trim<'s>(text: &'s Str<'_>) -> Str<'s> {
    Str(Cow::Borrowed(trim_bytes(&text.0)))
}

fn trim_bytes(mut bytes: &[u8]) -> &[u8] {
    while let Some(n) = (1..=3).find(|n| bytes.get(..*n).is_some_and(is_blank)) {
        bytes = &bytes[n..];
    }
    while let Some(n) =
        (1..=3).find(|n| bytes.len().checked_sub(*n).is_some_and(|start| is_blank(&bytes[start..])))
    {
        bytes = &bytes[..bytes.len() - n];
    }
    bytes
}

/// Whether the bytes are exactly one blank character of JavaScript.
fn is_blank(character: &[u8]) -> bool {
    match character {
        [byte] => matches!(byte, 0x09..=0x0d | 0x20),
        [0xc2, 0xa0] | [0xe1, 0x9a, 0x80] | [0xe3, 0x80, 0x80] | [0xef, 0xbb, 0xbf] => true,
        [0xe2, 0x80, last] => matches!(last, 0x80..=0x8a | 0xa8 | 0xa9 | 0xaf),
        [0xe2, 0x81, 0x9f] => true,
        _ => false,
    }
}

/// A list of peers as signatures name it (spec 2.4): the strings among `values`, trimmed, without
/// empty ones, those equal to `except` and repetitions, in UTF-16 order.
pub fn trim_dedup_sort<'v>(values: &'v [Value<'_>], except: Option<&Str<'_>>) -> Vec<Str<'v>> {
    let mut names: Vec<Str<'v>> = values
        .iter()
        .filter_map(Value::as_str)
        .map(trim)
        .filter(|name| !name.is_empty() && except.is_none_or(|except| name.0 != except.0))
        .collect();
    names.sort_unstable_by(cmp_utf16);
    names.dedup();
    names
}

/// Page size of a fetch (spec 2.8): `min(parseInt(text, 10) || 50, 500)`. Negative numbers pass
/// through, for the caller to apply or refuse; huge ones are cut to what fits.
pub fn parse_int_limit(text: &Str<'_>) -> i64 {
    const DEFAULT: i64 = 50;
    const MOST: i64 = 500;
    let text = trim_bytes(&text.0);
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits
        .fold(0_i64, |sum, digit| sum.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    match if negative { -number } else { number } {
        0 => DEFAULT,
        number => number.min(MOST),
    }
}
