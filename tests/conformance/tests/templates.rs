//! The templates, filled in as they were on the day of the recording, give the recorded bytes.
#![allow(missing_docs, reason = "a test")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use testkit::vectors::{Action, RelayStep, Script, Vectors};

/// The run's name, as it stands in the recording of a case.
fn recorded_run(recorded: &[Value]) -> Option<String> {
    let text = Value::from(recorded).to_string();
    text.find("rrec").map(|at| text[at..at + 8].to_owned())
}

#[test]
fn relay_requests_are_those_that_were_recorded() {
    let vectors = Vectors::load();
    for case in &vectors.relay {
        let run = recorded_run(&case.recorded).unwrap_or_default();
        let mut script = Script::new(&vectors, run, 0);
        let requests = case.steps.iter().filter_map(|step| match step {
            RelayStep::Request(request) => Some(request),
            RelayStep::Sleep { .. } => None,
        });
        for (request, recorded) in requests.zip(&case.recorded) {
            script.sign(&request.sigs);
            let sent = &recorded["request"];
            assert_eq!(script.fill(&request.path), sent["path"].as_str().unwrap(), "{}", case.id);
            let body = script.body(request).unwrap_or_default();
            if request.chunked.is_some() {
                let text = sent["body"]["text"].as_str().unwrap_or_default();
                assert!(text.is_empty() || text.contains(str::from_utf8(&body).unwrap()));
            } else if let Some(text) = sent["body"]["text"].as_str() {
                assert_eq!(str::from_utf8(&body), Ok(text), "{}", case.id);
            } else if let Some(bytes) = sent["body"]["b64"].as_str() {
                assert_eq!(STANDARD.encode(&body), bytes, "{}", case.id);
            } else {
                let hash: String =
                    Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
                assert_eq!(hash, sent["body"]["sha256"].as_str().unwrap(), "{}", case.id);
            }
        }
    }
}

#[test]
fn signal_messages_are_those_that_were_recorded() {
    let vectors = Vectors::load();
    let mut compared = 0;
    for case in &vectors.signal {
        let Some(run) = recorded_run(&case.recorded) else { continue };
        let mut script = Script::new(&vectors, run, 0);
        let sent = case.recorded.iter().filter(|event| event["dir"] == "send");
        let messages = case.actions.iter().filter_map(|action| match action {
            Action::Send { text, sigs, .. } => Some((text, sigs)),
            _ => None,
        });
        for ((template, signatures), recorded) in messages.zip(sent) {
            let Some(recorded) = recorded["text"].as_str() else { continue };
            // Times and nonces of that day are taken from the text; what they sign is compared.
            let now = member(template, "timestampMs", "${now}", recorded);
            if now.is_none() && signatures.values().any(|signature| signature.msg.contains("${now"))
            {
                continue;
            }
            if let Some(now) = now {
                script.set_now(now.split('.').next().unwrap_or_default().parse().unwrap());
            }
            for name in template.split("${nonce:").skip(1).filter_map(|rest| rest.split('}').next())
            {
                let nonce = member(template, "nonce", &format!("\"${{nonce:{name}}}\""), recorded);
                script.set_nonce(name, nonce.unwrap_or_default().trim_matches('"'));
            }
            script.sign(signatures);
            assert_eq!(script.fill(template), recorded, "{}", case.id);
            compared += 1;
        }
    }
    assert!(compared > 150, "only {compared} messages compared");
}

/// What the recording has where the template has `placeholder`.
fn member<'r>(template: &str, name: &str, placeholder: &str, recorded: &'r str) -> Option<&'r str> {
    let start = format!("\"{name}\":");
    if !template.contains(&format!("{start}{placeholder}")) {
        return None;
    }
    recorded.split(&start).nth(1)?.split([',', '}']).next()
}
