//! User certificates: text that the owner of a secret vouches for.
//!
//! ```text
//! certificate = base64(HMAC-SHA256(secret, content)) LF content
//! ```
//! The secret is a file's bytes, of any length. The content is everything behind the first LF, a
//! trailing newline included.

use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{
    DecodePaddingMode,
    general_purpose::{GeneralPurpose, GeneralPurposeConfig},
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of an HMAC-SHA256.
const HASH_BYTES: usize = 32;
/// Characters of one in base64.
const HASH_TEXT: usize = HASH_BYTES.div_ceil(3) * 4;

/// Padding has to be there; stray bits in the last character are taken, as the originals do.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Why a certificate is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no LF, or what stands before it is not 32 bytes in base64.
    #[error("not a certificate")]
    Malformed,
    /// Made with another secret, or changed since.
    #[error("wrong signature")]
    Signature,
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// A line says when it expires in a way nobody understands.
    #[error("unreadable expiry")]
    Expiry,
}

/// The certificate of `content`.
pub fn issue(secret: &[u8], content: &[u8]) -> Vec<u8> {
    let hash = mac(secret, content).finalize().into_bytes();
    let mut certificate = Vec::with_capacity(HASH_TEXT + 1 + content.len());
    crate::base64::encode(&hash, &mut certificate);
    certificate.push(b'\n');
    certificate.extend_from_slice(content);
    certificate
}

/// The content of `certificate`, when it was made with `secret`. Compares in constant time.
///
/// # Errors
/// [`Refused::Malformed`] or [`Refused::Signature`].
pub fn verify<'a>(secret: &[u8], certificate: &'a [u8]) -> Result<&'a [u8], Refused> {
    let end = memchr::memchr(b'\n', certificate).ok_or(Refused::Malformed)?;
    let (text, content) = (&certificate[..end], &certificate[end + 1..]);
    // One group more than fits, so that a longer text is refused and not cut.
    let mut hash = [0; HASH_BYTES + 4];
    let decoded = BASE64.decode_slice(text, &mut hash).map_err(|_| Refused::Malformed)?;
    if decoded != HASH_BYTES {
        return Err(Refused::Malformed);
    }
    let matches = mac(secret, content).verify_slice(&hash[..HASH_BYTES]);
    matches.map(|()| content).map_err(|_| Refused::Signature)
}

/// Checks the lines `expires=` or `expire=` of a verified content against `now_ms`, milliseconds
/// since the epoch. Without such a line nothing expires; of several each has to hold.
///
/// The value is a time in seconds since the epoch, from which on the certificate is refused, or
/// eight digits `YYYYMMDD`, the last day (UTC) on which it is taken.
///
/// # Errors
/// [`Refused::Expired`], or [`Refused::Expiry`] for a value that is neither.
pub fn check_expiry(content: &[u8], now_ms: i64) -> Result<(), Refused> {
    for line in content.split(|byte| *byte == b'\n') {
        let Some(equals) = memchr::memchr(b'=', line) else { continue };
        if !matches!(line[..equals].trim_ascii(), b"expires" | b"expire") {
            continue;
        }
        let end_s = end_of(line[equals + 1..].trim_ascii()).ok_or(Refused::Expiry)?;
        if now_ms.div_euclid(1_000) >= end_s {
            return Err(Refused::Expired);
        }
    }
    Ok(())
}

/// The first second at which a certificate with this value is refused.
fn end_of(value: &[u8]) -> Option<i64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: i64 = str::from_utf8(value).ok()?.parse().ok()?;
    if value.len() != 8 {
        return Some(number);
    }
    let (year, month, day) = (number / 10_000, number / 100 % 100, number % 100);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    let valid = (1..=days).contains(&day);
    valid.then(|| (days_from_epoch(year, month, day) + 1) * 86_400)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, counted in years that begin in March.
fn days_from_epoch(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

fn mac(secret: &[u8], content: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(content);
    mac
}
