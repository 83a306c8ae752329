//! Query strings as the original relay read them (spec 2.8): HTML form rules, no nesting, names
//! exact, the first [`MOST_PAIRS`] pairs only.

use std::borrow::Cow;

use crate::js::Str;

/// Pairs behind this many are not seen.
pub const MOST_PAIRS: usize = 1000;

/// What a query string says about one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Param<'a> {
    /// The name does not occur.
    Missing,
    /// It occurs once; without `=` its value is empty.
    One(Str<'a>),
    /// It occurs several times, with these values in order.
    Repeated(Vec<Str<'a>>),
}

/// Looks a name up in what stands behind the `?`.
pub fn get<'a>(query: &'a str, name: &str) -> Param<'a> {
    let mut found = Param::Missing;
    for pair in query.split('&').filter(|pair| !pair.is_empty()).take(MOST_PAIRS) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if *unescape(key) != *name.as_bytes() {
            continue;
        }
        let value = Str::from(unescape(value));
        found = match found {
            Param::Missing => Param::One(value),
            Param::One(first) => Param::Repeated(vec![first, value]),
            Param::Repeated(mut values) => {
                values.push(value);
                Param::Repeated(values)
            }
        };
    }
    found
}

/// `+` is a blank, `%` with two hexadecimal digits a byte, anything else itself; bytes that are
/// not UTF-8 afterwards are replaced.
fn unescape(text: &str) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'+', b'%', text.as_bytes()).is_none() {
        return Cow::Borrowed(text.as_bytes());
    }
    Cow::Owned(lossy(percent_decode(text.as_bytes(), true)))
}

/// Decodes one path segment (spec 2.10); `None` where the original refuses the request: an
/// incomplete escape, or bytes that are not UTF-8.
pub fn path_segment(segment: &str) -> Option<Str<'_>> {
    let bytes = segment.as_bytes();
    let complete = memchr::memchr_iter(b'%', bytes).all(|at| hex_pair(&bytes[at + 1..]).is_some());
    if !complete {
        return None;
    }
    String::from_utf8(percent_decode(bytes, false)).ok().map(Str::from)
}

fn percent_decode(text: &[u8], form: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        match (first, hex_pair(tail)) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) if form => out.push(b' '),
            _ => out.push(*first),
        }
    }
    out
}

fn hex_pair(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    u8::try_from(digit(0)? << 4 | digit(1)?).ok()
}

fn lossy(bytes: Vec<u8>) -> Vec<u8> {
    String::from_utf8(bytes)
        .unwrap_or_else(|bad| String::from_utf8_lossy(bad.as_bytes()).into())
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{table, text};

    #[test]
    fn queries_read_as_the_original_reads_them() {
        for row in table("query") {
            for (name, expected) in row["parsed"].as_object().unwrap() {
                let expected = match expected {
                    serde_json::Value::Array(values) => Param::Repeated(
                        values.iter().map(|value| value.as_str().unwrap().into()).collect(),
                    ),
                    value => Param::One(value.as_str().unwrap().into()),
                };
                assert_eq!(get(text(&row, "query"), name), expected, "{row}");
            }
            assert_eq!(get(text(&row, "query"), "absent"), Param::Missing);
        }
    }

    #[test]
    fn path_segments_are_refused_where_the_original_refuses() {
        assert_eq!(path_segment("a%2Fb+c").unwrap(), "a/b+c");
        assert_eq!(path_segment("%C3%A9").unwrap(), "é");
        assert!(path_segment("%zz").is_none() && path_segment("%").is_none());
        assert!(path_segment("%e9").is_none() && path_segment("a%2").is_none());
    }

    #[test]
    fn pairs_behind_the_limit_are_not_seen() {
        let query = format!("{}&to=x", vec!["a=1"; MOST_PAIRS].join("&"));
        assert_eq!(get(&query, "to"), Param::Missing);
    }
}
