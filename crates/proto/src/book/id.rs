//! Names of things: a value of one of these types can be stored and shown.

use std::fmt;

macro_rules! text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

text! {
    /// What a peer is known by: the SHA-256 of its DTLS certificate as 64 upper-case hexadecimal
    /// digits, or any other string an app has chosen. Case matters.
    ///
    /// Invariant: 1 to 128 bytes of UTF-8 without control characters.
    Fingerprint
}

text! {
    /// A user's mail address.
    ///
    /// Invariant: at most 254 bytes; one `@` with something on both sides; no blanks, control
    /// characters, quotes, angle brackets, commas or the like.
    Email
}

text! {
    /// What a peer is called. May be empty.
    ///
    /// Invariant: at most 64 characters (256 bytes) without control characters.
    Name
}

text! {
    /// A peer's kind, such as `webexec` or `terminal7`. May be empty.
    ///
    /// Invariant: at most 16 characters (64 bytes) without control characters.
    Label
}

impl Fingerprint {
    /// `None` when the text is empty, too long or holds control characters.
    pub fn new(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= 128;
        (fits && !text.chars().any(char::is_control)).then(|| Self(text.to_owned()))
    }

    /// The SHA-256 it stands for, if it is written as one: 64 hexadecimal digits, colons allowed.
    pub fn digest(&self) -> Option<[u8; 32]> {
        hex(self.0.as_bytes())
    }
}

/// 32 bytes in hexadecimal, colons left out.
pub(super) fn hex(text: &[u8]) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let mut digits = text.iter().filter(|byte| **byte != b':');
    for byte in &mut digest {
        let mut digit = || char::from(*digits.next()?).to_digit(16);
        *byte = u8::try_from(digit()? << 4 | digit()?).ok()?;
    }
    digits.next().is_none().then_some(digest)
}

impl Email {
    /// `None` when this cannot be an address, or not one we would send mail to.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        let (local, host) = text.split_once('@')?;
        let allowed =
            |c: char| !c.is_whitespace() && !c.is_control() && !"<>()[],;:\\\"@".contains(c);
        let whole = !local.is_empty() && !host.is_empty() && text.len() <= 254;
        let sound = local.chars().all(allowed) && host.chars().all(allowed);
        (whole && sound && !host.starts_with(['.', '-'])).then(|| Self(text.to_owned()))
    }

    /// What two spellings of one address have in common.
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl Name {
    /// The text without control characters and blanks around it, cut to 64 characters.
    pub fn lenient(text: &str) -> Self {
        Self(clean(text, 64))
    }
}

impl Label {
    /// The text without control characters and blanks around it, cut to 16 characters.
    pub fn lenient(text: &str) -> Self {
        Self(clean(text, 16))
    }
}

fn clean(text: &str, max: usize) -> String {
    // Marks that turn the direction of writing can make one name look like another.
    let is_marker = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let kept = text.trim().chars().filter(|c| !c.is_control() && !is_marker(*c));
    kept.take(max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_opaque_but_bounded() {
        assert!(Fingerprint::new("A").is_some());
        assert!(Fingerprint::new(&"x".repeat(128)).is_some());
        for wrong in ["", "a\0b", "a\nb", &"x".repeat(129)] {
            assert!(Fingerprint::new(wrong).is_none(), "{wrong:?}");
        }
        assert_eq!(Fingerprint::new(&"aB".repeat(32)).unwrap().digest(), Some([0xab; 32]));
        assert_eq!(Fingerprint::new("A").unwrap().digest(), None);
        assert_eq!(Fingerprint::new(&"ab".repeat(33)).unwrap().digest(), None);
    }

    #[test]
    fn addresses_that_could_smuggle_a_header_or_a_second_recipient_are_refused() {
        for right in ["j@nowhere.org", "a.b+c@example.org", "J@Nowhere.ORG"] {
            assert!(Email::new(right).is_some(), "{right}");
        }
        for wrong in ["", "@", "a@", "@b", "a b@c", "a@b\r\nBcc: x@y", "a@b,c@d", "<a@b>", "a@@b"] {
            assert!(Email::new(wrong).is_none(), "{wrong}");
        }
        assert_eq!(Email::new("J@Nowhere.ORG").unwrap().key(), "j@nowhere.org");
    }

    #[test]
    fn names_are_cut_and_cleaned() {
        assert_eq!(Name::lenient(" a\u{0}\u{202e}b ").as_str(), "ab");
        assert_eq!(Name::lenient(&"é".repeat(100)).as_str().chars().count(), 64);
    }
}
