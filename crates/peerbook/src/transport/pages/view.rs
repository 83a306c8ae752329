//! What the templates show.

use askama::Template;
use qrcode::{Color, EcLevel, QrCode};

use super::answer::STYLE;
use crate::domain::book::Listed;

/// A peer as a page shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PeerView {
    pub(super) fp: String,
    /// The fingerprint in groups of four, for eyes.
    pub(super) print: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) online: bool,
    pub(super) proven: bool,
    /// When it asked, or was let in and last seen.
    pub(super) since: String,
    /// Whether an approved peer has this name and another fingerprint.
    pub(super) clash: bool,
}

impl PeerView {
    /// `listed` among `all` of its user, at `now_s`.
    pub(super) fn new(listed: &Listed, all: &[Listed], now_s: i64) -> Self {
        let Listed { peer, online, waiting, .. } = listed;
        let named = !peer.name.is_empty();
        let others = || all.iter().filter(|one| one.peer.verified && one.peer.fp != peer.fp);
        let clash = named && !peer.verified && others().any(|o| alike(&o.peer.name, &peer.name));
        let since = if !peer.verified {
            ago(peer.created_on, now_s)
        } else {
            match peer.last_seen {
                _ if *online => "Connected now".to_owned(),
                Some(at) => format!("Last seen {}", ago(at, now_s)),
                None => "Never connected".to_owned(),
            }
        };
        Self {
            fp: peer.fp.as_str().to_owned(),
            print: groups(peer.fp.as_str()),
            name: if named { readable(&peer.name) } else { "Unnamed device".to_owned() },
            kind: readable(&peer.kind),
            online: *online || *waiting,
            proven: peer.proven_on.is_some(),
            since,
            clash,
        }
    }
}

/// Names that look the same to a hurried eye.
fn alike(a: &str, b: &str) -> bool {
    readable(a).trim().to_lowercase() == readable(b).trim().to_lowercase()
}

/// Without what is invisible or turns the direction of the text around it.
fn readable(name: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{ad}')
    };
    name.chars().filter(|c| !hidden(*c)).collect()
}

fn groups(fp: &str) -> String {
    let shown = readable(fp);
    let mut text = String::with_capacity(shown.len() * 5 / 4);
    for (place, letter) in shown.chars().enumerate() {
        if place > 0 && place % 4 == 0 {
            text.push(' ');
        }
        text.push(letter);
    }
    text
}

fn ago(then_s: i64, now_s: i64) -> String {
    let passed = now_s.saturating_sub(then_s).max(0);
    let (count, unit) = match passed {
        0..60 => return "just now".to_owned(),
        60..3_600 => (passed / 60, "minute"),
        3_600..86_400 => (passed / 3_600, "hour"),
        _ => (passed / 86_400, "day"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural} ago")
}

/// `/`
#[derive(Template)]
#[template(path = "home.html")]
pub(super) struct Home<'a> {
    pub(super) style: &'static str,
    pub(super) message: Option<&'a str>,
    pub(super) bad: bool,
    pub(super) minutes: u64,
}

/// A page that says one thing.
#[derive(Template)]
#[template(path = "message.html")]
pub(super) struct Message<'a> {
    pub(super) style: &'static str,
    pub(super) title: &'a str,
    pub(super) text: &'a str,
    /// Where to go from here.
    pub(super) link: Option<(&'a str, &'a str)>,
}

impl<'a> Message<'a> {
    /// `title`, `text`, and where to go next.
    pub(super) fn new(title: &'a str, text: &'a str, link: Option<(&'a str, &'a str)>) -> Self {
        Self { style: STYLE, title, text, link }
    }
}

/// One choice of a user's policy.
pub(super) struct PolicyView {
    pub(super) value: &'static str,
    pub(super) label: &'static str,
    pub(super) chosen: bool,
}

/// `/pb/T` and `/auth/T`
#[derive(Template)]
#[template(path = "review.html")]
pub(super) struct Review<'a> {
    pub(super) style: &'static str,
    pub(super) email: &'a str,
    pub(super) token: &'a str,
    pub(super) message: Option<&'a str>,
    pub(super) bad: bool,
    pub(super) waiting: Vec<PeerView>,
    pub(super) peers: Vec<PeerView>,
    pub(super) blocked: Vec<PeerView>,
    pub(super) enrolled: bool,
    pub(super) policies: Vec<PolicyView>,
    pub(super) minutes: u64,
}

/// `/qr/T`
#[derive(Template)]
#[template(path = "enrol.html")]
pub(super) struct Enrol<'a> {
    pub(super) style: &'static str,
    pub(super) email: &'a str,
    pub(super) token: &'a str,
    pub(super) message: Option<&'a str>,
    pub(super) qr: String,
    pub(super) uri: &'a str,
    pub(super) secret: String,
}

/// `/verify/T`
#[derive(Template)]
#[template(path = "verify.html")]
pub(super) struct Verify<'a> {
    pub(super) style: &'static str,
    pub(super) email: &'a str,
    pub(super) token: &'a str,
    pub(super) peer: PeerView,
}

/// The text as a QR code: one path of an SVG, black on white in every theme.
pub(super) fn qr(text: &str) -> String {
    let Ok(code) = QrCode::with_error_correction_level(text, EcLevel::M) else {
        return String::new(); // longer than any; the key stands beside it
    };
    let width = code.width();
    let mut path = String::new();
    for (place, color) in code.to_colors().into_iter().enumerate() {
        if color == Color::Dark {
            path.push_str(&format!("M{} {}h1v1h-1z", place % width, place / width));
        }
    }
    format!(
        "<svg viewBox=\"0 0 {width} {width}\" role=\"img\" aria-label=\"QR code for an authenticator app\" \
         shape-rendering=\"crispEdges\"><rect width=\"{width}\" height=\"{width}\" fill=\"#fff\"/>\
         <path fill=\"#000\" d=\"{path}\"/></svg>"
    )
}

/// A key in groups of four, to be typed.
pub(super) fn secret(base32: &str) -> String {
    groups(base32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_do() {
        let said = |passed: i64| ago(1_000_000 - passed, 1_000_000);
        assert_eq!(said(-5), "just now");
        assert_eq!(said(59), "just now");
        assert_eq!(said(60), "1 minute ago");
        assert_eq!(said(7_300), "2 hours ago");
        assert_eq!(said(86_400), "1 day ago");
    }

    #[test]
    fn invisible_letters_make_no_other_name() {
        assert!(alike("Laptop", "lap\u{200b}top "));
        assert_eq!(readable("a\u{202e}b\nc"), "abc");
        assert_eq!(groups("ABCDEFGHI"), "ABCD EFGH I");
    }

    #[test]
    fn a_qr_code_is_square_and_has_its_three_eyes() {
        let svg = qr("otpauth://totp/PeerBook:a%40b?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        for eye in ["M0 0h1", "M6 6h1"] {
            assert!(svg.contains(eye), "{eye} in {svg}");
        }
        assert!(!svg.contains("M7 7h1v1h-1zM"), "a separator is light");
    }
}
