use super::*;

fn parse(text: &str) -> Value<'_> {
    js::parse(text.as_bytes(), BODY_DEPTH_MAX).expect("valid JSON")
}

#[test]
fn the_first_missing_key_is_named_and_null_is_present() {
    let body = parse(r#"{"id":null,"to":1}"#);
    let fields = Fields::new(&body);
    assert_eq!(fields.require(&["id", "from", "to"]), Err(Refusal::Missing("from")));
    assert_eq!(fields.require(&["id", "to"]), Ok(()));
    assert_eq!(Refusal::Missing("from").to_string(), "missing from");
}

#[test]
fn an_array_has_no_fields() {
    let body = parse("[1]");
    assert_eq!(Fields::new(&body).require(&["id"]), Err(Refusal::Missing("id")));
}

#[test]
fn every_string_is_needed() {
    let body = parse(r#"{"id":"a","from":5}"#);
    let fields = Fields::new(&body);
    assert_eq!(
        fields.strings(["id", "from"], "invalid id/from").unwrap_err(),
        Refusal::Invalid("invalid id/from")
    );
    assert_eq!(fields.strings(["id"], "invalid id").unwrap(), [&Str::from("a")]);
}

#[test]
fn infinite_numbers_and_other_types_are_refused() {
    for text in [r#"{"ts":1e999,"ttl":1}"#, r#"{"ts":"1","ttl":1}"#, r#"{"ts":1,"ttl":null}"#] {
        let body = parse(text);
        assert_eq!(Fields::new(&body).ts_ttl(), Err(Refusal::Invalid("invalid ts/ttl")), "{text}");
    }
    assert_eq!(Fields::new(&parse(r#"{"ts":17e11,"ttl":-0}"#)).ts_ttl().unwrap().0, 17e11);
}

#[test]
fn a_proof_is_two_strings_that_are_not_empty() {
    assert!(Fields::new(&parse(r#"{"sig":"","signingPub":"x"}"#)).proof().is_none());
    assert!(Fields::new(&parse(r#"{"sig":"x","signingPub":null}"#)).proof().is_none());
    assert!(Fields::new(&parse(r#"{"sig":"x","signingPub":"y"}"#)).proof().is_some());
}

#[test]
fn signature_texts_join_fields_and_lists() {
    let list = [Str::from("a"), Str::from("b")];
    let text = SignatureText::new().text(&Str::from("id")).list(&list).number(1e21).number(-0.0);
    assert_eq!(text.then_payload(), b"id|a,b|1e+21|0|");
    assert_eq!(SignatureText::new().text(&Str::from("")).text(&Str::from("x")).finish(), b"|x");
}
