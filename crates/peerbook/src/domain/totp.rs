//! One-time passwords (RFC 6238): SHA-1, six digits, 30 seconds, one step of drift either way.
//!
//! A code is good once: the step it belongs to and all before it are then refused. Five wrong
//! codes in a row lock the place they were entered at for five minutes, the next five for ten, up
//! to a day. Places are locked one by one, so nobody who may only try `/login` locks the page.

use hmac::{Hmac, KeyInit, Mac};
use service::Clock;
use sha1::Sha1;
use sqlx::PgPool;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::store::totp::{self, SECRET_BYTES};

/// Length of a step.
const PERIOD_S: i64 = 30;
/// Steps a clock may be off.
const DRIFT: i64 = 1;
const DIGITS: u32 = 6;

/// Where a code is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A page behind a mailed link.
    Page,
    /// `/login`, open to anybody.
    Login,
    /// A command of a connected peer.
    #[cfg_attr(not(feature = "webrtc"), expect(dead_code, reason = "of data channels only"))]
    Command,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Login => "login",
            Self::Command => "command",
        }
    }
}

/// What became of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Right, and now used.
    Right,
    /// Wrong, used before, or no code at all.
    Wrong,
    /// Too many were wrong; this one was not looked at.
    Locked,
    /// The user has no authenticator.
    NotEnrolled,
}

/// Checks codes and enrols authenticators.
#[derive(Clone, Debug)]
pub(crate) struct Authenticators {
    pool: PgPool,
    clock: Clock,
}

impl Authenticators {
    /// All users' authenticators in `pool`.
    pub(crate) fn new(pool: PgPool, clock: Clock) -> Self {
        Self { pool, clock }
    }

    /// Whether the user has to enter codes.
    pub(crate) async fn is_enrolled(&self, uid: &str) -> Result<bool, pg::Error> {
        Ok(totp::find(&self.pool, uid).await?.is_some_and(|held| held.confirmed))
    }

    /// Judges a code of an enrolled user.
    pub(crate) async fn check(
        &self,
        uid: &str,
        place: Place,
        code: &str,
    ) -> Result<Verdict, pg::Error> {
        match totp::find(&self.pool, uid).await? {
            Some(held) if held.confirmed => self.judge(uid, place, code, &held).await,
            _ => Ok(Verdict::NotEnrolled),
        }
    }

    /// Judges the first code of an offered authenticator; a right one enrols it.
    pub(crate) async fn confirm(&self, uid: &str, code: &str) -> Result<Verdict, pg::Error> {
        match totp::find(&self.pool, uid).await? {
            Some(held) => self.judge(uid, Place::Page, code, &held).await,
            None => Ok(Verdict::NotEnrolled),
        }
    }

    async fn judge(
        &self,
        uid: &str,
        place: Place,
        code: &str,
        held: &totp::Authenticator,
    ) -> Result<Verdict, pg::Error> {
        let Some(digits) = parse(code) else { return Ok(Verdict::Wrong) };
        if !totp::attempt(&self.pool, uid, place.name()).await? {
            return Ok(Verdict::Locked);
        }
        let step = self.clock.now_ms().div_euclid(1_000 * PERIOD_S);
        let Some(used) = matching_step(&held.secret, digits, step) else {
            return Ok(Verdict::Wrong);
        };
        if !totp::take(&self.pool, uid, used).await? {
            return Ok(Verdict::Wrong);
        }
        totp::forgive(&self.pool, uid, place.name()).await?;
        Ok(Verdict::Right)
    }

    /// The secret a user without an authenticator is to scan, the same until it is confirmed;
    /// `None` once it is.
    pub(crate) async fn offer(&self, uid: &str) -> Result<Option<Secret>, pg::Error> {
        let fresh = rand::random::<[u8; SECRET_BYTES]>();
        let held = totp::offer(&self.pool, uid, &fresh).await?;
        Ok((!held.confirmed).then_some(Secret(held.secret)))
    }

    /// Ends the asking for codes.
    pub(crate) async fn remove(&self, uid: &str) -> Result<(), pg::Error> {
        totp::remove(&self.pool, uid).await
    }
}

/// A secret, on its way to the authenticator.
pub(crate) struct Secret([u8; SECRET_BYTES]);

impl Secret {
    /// In base32 (RFC 4648), 32 characters; 20 bytes need no padding.
    pub(crate) fn base32(&self) -> String {
        const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let mut text = String::with_capacity(32);
        for group in self.0.chunks_exact(5) {
            let bits = group.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
            for place in (0..8).rev() {
                text.push(char::from(
                    ALPHABET[usize::try_from(bits >> (5 * place) & 31).unwrap_or(0)],
                ));
            }
        }
        text
    }

    /// What a QR code of it says (the otpauth key URI of authenticator apps).
    pub(crate) fn uri(&self, email: &str) -> String {
        let account: String = form_urlencoded::byte_serialize(email.as_bytes()).collect();
        // In a path a blank is %20; `byte_serialize` writes it as in a form.
        let account = account.replace('+', "%20");
        let secret = self.base32();
        format!(
            "otpauth://totp/PeerBook:{account}?algorithm=SHA1&digits=6&secret={secret}&issuer=PeerBook&period=30"
        )
    }
}

/// Six digits, with blanks where people put them.
fn parse(code: &str) -> Option<u32> {
    let code = code.trim();
    if code.len() > 16 {
        return None;
    }
    let digits: String = code.chars().filter(|c| *c != ' ').collect();
    let plain = digits.len() == 6 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

/// The step near `now` whose code this is. Takes as long whichever it is, or none.
fn matching_step(secret: &[u8], code: u32, now: i64) -> Option<i64> {
    let mut found = 0_i64;
    let mut any = Choice::from(0);
    for step in now - DRIFT..=now + DRIFT {
        let same = code_at(secret, step).ct_eq(&code);
        found.conditional_assign(&step, same);
        any |= same;
    }
    bool::from(any).then_some(found)
}

/// RFC 4226, section 5.3.
fn code_at(secret: &[u8], step: i64) -> u32 {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(&step.to_be_bytes());
    let hash = mac.finalize().into_bytes();
    let offset = usize::from(hash[hash.len() - 1] & 15);
    let word =
        u32::from_be_bytes([hash[offset], hash[offset + 1], hash[offset + 2], hash[offset + 3]]);
    (word & 0x7fff_ffff) % 10_u32.pow(DIGITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B, the last six of its eight digits.
    #[test]
    fn codes_are_those_of_the_rfc() {
        let secret = b"12345678901234567890";
        for (time, code) in [
            (59, 287_082),
            (1_111_111_109, 81_804),
            (1_111_111_111, 50_471),
            (1_234_567_890, 5_924),
            (2_000_000_000, 279_037),
            (20_000_000_000, 353_130),
        ] {
            assert_eq!(code_at(secret, time / PERIOD_S), code, "{time}");
        }
    }

    #[test]
    fn a_step_of_drift_is_accepted_and_two_are_not() {
        let secret = b"12345678901234567890";
        let step = 1_111_111_109 / PERIOD_S;
        for drift in -1..=1 {
            assert_eq!(
                matching_step(secret, code_at(secret, step + drift), step),
                Some(step + drift)
            );
        }
        assert_eq!(matching_step(secret, code_at(secret, step + 2), step), None);
        assert_eq!(matching_step(secret, code_at(secret, step - 2), step), None);
    }

    #[test]
    fn six_digits_are_a_code_and_nothing_else_is() {
        assert_eq!(parse("012345"), Some(12_345));
        assert_eq!(parse(" 012 345 "), Some(12_345));
        for wrong in
            ["", "12345", "1234567", "12345a", "-12345", "+12345", "１２３４５６", "      "]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_uri_is_what_the_original_shows() {
        let secret = Secret(*b"12345678901234567890");
        assert_eq!(secret.base32(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(
            secret.uri("a b@example.org"),
            "otpauth://totp/PeerBook:a%20b%40example.org?algorithm=SHA1&digits=6\
             &secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=PeerBook&period=30"
        );
    }
}
