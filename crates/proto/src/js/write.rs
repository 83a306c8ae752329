//! `JSON.stringify`, and how JavaScript prints values inside texts.

use super::plain::before_escape;
use super::{Str, Value};

/// Largest number below which all integers are exact and print as plain digits.
const SAFE_INTEGER: f64 = 9_007_199_254_740_992.0;

/// Appends `JSON.stringify(value)`.
pub fn write(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(value) if value.is_finite() => number(*value, out),
        Value::Number(_) => out.extend_from_slice(b"null"),
        Value::String(text) => string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Object(object) => {
            out.push(b'{');
            for (at, (key, value)) in object.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                string(key, out);
                out.push(b':');
                write(value, out);
            }
            out.push(b'}');
        }
    }
}

/// Appends a number as a template literal shows it: the fewest digits that read back the same,
/// `Infinity` and `NaN` included (spec 1).
pub fn number(value: f64, out: &mut Vec<u8>) {
    if value.fract() == 0.0 && value.abs() < SAFE_INTEGER {
        return integer(value, out);
    }
    out.extend_from_slice(ryu_js::Buffer::new().format(value).as_bytes());
}

/// Plain digits; `-0` is `0`.
fn integer(value: f64, out: &mut Vec<u8>) {
    if value < 0.0 {
        out.push(b'-');
    }
    // Exact: the caller checked that the value is whole and small.
    let mut rest = value.abs() as u64;
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends a string in quotes, escaping only what JavaScript escapes (spec 1).
pub fn string(text: &Str<'_>, out: &mut Vec<u8>) {
    let mut rest = text.as_bytes();
    out.reserve(rest.len() + 2);
    out.push(b'"');
    loop {
        let plain = before_escape(rest);
        out.extend_from_slice(&rest[..plain]);
        rest = &rest[plain..];
        let Some(first) = rest.first() else { break };
        let mut taken = 1;
        match first {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *first]),
            0x08 => out.extend_from_slice(b"\\b"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\n' => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0xed => taken = after_ed(rest, out),
            control => unit_escape(u32::from(*control), out),
        }
        rest = &rest[taken..];
    }
    out.push(b'"');
}

/// U+D000 to U+D7FF pass, lone surrogates are escaped; how many bytes were taken.
fn after_ed(rest: &[u8], out: &mut Vec<u8>) -> usize {
    match rest {
        [_, 0xa0..=0xbf, _, ..] => {
            let (point, length) = super::text::code_point(rest).unwrap_or_default();
            unit_escape(point, out);
            length
        }
        _ => {
            out.push(0xed);
            1
        }
    }
}

fn unit_escape(unit: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(b"0123456789abcdef"[(unit >> shift & 0xf) as usize]);
    }
}

/// Appends a value as a template literal shows it; `None` is `undefined`.
///
/// An object shows as `[object Object]` even where JavaScript would throw.
pub fn display(value: Option<&Value<'_>>, out: &mut Vec<u8>) {
    match value {
        None => out.extend_from_slice(b"undefined"),
        Some(Value::Number(value)) => number(*value, out),
        Some(Value::String(text)) => out.extend_from_slice(text.as_bytes()),
        Some(Value::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                if *item != Value::Null {
                    display(Some(item), out);
                }
            }
        }
        Some(Value::Object(_)) => out.extend_from_slice(b"[object Object]"),
        Some(scalar) => write(scalar, out),
    }
}
