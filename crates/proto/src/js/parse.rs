//! `JSON.parse`.

use std::borrow::Cow;

use super::lex::{Lexer, number_value, unescape};
use super::{DEPTH_CEILING, Object, ParseError, Str, Value};

/// Reads one JSON text. Strings without escapes borrow from it.
///
/// `max_depth` counts open arrays and objects: 0 admits scalars only.
///
/// # Errors
/// Refuses what is not JSON, not UTF-8, or nested deeper than `max_depth` or [`DEPTH_CEILING`].
pub fn parse(text: &[u8], max_depth: usize) -> Result<Value<'_>, ParseError> {
    let mut lexer = Lexer::new(text)?;
    let value = value(&mut lexer, max_depth.min(DEPTH_CEILING))?;
    lexer.end()?;
    Ok(value)
}

/// A request body as text (spec 2.2): without a byte order mark, each run of invalid UTF-8
/// replaced by U+FFFD.
pub fn body_text(body: &[u8]) -> Cow<'_, [u8]> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if simdutf8::basic::from_utf8(body).is_ok() {
        return Cow::Borrowed(body);
    }
    Cow::Owned(String::from_utf8_lossy(body).into_owned().into_bytes())
}

fn value<'a>(lexer: &mut Lexer<'a>, depth: usize) -> Result<Value<'a>, ParseError> {
    match lexer.peek() {
        Some(b'{') => object(lexer, depth),
        Some(b'[') => array(lexer, depth),
        Some(b'"') => Ok(Value::String(string(lexer)?)),
        Some(b'-' | b'0'..=b'9') => Ok(Value::Number(number_value(lexer.number()?))),
        Some(b't') => lexer.word(b"true").map(|()| Value::Bool(true)),
        Some(b'f') => lexer.word(b"false").map(|()| Value::Bool(false)),
        Some(b'n') => lexer.word(b"null").map(|()| Value::Null),
        _ => lexer.error(),
    }
}

fn string<'a>(lexer: &mut Lexer<'a>) -> Result<Str<'a>, ParseError> {
    lexer.string().map(|raw| Str::from(unescape(&raw)))
}

fn array<'a>(lexer: &mut Lexer<'a>, depth: usize) -> Result<Value<'a>, ParseError> {
    let depth = depth.checked_sub(1).ok_or(ParseError::TooDeep)?;
    lexer.at += 1;
    let mut items = Vec::new();
    if lexer.peek() == Some(b']') {
        lexer.at += 1;
        return Ok(Value::Array(items));
    }
    loop {
        items.push(value(lexer, depth)?);
        if lexer.closes(b']')? {
            return Ok(Value::Array(items));
        }
    }
}

fn object<'a>(lexer: &mut Lexer<'a>, depth: usize) -> Result<Value<'a>, ParseError> {
    let depth = depth.checked_sub(1).ok_or(ParseError::TooDeep)?;
    lexer.at += 1;
    let mut members = Vec::new();
    if lexer.peek() == Some(b'}') {
        lexer.at += 1;
        return Ok(Value::Object(Object::default()));
    }
    loop {
        let key = string(lexer)?;
        lexer.expect(b':')?;
        members.push((key, value(lexer, depth)?));
        if lexer.closes(b'}')? {
            return Ok(Value::Object(Object::from_members(members)));
        }
    }
}
