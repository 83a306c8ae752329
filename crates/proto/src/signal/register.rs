//! The register payload and its proof (spec 3.3).

use sha2::{Digest, Sha256};

use super::{Code, PeerId, Refusal, Request, Rules, peer_id::is_truthy};
use crate::{
    base64,
    js::{self, Kind, Raw, Str, Value},
    sign::{KeyCache, PublicKey},
};

/// How far a proof's timestamp may be from the server's clock, in milliseconds.
pub const SKEW_MS: f64 = 30_000.0;

/// How long after its timestamp a nonce is remembered, in milliseconds.
pub const FORGET_AFTER_MS: f64 = 120_000.0;

/// What a client asks to continue (ours; old clients never ask).
#[derive(Debug, PartialEq, Eq)]
pub enum Resume<'a> {
    /// Nothing: no token is made.
    No,
    /// A token for later: `"resume":true`.
    Fresh,
    /// The session of this token, received up to the signal with id `after`, if the client knows.
    Token {
        /// `"resume":"<sessionId of an earlier register_ack>"`
        token: Str<'a>,
        /// `"resumeAfter":"<id of the last signal frame>"`
        after: Option<Str<'a>>,
    },
}

/// A register payload in order, whose proof is still to be checked: checks 1 to 12 have passed.
#[derive(Debug)]
pub struct Register<'a> {
    /// The id to register.
    pub peer: PeerId,
    /// Whether the signals of an earlier session are wanted.
    pub resume: Resume<'a>,
    /// Whether ICE servers are wanted (`"iceServers":true`).
    pub wants_ice_servers: bool,
    timestamp_ms: f64,
    nonce: Str<'a>,
    key_text: Str<'a>,
    signature_text: Str<'a>,
    legacy_peer_id: Option<Value<'a>>,
    identity_profile: Option<Value<'a>>,
}

const fn refuse(message: &'static str) -> Refusal {
    Refusal::new(Code::InvalidRegisterAuth, message)
}

impl<'a> Register<'a> {
    /// Checks the payload of a `register` frame in the protocol's order, up to the clock.
    ///
    /// # Errors
    /// The first of checks 1 to 12 that fails.
    pub fn read(request: &Request<'a>, rules: &Rules, now_ms: i64) -> Result<Self, Refusal> {
        let is_object = |raw: &Raw<'_>| matches!(raw.kind(), Kind::Object | Kind::Array);
        if !request.payload.as_ref().is_some_and(is_object) {
            return Err(Refusal::new(Code::InvalidRegister, "register payload is required"));
        }
        let peer = request.member("peerId").filter(|peer| is_truthy(*peer));
        let peer = peer.ok_or(Refusal::new(Code::InvalidRegister, "peerId is required"))?;
        let auth = request.member("auth").filter(is_object).ok_or(refuse("auth is required"))?;
        let Value::Object(auth) = auth.value() else {
            return Err(refuse("unsupported auth scheme"));
        };
        let member = |key: &str| auth.get(key).cloned();
        if member("scheme") != Some(Value::from("peerlink-ed25519-v1")) {
            return Err(refuse("unsupported auth scheme"));
        }
        let peer_value = peer.value();
        let peer =
            PeerId::from_raw(peer).filter(|_| member("peerId").as_ref() == Some(&peer_value));
        let peer = peer.ok_or(refuse("auth peerId mismatch"))?;
        check_peer_id(&peer, rules)?;
        let legacy_peer_id = member("legacyPeerId").filter(|value| *value != Value::Null);
        if legacy_peer_id.as_ref().is_some_and(|value| value.as_str().is_none()) {
            return Err(refuse("legacyPeerId must be string"));
        }
        let identity_profile = member("identityProfile").filter(|value| *value != Value::Null);
        check_profile(identity_profile.as_ref(), &peer_value)?;
        let timestamp_ms = member("timestampMs").as_ref().and_then(Value::as_number);
        let timestamp_ms = timestamp_ms.filter(|ms| ms.is_finite());
        let timestamp_ms = timestamp_ms.ok_or(refuse("timestampMs is required"))?;
        let nonce = text(member("nonce")).filter(|nonce| js::utf16_len(nonce) >= 8);
        let nonce = nonce.ok_or(refuse("nonce is required"))?;
        let texts = (text(member("signingPublicKey")), text(member("signature")));
        let (Some(key_text), Some(signature_text)) = texts else {
            return Err(refuse("signingPublicKey and signature are required"));
        };
        #[expect(clippy::cast_precision_loss, reason = "clocks stay far below 2^53 ms")]
        if (now_ms as f64 - timestamp_ms).abs() > SKEW_MS {
            return Err(refuse("timestamp outside allowed skew window"));
        }
        Ok(Self {
            peer,
            resume: read_resume(request),
            wants_ice_servers: request
                .member("iceServers")
                .is_some_and(|ask| ask.text() == b"true"),
            timestamp_ms,
            nonce,
            key_text,
            signature_text,
            legacy_peer_id: legacy_peer_id
                .filter(|value| value.as_str().is_some_and(|text| !text.is_empty())),
            identity_profile,
        })
    }

    /// SHA-256 of the nonce: what is remembered of it.
    #[must_use]
    pub fn nonce_digest(&self) -> [u8; 32] {
        Sha256::digest(self.nonce.as_bytes()).into()
    }

    /// When the nonce may be forgotten, in milliseconds since the epoch.
    #[must_use]
    pub fn forget_at_ms(&self) -> i64 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "within the skew window of an i64 clock"
        )]
        let at = (self.timestamp_ms + FORGET_AFTER_MS) as i64;
        at
    }

    /// Checks 14 and 15: the key that signed this register.
    ///
    /// # Errors
    /// The key is not 32 bytes, weak under a policy that minds, or signed neither form.
    pub fn verify(&self, keys: &KeyCache, rules: &Rules) -> Result<PublicKey, Refusal> {
        const FAILED: Refusal = refuse("signature verification failed");
        let Some(key) = keys.decode(&self.key_text) else {
            let length = base64::decode_lenient(&self.key_text).len();
            return Err(if length == 32 {
                FAILED
            } else {
                refuse("invalid signing public key length")
            });
        };
        if key.is_weak() && !rules.weak_keys {
            return Err(refuse("weak signing public key"));
        }
        let signature = base64::decode_lenient(&self.signature_text);
        let mut signed = self.v1();
        let v1_end = signed.len();
        self.extend_to_v2(&mut signed);
        // The longer form first; when both are the same there is nothing else to try.
        if key.verify(&signed, &signature) {
            return Ok(key);
        }
        if signed.len() == v1_end {
            return Err(FAILED);
        }
        signed.truncate(v1_end - 1);
        signed.push(b'}');
        if key.verify(&signed, &signature) { Ok(key) } else { Err(FAILED) }
    }

    /// Canonical form 1.
    #[must_use]
    pub fn v1(&self) -> Vec<u8> {
        let mut out = br#"{"purpose":"bootstrap-register","protocol":"1","peerId":"#.to_vec();
        out.extend_from_slice(self.peer.json());
        out.extend_from_slice(b",\"timestampMs\":");
        js::number(self.timestamp_ms, &mut out);
        out.extend_from_slice(b",\"nonce\":");
        js::string(&self.nonce, &mut out);
        out.extend_from_slice(b",\"signingPublicKey\":");
        js::string(&self.key_text, &mut out);
        out.push(b'}');
        out
    }

    /// Canonical form 2: form 1 with the legacy id and the profile, as far as they are there.
    #[must_use]
    pub fn v2(&self) -> Vec<u8> {
        let mut out = self.v1();
        self.extend_to_v2(&mut out);
        out
    }

    fn extend_to_v2(&self, v1: &mut Vec<u8>) {
        let members =
            [("legacyPeerId", &self.legacy_peer_id), ("identityProfile", &self.identity_profile)];
        for (key, value) in members {
            let Some(value) = value else { continue };
            v1.pop();
            v1.extend_from_slice(b",\"");
            v1.extend_from_slice(key.as_bytes());
            v1.extend_from_slice(b"\":");
            js::write(value, v1);
            v1.push(b'}');
        }
    }
}

fn text(value: Option<Value<'_>>) -> Option<Str<'_>> {
    match value {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn check_peer_id(peer: &PeerId, rules: &Rules) -> Result<(), Refusal> {
    let text = peer.wtf8();
    let message = match &text {
        None if !rules.scalar_peer_ids => "peerId must be a string",
        _ if peer.json().len() > rules.max_peer_id_bytes => "peerId is too long",
        Some(text) if rules.plain_peer_ids && !is_plain(text) => {
            "peerId must be 1 to 64 characters of A-Z a-z 0-9 _ -"
        }
        _ => return Ok(()),
    };
    Err(Refusal::new(Code::InvalidRegister, message))
}

fn is_plain(id: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    id.len() <= 64 && id.iter().all(plain)
}

fn check_profile(profile: Option<&Value<'_>>, peer: &Value<'_>) -> Result<(), Refusal> {
    match profile {
        None | Some(Value::Array(_)) => Ok(()),
        Some(Value::Object(profile)) => match profile.get("stableUserId") {
            Some(id @ Value::String(_)) if id != peer => {
                Err(refuse("identityProfile stableUserId mismatch"))
            }
            _ => Ok(()),
        },
        Some(_) => Err(refuse("identityProfile must be object")),
    }
}

fn read_resume<'a>(request: &Request<'a>) -> Resume<'a> {
    match request.member("resume") {
        Some(raw) if raw.text() == b"true" => Resume::Fresh,
        Some(raw) => raw.string().map_or(Resume::No, |token| Resume::Token {
            token,
            after: request.member("resumeAfter").and_then(|raw| raw.string()),
        }),
        None => Resume::No,
    }
}

#[cfg(test)]
mod tests;
