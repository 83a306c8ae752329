//! What a relay's request bodies say: fields in their order of checking, and the text a
//! signature covers (spec 2.4).
//!
//! Everything here borrows from the parsed body. Which extra rules apply on top (alphabets,
//! strict base64) is the relay's policy, not the wire's.

use crate::js::{self, Object, Str, Value};

mod command;
mod envelope;

pub use command::{ACK_BATCH_MAX, Ack, AckBatch, GroupStore, MembersUpdate, Store};
pub use envelope::{fanout_text, page_close, stored_text};

/// How deep a relay's request body may be nested; no honest one has more than three levels.
pub const BODY_DEPTH_MAX: usize = 128;

/// Why a body is refused. Its text is the `error` member of the answer, a 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A required key is absent; null counts as present.
    #[error("missing {0}")]
    Missing(&'static str),
    /// A value has the wrong type or range; the text names the fields.
    #[error("{0}")]
    Invalid(&'static str),
    /// A well-formed request nobody may make; answered 403, before the signature is looked at.
    #[error("{0}")]
    Forbidden(&'static str),
}

/// The members of a request body. A body that is an array has none.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'b, 'a>(Option<&'b Object<'a>>);

impl<'b, 'a> Fields<'b, 'a> {
    /// The fields of a whole body.
    pub fn new(body: &'b Value<'a>) -> Self {
        Self(body.as_object())
    }

    /// The member `key`, null included.
    pub fn get(self, key: &str) -> Option<&'b Value<'a>> {
        self.0?.get(key)
    }

    /// The members in their order.
    pub fn iter(self) -> impl Iterator<Item = (&'b Str<'a>, &'b Value<'a>)> {
        self.0.into_iter().flat_map(Object::iter)
    }

    /// Refuses the first of `keys` that is absent.
    pub fn require(self, keys: &[&'static str]) -> Result<(), Refusal> {
        match keys.iter().find(|key| self.get(key).is_none()) {
            Some(key) => Err(Refusal::Missing(key)),
            None => Ok(()),
        }
    }

    /// The values of `keys`, which all have to be strings, or `error`.
    pub fn strings<const N: usize>(
        self,
        keys: [&'static str; N],
        error: &'static str,
    ) -> Result<[&'b Str<'a>; N], Refusal> {
        let mut found = [const { None }; N];
        for (slot, key) in found.iter_mut().zip(keys) {
            *slot = self.get(key).and_then(Value::as_str);
        }
        if found.iter().any(Option::is_none) {
            return Err(Refusal::Invalid(error));
        }
        Ok(found.map(|text| text.expect("checked above")))
    }

    /// The value of `key`, which has to be a finite JSON number, or `error`.
    pub fn number(self, key: &str, error: &'static str) -> Result<f64, Refusal> {
        self.get(key)
            .and_then(Value::as_number)
            .filter(|number| number.is_finite())
            .ok_or(Refusal::Invalid(error))
    }

    /// `ts` and `ttl`, both finite numbers.
    pub fn ts_ttl(self) -> Result<(f64, f64), Refusal> {
        const ERROR: &str = "invalid ts/ttl";
        Ok((self.number("ts", ERROR)?, self.number("ttl", ERROR)?))
    }

    /// `payload`, a string that is not empty. What it decodes to is never checked here.
    pub fn payload(self) -> Result<&'b Str<'a>, Refusal> {
        self.get("payload")
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
            .ok_or(Refusal::Invalid("invalid payload encoding"))
    }

    /// `sig` and `signingPub` when both are strings that are not empty; anything else fails
    /// the signature check (401), never the field check.
    pub fn proof(self) -> Option<Proof<'b, 'a>> {
        let text = |key| self.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        Some(Proof { signature: text("sig")?, key: text("signingPub")? })
    }
}

/// A signature and the key that is said to have made it, both base64 text.
#[derive(Clone, Copy, Debug)]
pub struct Proof<'b, 'a> {
    /// `sig`
    pub signature: &'b Str<'a>,
    /// `signingPub`
    pub key: &'b Str<'a>,
}

/// Builds the text a signature covers: fields joined by `|`.
///
/// Strings are written as UTF-8 with lone surrogates replaced, numbers as JavaScript
/// renders them.
#[derive(Debug, Default)]
pub struct SignatureText {
    bytes: Vec<u8>,
    started: bool,
}

impl SignatureText {
    /// An empty text.
    pub fn new() -> Self {
        Self { bytes: Vec::with_capacity(256), started: false }
    }

    /// Appends a string field.
    #[must_use]
    pub fn text(mut self, text: &Str<'_>) -> Self {
        self.separate();
        self.bytes.extend_from_slice(&text.to_signature_bytes());
        self
    }

    /// Appends a number field.
    #[must_use]
    pub fn number(mut self, number: f64) -> Self {
        self.separate();
        js::number(number, &mut self.bytes);
        self
    }

    /// Appends a list field, its entries joined by `,`.
    #[must_use]
    pub fn list(mut self, entries: &[Str<'_>]) -> Self {
        self.separate();
        for (place, entry) in entries.iter().enumerate() {
            if place > 0 {
                self.bytes.push(b',');
            }
            self.bytes.extend_from_slice(&entry.to_signature_bytes());
        }
        self
    }

    /// Ends with a `|`, after which raw payload bytes follow.
    #[must_use]
    pub fn then_payload(mut self) -> Vec<u8> {
        self.separate();
        self.bytes
    }

    /// The text as it is.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn separate(&mut self) {
        if self.started {
            self.bytes.push(b'|');
        }
        self.started = true;
    }
}

#[cfg(test)]
mod tests;
