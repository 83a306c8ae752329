//! The blob requests of a relay, read from their bodies in the order the checks are defined
//! (spec 2.4, 2.10), and the document a download is.

use crate::js::{self, Str, Value};
use crate::relay::{Fields, Proof, Refusal, SignatureText};

/// Chunks one upload may have.
pub const CHUNKS_MAX: i32 = 10_000;

/// The `error` of a request in which a name is not a string.
pub const INVALID_NAMES: &str = "invalid id/from/groupId/fileName";

const INVALID_CHUNK: &str = "invalid chunkIndex/totalChunks";

/// What every blob request says: which blob, whose, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Common<'b, 'a> {
    /// Name of the blob, for everybody.
    pub id: &'b Str<'a>,
    /// Who uploads it.
    pub from: &'b Str<'a>,
    /// For which group, or `dm:a|b`, or `profile:a`.
    pub group_id: &'b Str<'a>,
    /// As the sender calls the file.
    pub file_name: &'b Str<'a>,
    /// As received; `None` unless it is a string.
    pub mime_type: Option<&'b Str<'a>>,
    /// The sender's time, in milliseconds.
    pub ts: f64,
    /// Seconds from now for which the blob can be read.
    pub ttl: f64,
}

impl<'b, 'a> Common<'b, 'a> {
    fn read(fields: Fields<'b, 'a>) -> Result<Self, Refusal> {
        let [id, from, group_id, file_name] =
            fields.strings(["id", "from", "groupId", "fileName"], INVALID_NAMES)?;
        let (ts, ttl) = fields.ts_ttl()?;
        let mime_type = fields.get("mimeType").and_then(Value::as_str);
        Ok(Self { id, from, group_id, file_name, mime_type, ts, ttl })
    }

    /// What the signature covers, without the bytes of the blob that follow.
    pub fn signature_text(&self) -> Vec<u8> {
        let names = SignatureText::new().text(self.id).text(self.from).text(self.group_id);
        let empty = Str::from("");
        let mime_type = js::trim(self.mime_type.unwrap_or(&empty));
        names.text(self.file_name).text(&mime_type).number(self.ts).number(self.ttl).then_payload()
    }
}

/// `POST /relay/blob/upload`: a whole blob.
#[derive(Clone, Copy, Debug)]
pub struct Upload<'b, 'a> {
    /// Which blob.
    pub common: Common<'b, 'a>,
    /// Base64 text.
    pub payload: &'b Str<'a>,
    /// Absent when the signature cannot be right.
    pub proof: Option<Proof<'b, 'a>>,
}

impl<'b, 'a> Upload<'b, 'a> {
    /// Reads the fields, refusing the first that is wrong.
    pub fn read(fields: Fields<'b, 'a>) -> Result<Self, Refusal> {
        fields.require(&[
            "id",
            "from",
            "groupId",
            "fileName",
            "ts",
            "ttl",
            "payload",
            "sig",
            "signingPub",
        ])?;
        let common = Common::read(fields)?;
        let payload = fields.payload()?;
        Ok(Self { common, payload, proof: fields.proof() })
    }
}

/// `POST /relay/blob/upload/chunk`: a part of a blob. Nobody signs it.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'b, 'a> {
    /// Which blob; of the rest only `ttl` is used.
    pub common: Common<'b, 'a>,
    /// `0..total_chunks`.
    pub index: i32,
    /// 1 to [`CHUNKS_MAX`].
    pub total_chunks: i32,
    /// Base64 text.
    pub payload: &'b Str<'a>,
}

impl<'b, 'a> Chunk<'b, 'a> {
    /// Reads the fields, refusing the first that is wrong.
    pub fn read(fields: Fields<'b, 'a>) -> Result<Self, Refusal> {
        fields.require(&[
            "id",
            "from",
            "groupId",
            "fileName",
            "ts",
            "ttl",
            "chunkIndex",
            "totalChunks",
            "payload",
        ])?;
        let common = Common::read(fields)?;
        let number = |key| fields.get(key).and_then(Value::as_number);
        let (index, total_chunks) = place(number("chunkIndex"), number("totalChunks"))?;
        let payload = fields.payload()?;
        Ok(Self { common, index, total_chunks, payload })
    }
}

/// Checks the place of a chunk: both numbers whole, the index below the total, the total at most
/// [`CHUNKS_MAX`].
pub fn place(index: Option<f64>, total_chunks: Option<f64>) -> Result<(i32, i32), Refusal> {
    let whole = |number: Option<f64>| number.filter(|number| number.fract() == 0.0);
    let (Some(index), Some(total)) = (whole(index), whole(total_chunks)) else {
        return Err(Refusal::Invalid(INVALID_CHUNK));
    };
    if !(1.0..=f64::from(CHUNKS_MAX)).contains(&total) || !(0.0..total).contains(&index) {
        return Err(Refusal::Invalid("chunk range invalid"));
    }
    Ok((small(index), small(total)))
}

/// `POST /relay/blob/upload/complete`: the signature over all chunks.
#[derive(Clone, Copy, Debug)]
pub struct Complete<'b, 'a> {
    /// The blob as it will be.
    pub common: Common<'b, 'a>,
    /// 1 to [`CHUNKS_MAX`].
    pub total_chunks: i32,
    /// Absent when the signature cannot be right.
    pub proof: Option<Proof<'b, 'a>>,
}

impl<'b, 'a> Complete<'b, 'a> {
    /// Reads the fields, refusing the first that is wrong.
    pub fn read(fields: Fields<'b, 'a>) -> Result<Self, Refusal> {
        fields.require(&[
            "id",
            "from",
            "groupId",
            "fileName",
            "ts",
            "ttl",
            "totalChunks",
            "sig",
            "signingPub",
        ])?;
        let common = Common::read(fields)?;
        let total = fields.get("totalChunks").and_then(Value::as_number);
        let total = total
            .filter(|total| total.fract() == 0.0 && (1.0..=f64::from(CHUNKS_MAX)).contains(total));
        let total = total.ok_or(Refusal::Invalid("invalid totalChunks"))?;
        Ok(Self { common, total_chunks: small(total), proof: fields.proof() })
    }
}

/// A whole number already known to be between 0 and [`CHUNKS_MAX`].
#[expect(clippy::cast_possible_truncation, reason = "the callers checked the range")]
fn small(number: f64) -> i32 {
    number as i32
}

/// The document of a download up to its payload, which follows and is closed by
/// [`DOCUMENT_END`].
pub fn document_start(
    id: &Str<'_>,
    group_id: &Str<'_>,
    file_name: &Str<'_>,
    mime_type: Option<&Str<'_>>,
    size_bytes: u64,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    for (name, text) in
        [("{\"id\":", id), (",\"groupId\":", group_id), (",\"fileName\":", file_name)]
    {
        out.extend_from_slice(name.as_bytes());
        js::string(text, &mut out);
    }
    out.extend_from_slice(b",\"mimeType\":");
    match mime_type {
        Some(text) => js::string(text, &mut out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(format!(",\"sizeBytes\":{size_bytes},\"payload\":\"").as_bytes());
    out
}

/// Closes the payload and the document.
pub const DOCUMENT_END: &[u8] = b"\"}";

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(index: &str, total: &str) -> Result<(i32, i32), Refusal> {
        let text = format!(
            r#"{{"id":"i","from":"f","groupId":"g","fileName":"n","ts":1,"ttl":1,
                "chunkIndex":{index},"totalChunks":{total},"payload":"AA=="}}"#
        );
        let body = js::parse(text.as_bytes(), 8).unwrap();
        Chunk::read(Fields::new(&body)).map(|chunk| (chunk.index, chunk.total_chunks))
    }

    #[test]
    fn whole_numbers_of_any_spelling_place_a_chunk() {
        assert_eq!(chunk("0e0", "1.0"), Ok((0, 1)));
        assert_eq!(chunk("-0", "1"), Ok((0, 1)));
        assert_eq!(chunk("9999", "10000"), Ok((9999, 10_000)));
        for (index, total) in [("0.5", "1"), ("\"0\"", "1"), ("0", "null"), ("1e999", "1")] {
            assert_eq!(chunk(index, total), Err(Refusal::Invalid(INVALID_CHUNK)), "{index}");
        }
        for (index, total) in [("-1", "1"), ("1", "1"), ("0", "10001"), ("0", "0")] {
            assert_eq!(chunk(index, total), Err(Refusal::Invalid("chunk range invalid")));
        }
    }

    #[test]
    fn the_type_is_signed_trimmed_and_absent_as_empty() {
        let text = r#"{"id":"i","from":"f","groupId":"g","fileName":"n","ts":1,"ttl":2.5,
                       "mimeType":" a/b ","totalChunks":1,"sig":"","signingPub":""}"#;
        let body = js::parse(text.as_bytes(), 8).unwrap();
        let complete = Complete::read(Fields::new(&body)).unwrap();
        assert_eq!(complete.common.signature_text(), b"i|f|g|n|a/b|1|2.5|");
        assert!(complete.proof.is_none());
        assert_eq!(complete.common.mime_type, Some(&Str::from(" a/b ")));
    }

    #[test]
    fn a_document_says_null_where_no_type_was_given() {
        let name = Str::from("a\"b");
        let start = document_start(&name, &name, &name, None, 3);
        assert_eq!(
            String::from_utf8(start).unwrap(),
            r#"{"id":"a\"b","groupId":"a\"b","fileName":"a\"b","mimeType":null,"sizeBytes":3,"payload":""#
        );
    }
}
