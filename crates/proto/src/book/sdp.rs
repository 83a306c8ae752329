//! Whether an offer or answer was made by whom it is said to come from.

use super::{Fingerprint, id::hex};
use crate::{
    base64::decode_lenient,
    js::{self, Kind, Raw},
};

/// Whether an `offer` or `answer` names another certificate than `sender`'s.
///
/// Reads an object `{type, sdp}`, the text of an SDP, and either of them in base64. Anything else
/// is not ours to understand, and a sender whose fingerprint is no SHA-256 cannot be compared
/// with: both are no contradiction. Only `a=fingerprint:sha-256` counts (RFC 8122).
pub fn contradicts(description: Raw<'_>, sender: &Fingerprint) -> bool {
    let Some(digest) = sender.digest() else { return false };
    fingerprints_of(description, 0).is_some_and(|found| found.iter().any(|one| *one != digest))
}

/// Whose certificate an SDP names, written as clients write it: 64 upper-case hexadecimal digits.
///
/// `None` unless there is exactly one `a=fingerprint:sha-256`, perhaps repeated.
pub fn fingerprint(sdp: &[u8]) -> Option<Fingerprint> {
    let found = listed(sdp);
    let first = found.first()?;
    if *first == [0; 32] || found.iter().any(|other| other != first) {
        return None;
    }
    let digits: String = first.iter().map(|byte| format!("{byte:02X}")).collect();
    Fingerprint::new(&digits)
}

/// The SHA-256 fingerprints of a description; `None` when it is none that we can read.
fn fingerprints_of(description: Raw<'_>, depth: u8) -> Option<Vec<[u8; 32]>> {
    match description.kind() {
        Kind::Object => {
            let members = js::scan_object(description.text(), js::DEPTH_CEILING).ok()??;
            // A repeated member: whichever the receiver takes, it is looked at.
            let texts = members.iter().filter(|(name, _)| name.as_bytes() == b"sdp");
            let found: Vec<_> = texts.filter_map(|(_, raw)| raw.string()).collect();
            let all = found.iter().flat_map(|text| listed(text.as_bytes())).collect();
            (!found.is_empty()).then_some(all)
        }
        Kind::String => {
            let text = description.string()?;
            if text.as_bytes().starts_with(b"v=0") {
                return Some(listed(text.as_bytes()));
            }
            if depth > 0 {
                return None;
            }
            let decoded = decode_lenient(&text);
            if decoded.starts_with(b"v=0") {
                return Some(listed(&decoded));
            }
            let inner = wrap(&decoded)?;
            let members = js::scan_object(&inner, js::DEPTH_CEILING).ok()??;
            fingerprints_of(members.get("d")?, 1)
        }
        _ => None,
    }
}

/// Puts a JSON text into an object, so that it can be scanned whatever it is.
fn wrap(json: &[u8]) -> Option<Vec<u8>> {
    let first = json.trim_ascii().first()?;
    matches!(first, b'{' | b'"').then(|| [b"{\"d\":", json, b"}"].concat())
}

fn listed(sdp: &[u8]) -> Vec<[u8; 32]> {
    let lines = sdp.split(|byte| matches!(byte, b'\n' | b'\r'));
    let values = lines.filter_map(|line| line.trim_ascii().strip_prefix(b"a=fingerprint:"));
    values
        .filter_map(|value| {
            let (hash, digest) = value.split_at_checked(7)?;
            // A digest that cannot be read is not the sender's either.
            hash.eq_ignore_ascii_case(b"sha-256")
                .then(|| hex(digest.trim_ascii()).unwrap_or([0; 32]))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(byte: u8) -> Fingerprint {
        Fingerprint::new(&format!("{byte:02X}").repeat(32)).unwrap()
    }

    fn sdp(byte: u8) -> String {
        let digest = vec![format!("{byte:02x}"); 32].join(":");
        format!("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\na=fingerprint:sha-256 {digest}\r\n")
    }

    fn check(json: &str, byte: u8) -> bool {
        let text = format!("{{\"d\":{json}}}");
        let members = js::scan_object(text.as_bytes(), 64).unwrap().unwrap();
        contradicts(members.get("d").unwrap(), &sender(byte))
    }

    fn shapes(sdp: &str) -> Vec<String> {
        let encode = |text: &str| {
            let mut out = Vec::new();
            crate::base64::encode(text.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        let text = serde_json::to_string(sdp).unwrap();
        let object = format!("{{\"type\":\"offer\",\"sdp\":{text}}}");
        let escaped = object.replace("a=", "\\u0061=");
        let in_base64 = format!("\"{}\"", encode(&object));
        let raw_in_base64 = format!("\"{}\"", encode(sdp));
        vec![text, object, escaped, in_base64, raw_in_base64]
    }

    #[test]
    fn every_shape_of_a_description_is_compared_with_its_sender() {
        for shape in shapes(&sdp(0xab)) {
            assert!(!check(&shape, 0xab), "{shape}");
            assert!(check(&shape, 0xcd), "{shape}");
        }
    }

    #[test]
    fn one_wrong_line_among_right_ones_is_noticed() {
        let mixed = sdp(0xab) + &sdp(0xcd);
        assert!(shapes(&mixed).iter().all(|shape| check(shape, 0xab)));
        let twice = format!(
            "{{\"sdp\":{},\"sdp\":{}}}",
            serde_json::to_string(&sdp(0xcd)).unwrap(),
            serde_json::to_string(&sdp(0xab)).unwrap()
        );
        assert!(check(&twice, 0xab));
    }

    #[test]
    fn an_sdp_names_one_certificate_or_none() {
        assert_eq!(fingerprint(sdp(0xab).as_bytes()), Some(sender(0xab)));
        assert_eq!(fingerprint((sdp(0xab) + &sdp(0xab)).as_bytes()), Some(sender(0xab)));
        assert_eq!(fingerprint((sdp(0xab) + &sdp(0xcd)).as_bytes()), None);
        assert_eq!(fingerprint(b"v=0\r\na=fingerprint:sha-256 xyz\r\n"), None);
        assert_eq!(fingerprint(b"v=0\r\na=fingerprint:sha-1 AB\r\n"), None);
    }

    #[test]
    fn what_cannot_be_read_or_compared_passes() {
        for json in ["\"o\"", "1", "null", "{}", "{\"sdp\":1}", "\"b2ZmZXI=\"", "[]", "\"eyJ\""] {
            assert!(!check(json, 1), "{json}");
        }
        let opaque = Fingerprint::new("A").unwrap();
        let text = format!("{{\"d\":{}}}", serde_json::to_string(&sdp(1)).unwrap());
        let members = js::scan_object(text.as_bytes(), 64).unwrap().unwrap();
        assert!(!contradicts(members.get("d").unwrap(), &opaque));
    }
}
