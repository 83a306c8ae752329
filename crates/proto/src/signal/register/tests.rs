use ed25519_dalek::{Signer, SigningKey};

use super::*;

const NOW: i64 = 1_741_590_002_123;

/// A register frame that passes every check but, with these signatures, the last.
const AUTH: &str = r#""scheme":"peerlink-ed25519-v1","peerId":"p","timestampMs":1741590002123,"nonce":"12345678","signingPublicKey":"KEY","signature":"SIG""#;

fn frame(payload: &str) -> String {
    format!(r#"{{"v":"1","id":"r","type":"register","payload":{payload}}}"#)
}

fn with_auth(auth: &str) -> String {
    frame(&format!(r#"{{"peerId":"p","auth":{{{auth}}}}}"#))
}

fn check(text: &str, rules: &Rules) -> Result<(), (Code, String)> {
    let request = Request::read(text.as_bytes(), rules).expect("the envelope is in order");
    Register::read(&request, rules, NOW).map(drop).map_err(|refusal| {
        (refusal.code, String::from_utf8(refusal.message.into_owned()).expect("ASCII"))
    })
}

fn refused(text: &str) -> String {
    check(text, &Rules::OPEN).expect_err("refused").1
}

#[test]
fn checks_answer_in_the_order_of_the_table() {
    let replaced = |from: &str, to: &str| with_auth(&AUTH.replace(from, to));
    let rows = [
        (frame("null"), "register payload is required"),
        (frame("\"x\""), "register payload is required"),
        (frame("[]"), "peerId is required"),
        (frame(r#"{"peerId":0}"#), "peerId is required"),
        (frame(r#"{"peerId":"p"}"#), "auth is required"),
        (frame(r#"{"peerId":"p","auth":null}"#), "auth is required"),
        (frame(r#"{"peerId":"p","auth":[]}"#), "unsupported auth scheme"),
        (replaced("ed25519-v1", "ed25519-v2"), "unsupported auth scheme"),
        (replaced(r#""peerId":"p","#, ""), "auth peerId mismatch"),
        (
            frame(&format!(r#"{{"peerId":{{}},"auth":{{{}}}}}"#, AUTH.replace("\"p\"", "{}"))),
            "auth peerId mismatch",
        ),
        (with_auth(&format!("{AUTH},\"legacyPeerId\":5")), "legacyPeerId must be string"),
        (with_auth(&format!("{AUTH},\"identityProfile\":\"\"")), "identityProfile must be object"),
        (with_auth(&format!("{AUTH},\"identityProfile\":0")), "identityProfile must be object"),
        (
            with_auth(&format!(r#"{AUTH},"identityProfile":{{"stableUserId":"q"}}"#)),
            "identityProfile stableUserId mismatch",
        ),
        (replaced("1741590002123", "1e999"), "timestampMs is required"),
        (replaced("1741590002123", "\"1\""), "timestampMs is required"),
        (replaced("12345678", "1234567"), "nonce is required"),
        (replaced("\"KEY\"", "5"), "signingPublicKey and signature are required"),
        (replaced("\"SIG\"", "null"), "signingPublicKey and signature are required"),
        (replaced("1741590002123", "1741589972122"), "timestamp outside allowed skew window"),
        (replaced("1741590002123", "1741590032124"), "timestamp outside allowed skew window"),
    ];
    for (text, message) in rows {
        assert_eq!(refused(&text), message, "{text}");
    }
    for ms in ["1741589972123", "1741590032123"] {
        assert_eq!(check(&replaced("1741590002123", ms), &Rules::PIN), Ok(()), "{ms}");
    }
}

#[test]
fn an_earlier_check_hides_a_later_one() {
    let both = AUTH.replace("1741590002123", "1").replace("12345678", "1");
    assert_eq!(refused(&with_auth(&both)), "nonce is required");
    let profile = format!("{},\"identityProfile\":5", AUTH.replace("1741590002123", "null"));
    assert_eq!(refused(&with_auth(&profile)), "identityProfile must be object");
}

#[test]
fn scalar_ids_are_for_the_open_policy() {
    let text = frame(&format!(r#"{{"peerId":5,"auth":{{{}}}}}"#, AUTH.replace("\"p\"", "5")));
    assert_eq!(check(&text, &Rules::OPEN), Ok(()));
    let refused = check(&text, &Rules::PIN).expect_err("not a string");
    assert_eq!(refused, (Code::InvalidRegister, "peerId must be a string".to_owned()));
    let odd =
        frame(&format!(r#"{{"peerId":"p|q","auth":{{{}}}}}"#, AUTH.replace("\"p\"", "\"p|q\"")));
    assert_eq!(check(&odd, &Rules::PIN), Ok(()));
    assert_eq!(check(&odd, &Rules::STRICT).expect_err("odd").0, Code::InvalidRegister);
}

fn signed(extra: &str, message: impl Fn(&Register<'_>) -> Vec<u8>) -> Result<PublicKey, Refusal> {
    let key = SigningKey::from_bytes(&[7; 32]);
    let mut key_text = Vec::new();
    base64::encode(key.verifying_key().as_bytes(), &mut key_text);
    let key_text = String::from_utf8(key_text).expect("base64");
    let auth = AUTH.replace("KEY", &key_text);
    let unsigned = with_auth(&format!("{auth}{extra}"));
    let read = |text: &str, then: &dyn Fn(Register<'_>) -> Result<PublicKey, Refusal>| {
        let request = Request::read(text.as_bytes(), &Rules::PIN).expect("a frame");
        then(Register::read(&request, &Rules::PIN, NOW).expect("checks 1 to 12 pass"))
    };
    let signature = std::cell::RefCell::new(String::new());
    let _ = read(&unsigned, &|register| {
        let mut text = Vec::new();
        base64::encode(&key.sign(&message(&register)).to_bytes(), &mut text);
        *signature.borrow_mut() = String::from_utf8(text).expect("base64");
        Err(refuse("only signing"))
    });
    let text = unsigned.replace("SIG", &signature.borrow());
    read(&text, &|register| register.verify(&KeyCache::new(8), &Rules::PIN))
}

#[test]
fn both_canonical_forms_verify_with_a_profile_present() {
    let profile = r#","legacyPeerId":"old","identityProfile":{"b":1,"a":[2],"1":null}"#;
    assert!(signed(profile, |register| register.v2()).is_ok());
    assert!(signed(profile, |register| register.v1()).is_ok());
    assert!(signed("", |register| register.v1()).is_ok());
    assert!(signed(profile, |register| [&register.v2()[..], b" "].concat()).is_err());
}

#[test]
fn canonical_form_2_is_what_javascript_writes() {
    let text = with_auth(&format!(
        r#"{AUTH},"identityProfile":{{"x":1.0,"2":-0,"1":[1e21]}},"legacyPeerId":"L""#
    ));
    let request = Request::read(text.as_bytes(), &Rules::PIN).expect("a frame");
    let register = Register::read(&request, &Rules::PIN, NOW).expect("in order");
    let v1 = r#"{"purpose":"bootstrap-register","protocol":"1","peerId":"p","timestampMs":1741590002123,"nonce":"12345678","signingPublicKey":"KEY""#;
    assert_eq!(String::from_utf8_lossy(&register.v1()), format!("{v1}}}"));
    let tail = r#","legacyPeerId":"L","identityProfile":{"1":[1e+21],"2":0,"x":1}}"#;
    assert_eq!(String::from_utf8_lossy(&register.v2()), format!("{v1}{tail}"));
}

#[test]
fn key_length_and_weakness_are_told() {
    let verify = |key: &str, rules: &Rules| {
        let text = with_auth(&AUTH.replace("KEY", key));
        let request = Request::read(text.as_bytes(), rules).expect("a frame");
        let register = Register::read(&request, rules, NOW).expect("in order");
        register.verify(&KeyCache::new(8), rules).expect_err("refused").message
    };
    assert_eq!(&*verify("AA==", &Rules::OPEN), b"invalid signing public key length");
    let identity = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(&*verify(identity, &Rules::PIN), b"weak signing public key");
    assert_eq!(&*verify(identity, &Rules::OPEN), b"signature verification failed");
}

#[test]
fn resume_is_read_from_the_payload_not_from_auth() {
    let resume = |members: &str| {
        let text = frame(&format!(r#"{{"peerId":"p","auth":{{{AUTH}}}{members}}}"#));
        let request = Request::read(text.as_bytes(), &Rules::PIN).expect("a frame");
        let register = Register::read(&request, &Rules::PIN, NOW).expect("in order");
        format!("{:?} {}", register.resume, register.wants_ice_servers)
    };
    assert_eq!(resume(""), "No false");
    assert_eq!(resume(r#","resume":false,"iceServers":1"#), "No false");
    assert_eq!(resume(r#","resume":true,"iceServers":true"#), "Fresh true");
    assert!(resume(r#","resume":"t","resumeAfter":"s""#).starts_with("Token"));
}

#[test]
fn canonical_forms_are_those_the_original_signs() {
    let mut checked = 0;
    for row in crate::vectors::table("register_canonical") {
        let auth = crate::vectors::text(&row, "auth");
        let inside = auth.trim().strip_prefix('{').expect("an object");
        let members = js::scan_object(auth.as_bytes(), 256).expect("JSON").expect("an object");
        let (Some(time), Some(peer)) = (members.get("timestampMs"), members.get("peerId")) else {
            continue;
        };
        let now_ms = time.value().as_number().unwrap_or_default();
        let peer = str::from_utf8(peer.text()).expect("JSON is UTF-8");
        let text = frame(&format!(
            r#"{{"peerId":{peer},"auth":{{"scheme":"peerlink-ed25519-v1","signature":"x",{inside}}}"#
        ));
        let request = Request::read(text.as_bytes(), &Rules::OPEN).expect("a frame");
        #[expect(clippy::cast_possible_truncation, reason = "a time")]
        let register = match Register::read(&request, &Rules::OPEN, now_ms as i64) {
            Ok(register) => register,
            // A row about spelling only, with a nonce too short or a time out of every range.
            Err(refusal) => {
                let message = String::from_utf8_lossy(&refusal.message).into_owned();
                assert!(message.ends_with("required") || message.contains("skew"), "{auth}");
                continue;
            }
        };
        checked += 1;
        assert_eq!(String::from_utf8_lossy(&register.v1()), crate::vectors::text(&row, "v1"));
        assert_eq!(String::from_utf8_lossy(&register.v2()), crate::vectors::text(&row, "v2"));
    }
    assert!(checked >= 3, "{checked} rows");
}
