//! Tokens of JSON: what reading ([`super::parse()`]) and checking ([`super::scan()`]) share.

use std::borrow::Cow;

use super::ParseError;
use super::plain::before_special;

/// Digits which an `f64` holds exactly, so that no rounding is needed.
const EXACT_DIGITS: usize = 15;

/// A position in a JSON text.
pub(super) struct Lexer<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: usize,
}

/// The characters of a string as they stand in the text.
pub(super) struct RawString<'a> {
    /// Between the quotes.
    pub(super) inside: &'a [u8],
    /// Has an escape, so that `inside` is not the string itself.
    pub(super) escaped: bool,
    /// Printing the string would give `inside` again.
    pub(super) canonical: bool,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a [u8]) -> Result<Self, ParseError> {
        match simdutf8::basic::from_utf8(text) {
            Ok(_) => Ok(Self { text, at: 0 }),
            Err(_) => Err(ParseError::NotUtf8),
        }
    }

    pub(super) fn error<T>(&self) -> Result<T, ParseError> {
        Err(ParseError::Syntax { at: self.at })
    }

    /// The next byte that is no blank, not yet consumed.
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// Consumes `byte`, after blanks.
    pub(super) fn expect(&mut self, byte: u8) -> Result<(), ParseError> {
        if self.peek() != Some(byte) {
            return self.error();
        }
        self.at += 1;
        Ok(())
    }

    /// After an item: `true` at the closing byte, `false` at a comma. Consumes either.
    pub(super) fn closes(&mut self, close: u8) -> Result<bool, ParseError> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(false)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(true)
            }
            _ => self.error(),
        }
    }

    /// Only blanks may follow.
    pub(super) fn end(&mut self) -> Result<(), ParseError> {
        if self.peek().is_some() { self.error() } else { Ok(()) }
    }

    pub(super) fn word(&mut self, word: &'static [u8]) -> Result<(), ParseError> {
        if !self.text[self.at..].starts_with(word) {
            return self.error();
        }
        self.at += word.len();
        Ok(())
    }

    /// Consumes a string from its opening quote, checking but not decoding it.
    pub(super) fn string(&mut self) -> Result<RawString<'a>, ParseError> {
        self.expect(b'"')?;
        let start = self.at;
        let (mut escaped, mut canonical) = (false, true);
        loop {
            self.at += before_special(&self.text[self.at..]);
            match self.text.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    canonical &= self.escape()?;
                }
                _ => return self.error(),
            }
        }
        let inside = &self.text[start..self.at];
        self.at += 1;
        Ok(RawString { inside, escaped, canonical })
    }

    /// Consumes an escape; whether printing would choose the same one.
    fn escape(&mut self) -> Result<bool, ParseError> {
        let rest = &self.text[self.at + 1..];
        match rest.first() {
            Some(b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(true)
            }
            Some(b'/') => {
                self.at += 2;
                Ok(false)
            }
            Some(b'u') if rest.len() > 4 && rest[1..5].iter().all(u8::is_ascii_hexdigit) => {
                self.at += 6;
                // Control characters without a short form; surrogates are left to the printer.
                Ok(match &rest[1..5] {
                    [b'0', b'0', b'0', last] => matches!(last, b'0'..=b'7' | b'b' | b'e' | b'f'),
                    [b'0', b'0', b'1', last] => matches!(last, b'0'..=b'9' | b'a'..=b'f'),
                    _ => false,
                })
            }
            _ => self.error(),
        }
    }

    /// Consumes a number; its text.
    pub(super) fn number(&mut self) -> Result<&'a [u8], ParseError> {
        let start = self.at;
        if self.text.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        match self.text.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return self.error(),
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Result<(), ParseError> {
        let count = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { self.error() } else { Ok(()) }
    }
}

/// The value of a number's text, which [`Lexer::number`] has checked.
pub(super) fn number_value(text: &[u8]) -> f64 {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if digits.len() <= EXACT_DIGITS && digits.iter().all(u8::is_ascii_digit) {
        let whole = digits.iter().fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        let whole = whole as f64;
        return if negative { -whole } else { whole };
    }
    let text = std::str::from_utf8(text).expect("digits, signs and letters are ASCII");
    text.parse().expect("the grammar of JSON numbers is part of Rust's")
}

/// Decodes the inside of a string which [`Lexer::string`] has checked.
pub(super) fn unescape<'a>(raw: &RawString<'a>) -> Cow<'a, [u8]> {
    if !raw.escaped {
        return Cow::Borrowed(raw.inside);
    }
    let mut out = Vec::with_capacity(raw.inside.len());
    let mut rest = raw.inside;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let kind = rest[at + 1];
        rest = &rest[at + 2..];
        let byte = match kind {
            b'b' => 0x08,
            b't' => b'\t',
            b'n' => b'\n',
            b'f' => 0x0c,
            b'r' => b'\r',
            b'u' => {
                let (point, length) = unicode_escape(rest);
                push_code_point(point, &mut out);
                rest = &rest[length..];
                continue;
            }
            itself => itself,
        };
        out.push(byte);
    }
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

/// After `\u`: the code point, joining a pair of surrogates, and how many bytes it took.
fn unicode_escape(rest: &[u8]) -> (u32, usize) {
    let high = hex(&rest[..4]);
    if let (0xd800..=0xdbff, [b'\\', b'u', tail @ ..]) = (high, &rest[4..]) {
        let low = hex(&tail[..4]);
        if let 0xdc00..=0xdfff = low {
            return (0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00), 10);
        }
    }
    (high, 4)
}

fn hex(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |sum, digit| {
        sum << 4 | char::from(*digit).to_digit(16).expect("the lexer checked the digits")
    })
}

/// Appends as WTF-8: `char` covers all but lone surrogates.
fn push_code_point(point: u32, out: &mut Vec<u8>) {
    match char::from_u32(point) {
        Some(character) => {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
        None => {
            let tail = |shift: u32| 0x80 | (point >> shift & 0x3f) as u8;
            out.extend_from_slice(&[0xed, tail(6), tail(0)]);
        }
    }
}
