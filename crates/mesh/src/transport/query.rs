//! Parameters behind the `?`.

use std::str::FromStr;

use crate::domain::node::Payment;
use crate::error::Error;

/// The parameters, decoded; the first of each name counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn new(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self(pairs.map(|(name, value)| (decode(name), decode(value))).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A number or the like, when given.
    pub(crate) fn parse<T: FromStr>(&self, name: &'static str) -> Result<Option<T>, Error> {
        self.get(name).map(|text| text.parse().map_err(|_| Error::BadParam(name))).transpose()
    }

    pub(crate) fn payment(&self) -> Payment<'_> {
        Payment { token: self.get("t"), nonce: self.get("n") }
    }
}

/// Percent escapes and plus signs; what is no escape stays, what is no UTF-8 becomes U+FFFD.
fn decode(text: &str) -> String {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return text.to_owned();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let [first, rest @ ..] = bytes {
        bytes = rest;
        match (first, rest) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |digit: &u8| char::from(*digit).to_digit(16);
                match (digit(high), digit(low)) {
                    (Some(high), Some(low)) => {
                        out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                        bytes = after;
                    }
                    _ => out.push(b'%'),
                }
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(*first),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_the_first_counts() {
        let query = Query::new("a=1&b=%41%zz+x&a=2&c&=d&%");
        assert_eq!(query.get("a"), Some("1"));
        assert_eq!(query.get("b"), Some("A%zz x"));
        assert_eq!(query.get("c"), Some(""));
        assert_eq!(query.parse::<u8>("a"), Ok(Some(1)));
        assert_eq!(query.parse::<u8>("b"), Err(Error::BadParam("b")));
        assert_eq!(query.parse::<u8>("d"), Ok(None));
    }
}
