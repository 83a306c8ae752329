//! Filling in templates.

use std::collections::{BTreeMap, HashMap};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signer, SigningKey};

use super::{Key, Mutation, Pad, Request, Signature, Vectors};

/// The order of the group, little endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// One run of one case: what its templates stand for. Signatures and nonces stay known from the
/// step that made them to the end of the case.
#[derive(Debug)]
pub struct Script<'v> {
    vectors: &'v Vectors,
    run: String,
    now_ms: i64,
    nonces: HashMap<String, String>,
    signatures: HashMap<String, Vec<u8>>,
}

impl<'v> Script<'v> {
    /// Starts a run under a name of its own (8 characters in the recordings).
    pub fn new(vectors: &'v Vectors, run: impl Into<String>, now_ms: i64) -> Self {
        let (nonces, signatures) = (HashMap::new(), HashMap::new());
        Self { vectors, run: run.into(), now_ms, nonces, signatures }
    }

    /// What all names of this run begin with.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Sets the `${now}` of the templates that follow.
    pub fn set_now(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
    }

    /// Sets what a nonce stands for; without this, a text nobody else uses.
    pub fn set_nonce(&mut self, name: impl Into<String>, nonce: impl Into<String>) {
        self.nonces.insert(name.into(), nonce.into());
    }

    /// Makes the signatures of a step.
    pub fn sign(&mut self, signatures: &BTreeMap<String, Signature>) {
        for (name, signature) in signatures {
            let mut message = self.fill(&signature.msg).into_bytes();
            message.extend(decode(&signature.tail_b64));
            if let Some((byte, count)) = signature.tail_rep {
                message.resize(message.len() + count, byte);
            }
            let mut bytes = self.key(&signature.key).sign(&message).to_bytes().to_vec();
            if let Some(mutation) = signature.mutate {
                mutation.apply(&mut bytes);
            }
            self.signatures.insert(name.clone(), bytes);
        }
    }

    /// Fills in a template.
    ///
    /// # Panics
    /// On a name it does not know: the vectors and this program must agree.
    pub fn fill(&self, template: &str) -> String {
        let mut text = String::with_capacity(template.len());
        let mut rest = template;
        while let Some(start) = rest.find("${") {
            let end = start + rest[start..].find('}').expect("templates are closed");
            text.push_str(&rest[..start]);
            text.push_str(&self.value(&rest[start + 2..end]));
            rest = &rest[end + 1..];
        }
        text + rest
    }

    /// The body of a request, if it has one.
    pub fn body(&self, request: &Request) -> Option<Vec<u8>> {
        match request {
            Request { body: Some(template), .. } => Some(self.fill(template).into_bytes()),
            Request { body_b64: Some(text), .. } => Some(decode(text)),
            Request { pad: Some(Pad { prefix, suffix, total }), .. } => {
                let filling = "a".repeat(total - prefix.len() - suffix.len());
                Some(format!("{prefix}{filling}{suffix}").into_bytes())
            }
            _ => None,
        }
    }

    fn value(&self, name: &str) -> String {
        let shifted = |base: i64, sum: &str| match sum {
            "" => Some(base),
            sum => Some(base + sum.parse::<i64>().ok()?),
        };
        let known = match name.split_once(':') {
            Some(("sig", name)) => self.signatures.get(name).map(|bytes| STANDARD.encode(bytes)),
            Some(("sigu", name)) => {
                self.signatures.get(name).map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
            }
            Some(("pub", name)) => Some(STANDARD.encode(self.key(name).verifying_key())),
            Some(("pubu", name)) => Some(URL_SAFE_NO_PAD.encode(self.key(name).verifying_key())),
            Some(("nonce", name)) => Some(
                self.nonces.get(name).cloned().unwrap_or_else(|| format!("{}-{name}", self.run)),
            ),
            Some(("rep", repetition)) => repetition
                .rsplit_once(':')
                .and_then(|(unit, count)| Some(unit.repeat(count.parse().ok()?))),
            Some(_) => None,
            None if name == "run" => Some(self.run.clone()),
            None if name == "now_e" => Some(exponent_form(self.now_ms)),
            None => (name.strip_prefix("ts").and_then(|sum| shifted(self.vectors.ts_fixed, sum)))
                .or_else(|| name.strip_prefix("now").and_then(|sum| shifted(self.now_ms, sum)))
                .map(|time| time.to_string()),
        };
        known.unwrap_or_else(|| panic!("no value for ${{{name}}}"))
    }

    fn key(&self, name: &str) -> SigningKey {
        let key: &Key = self.vectors.keys.get(name).expect("templates name known keys");
        let digit = |at: usize| u8::from_str_radix(&key.seed_hex[at..at + 2], 16);
        let seed: Result<Vec<u8>, _> = (0..64).step_by(2).map(digit).collect();
        let seed: [u8; 32] =
            seed.ok().and_then(|seed| seed.try_into().ok()).expect("seeds are hex");
        SigningKey::from_bytes(&seed)
    }
}

impl Mutation {
    fn apply(self, signature: &mut Vec<u8>) {
        match self {
            Self::FlipFirst => signature[0] ^= 1,
            Self::FlipLast => signature[63] ^= 0x40,
            Self::AddOrder => {
                let mut carry = 0;
                for (byte, add) in signature[32..].iter_mut().zip(ORDER) {
                    let sum = u16::from(*byte) + u16::from(add) + carry;
                    *byte = sum.to_le_bytes()[0];
                    carry = sum >> 8;
                }
            }
            Self::Truncate => signature.truncate(63),
            Self::Extend => signature.push(0),
        }
    }
}

/// `1795223831895` as `1.795223831895e12`.
fn exponent_form(number: i64) -> String {
    let digits = number.to_string();
    let (first, rest) = digits.split_at(1);
    format!("{first}.{rest}e{}", rest.len())
}

fn decode(text: &str) -> Vec<u8> {
    STANDARD.decode(text).expect("the vectors hold canonical base64")
}
