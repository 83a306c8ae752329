//! Bytes to values and back, for what is not a message of its own in `proto`.

pub(crate) mod answers;
pub(crate) mod blob;
mod position;

use std::borrow::Cow;

use proto::js::{self, Value};
use proto::relay::BODY_DEPTH_MAX;

use crate::error::{Error, Http};

pub(crate) use position::Position;

/// A request body as text that [`parse`] reads: without byte order mark, as UTF-8.
pub(crate) fn text(body: &[u8]) -> Cow<'_, [u8]> {
    js::body_text(body)
}

/// Reads a JSON body, which is an object or an array.
pub(crate) fn parse(text: &[u8]) -> Result<Value<'_>, Error> {
    match js::parse(text, BODY_DEPTH_MAX) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => Ok(value),
        Ok(_) | Err(_) => Err(Error::Http(Http::BadRequest)),
    }
}
