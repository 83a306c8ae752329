//! The rules of the identity policy that need no database (spec 5).

use std::time::Duration;

use identity::Policy;
use proto::base64;
use proto::js::Str;
use proto::relay::{Proof, Refusal};

use crate::config::Config;
use crate::error::Error;

/// Longest peer id, in characters; today's have 32.
const PEER_ID_MAX: usize = 64;

/// Longest id of an envelope, group or blob, in characters.
const ID_MAX: usize = 256;

/// Largest number that JavaScript and everybody else count exactly.
const SAFE_INTEGER_MAX: f64 = 9_007_199_254_740_991.0;

/// Distance between signed and our time for requests that are only signed to be read.
const READ_SKEW_DEFAULT_MS: i64 = 600_000;

/// What a request has to fulfil besides the wire's own rules.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) policy: Policy,
    pub(crate) signed_fetch: bool,
    pub(crate) claim_by_members: bool,
    pub(crate) members_monotonic: bool,
    padded_base64: bool,
    /// 0: any time will do.
    clock_skew_ms: i64,
}

/// How many envelopes a fetch wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FetchLimit {
    /// This many from the start.
    Most(i64),
    /// JavaScript's `slice(start, start + n)` with a negative `n`; the original's accident.
    AllBut(i64),
}

impl Rules {
    /// The rules the settings ask for.
    pub(crate) fn new(config: &Config) -> Self {
        let policy = config.policy.identity_policy;
        let strict = policy.is_strict();
        let checks = &config.checks;
        let skew = checks.clock_skew.unwrap_or(Duration::from_mins(if strict { 10 } else { 0 }));
        Self {
            policy,
            signed_fetch: checks.signed_fetch.unwrap_or(strict),
            claim_by_members: checks.claim_by_members.unwrap_or(strict),
            members_monotonic: checks.members_monotonic.unwrap_or(strict),
            padded_base64: checks.padded_base64.unwrap_or(strict),
            clock_skew_ms: i64::try_from(skew.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// Whether the original's behaviour is wanted to the letter.
    pub(crate) fn open(&self) -> bool {
        self.policy.is_open()
    }

    /// A peer id: up to 64 characters of the base64url alphabet.
    pub(crate) fn peer(&self, id: &Str<'_>, error: &'static str) -> Result<(), Error> {
        let id = id.as_bytes();
        let alphabet = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let fits = (1..=PEER_ID_MAX).contains(&id.len()) && id.iter().all(alphabet);
        self.demand(fits, error)
    }

    /// Any other id: up to 256 characters, none of them a control character.
    pub(crate) fn id(&self, id: &Str<'_>, error: &'static str) -> Result<(), Error> {
        let id = id.as_bytes();
        let control = |(at, byte): (usize, &u8)| {
            *byte < 0x20
                || *byte == 0x7f
                || (*byte == 0xc2 && id.get(at + 1).is_some_and(|next| *next < 0xa0))
        };
        let characters = id.iter().filter(|byte| *byte & 0xc0 != 0x80).count();
        self.demand(characters <= ID_MAX && !id.iter().enumerate().any(control), error)
    }

    /// `ts`: a safe integer that is not negative. A client that reads anything else as an integer
    /// loses the whole page.
    pub(crate) fn ts(&self, ts: f64, error: &'static str) -> Result<(), Error> {
        self.demand(is_safe(ts), error)
    }

    /// `ttl`: as [`Rules::ts`], and not 0.
    pub(crate) fn ttl(&self, ttl: f64, error: &'static str) -> Result<(), Error> {
        self.demand(is_safe(ttl) && ttl > 0.0, error)
    }

    /// A payload other readers of base64 take too.
    pub(crate) fn payload(&self, payload: &Str<'_>) -> Result<(), Error> {
        self.demand(self.readable(payload), "invalid payload encoding")
    }

    /// `sig` and `signingPub`, likewise; wrong ones fail as signatures do.
    pub(crate) fn proof(&self, proof: &Proof<'_, '_>) -> Result<(), Error> {
        let fits = self.open() || (self.readable(proof.signature) && self.readable(proof.key));
        if fits { Ok(()) } else { Err(Error::BadSignature) }
    }

    /// That `ts` is near our clock, where that is demanded.
    pub(crate) fn skew(&self, ts: f64, now_ms: i64) -> Result<(), Error> {
        let near = self.clock_skew_ms == 0 || distance_ms(ts, now_ms) <= self.clock_skew_ms;
        if near { Ok(()) } else { Err(Refusal::Invalid("ts outside allowed skew window").into()) }
    }

    /// As [`Rules::skew`] for signed reads, which always have to be recent.
    pub(crate) fn read_skew(&self, ts: f64, now_ms: i64) -> Result<(), Error> {
        let allowed =
            if self.clock_skew_ms == 0 { READ_SKEW_DEFAULT_MS } else { self.clock_skew_ms };
        if distance_ms(ts, now_ms) <= allowed { Ok(()) } else { Err(Error::Unauthenticated) }
    }

    /// What a fetch's limit means; only the original does arithmetic with negative ones.
    pub(crate) fn limit(&self, number: i64) -> FetchLimit {
        match number {
            1.. => FetchLimit::Most(number),
            _ if self.open() && number < 0 => FetchLimit::AllBut(number.saturating_neg()),
            _ => FetchLimit::Most(50),
        }
    }

    /// One alphabet, no other characters, no stray bits; padding as demanded.
    fn readable(&self, text: &Str<'_>) -> bool {
        let text = text.as_bytes();
        if base64::is_canonical(text) {
            return true;
        }
        // Unpadded text is what url-safe encoders write; the standard alphabet comes padded.
        let url_safe = !text.iter().any(|byte| matches!(byte, b'+' | b'/' | b'='));
        let padding = &b"=="[..(4 - text.len() % 4) % 4 % 3];
        !self.padded_base64 && url_safe && base64::is_canonical(&[text, padding].concat())
    }

    fn demand(&self, fits: bool, error: &'static str) -> Result<(), Error> {
        if fits || self.open() { Ok(()) } else { Err(Refusal::Invalid(error).into()) }
    }
}

fn is_safe(number: f64) -> bool {
    (0.0..=SAFE_INTEGER_MAX).contains(&number) && number.fract() == 0.0
}

#[expect(clippy::cast_possible_truncation, reason = "far times saturate, and are far")]
fn distance_ms(ts: f64, now_ms: i64) -> i64 {
    (ts as i64).saturating_sub(now_ms).saturating_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: &[&str] = &["--database-url", "postgres://x", "--listen", "[::]:0"];

    fn rules(more: &[&str]) -> Rules {
        Rules::new(&Config::for_tests(&[PIN, more].concat()))
    }

    #[test]
    fn open_lets_everything_pass_that_pin_refuses() {
        let (open, pin) = (rules(&["--identity-policy", "open"]), rules(&[]));
        for rules in [&open, &pin] {
            let outcomes = [
                rules.peer(&Str::from("a b"), "").is_ok(),
                rules.peer(&Str::from(""), "").is_ok(),
                rules.peer(&Str::from("x".repeat(65)), "").is_ok(),
                rules.id(&Str::from("a\nb"), "").is_ok(),
                rules.id(&Str::from("a\u{85}b"), "").is_ok(),
                rules.id(&Str::from("é".repeat(257)), "").is_ok(),
                rules.ts(0.5, "").is_ok(),
                rules.ts(-1.0, "").is_ok(),
                rules.ts(9_007_199_254_740_992.0, "").is_ok(),
                rules.ttl(0.0, "").is_ok(),
                rules.payload(&Str::from("YQ")).is_ok(),
                rules.payload(&Str::from("YR==")).is_ok(),
                rules.payload(&Str::from("YWJj YWJj")).is_ok(),
            ];
            let expected = [rules.open(); 13];
            // Unpadded text of the url-safe alphabet is what some encoders write.
            let lenient: Vec<usize> = (0..13).filter(|&at| outcomes[at] != expected[at]).collect();
            assert!(lenient.is_empty() || lenient == [10], "{lenient:?}");
        }
    }

    #[test]
    fn what_honest_clients_send_passes_everywhere() {
        for policy in ["open", "pin", "strict"] {
            let rules = rules(&["--identity-policy", policy]);
            rules.peer(&Str::from("noCdjVyGSOqczpHvWHv3RroVG70EZ44T"), "").unwrap();
            rules.id(&Str::from("group:1741590002123456"), "").unwrap();
            rules.id(&Str::from("мж😀é"), "").unwrap();
            rules.ts(1_741_590_002_123.0, "").unwrap();
            rules.ttl(86_400.0, "").unwrap();
            rules.payload(&Str::from("eyJpZCI6IngifQ==")).unwrap();
            rules.payload(&Str::from("-__-_w==")).unwrap();
        }
    }

    #[test]
    fn strictness_can_be_chosen_one_by_one() {
        let strict = rules(&["--identity-policy", "strict", "--signed-fetch", "false"]);
        assert!(!strict.signed_fetch && strict.claim_by_members && strict.members_monotonic);
        assert!(strict.payload(&Str::from("-__-_w")).is_err());
        assert!(strict.skew(0.0, 600_001).is_err() && strict.skew(0.0, 600_000).is_ok());
        let pin = rules(&["--clock-skew", "1s"]);
        assert!(pin.skew(0.0, 1_001).is_err() && !pin.signed_fetch);
        assert!(rules(&[]).skew(0.0, i64::MAX).is_ok());
        assert!(rules(&[]).read_skew(0.0, 600_001).is_err());
    }

    #[test]
    fn only_open_computes_with_negative_limits() {
        assert_eq!(rules(&["--identity-policy", "open"]).limit(-2), FetchLimit::AllBut(2));
        assert_eq!(rules(&[]).limit(-2), FetchLimit::Most(50));
        assert_eq!(rules(&[]).limit(7), FetchLimit::Most(7));
    }
}
