//! A mail taken apart: headers and the two alternatives of its body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// One mail as it was delivered.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// Whether it came over TLS.
    pub tls: bool,
    /// Who had logged in.
    pub user: Option<String>,
    /// Everything between DATA and the dot, with the stuffed dots taken out.
    pub raw: Vec<u8>,
    root: Part,
}

impl Mail {
    pub(super) fn new(
        from: String,
        to: Vec<String>,
        tls: bool,
        user: Option<String>,
        raw: Vec<u8>,
    ) -> Self {
        let root = Part::parse(&raw);
        Self { from, to, tls, user, raw, root }
    }

    /// A header's value with its folds undone; empty when absent.
    pub fn header(&self, name: &str) -> &str {
        self.root.header(name)
    }

    /// The first part of this type, decoded; empty when there is none.
    pub fn body(&self, media_type: &str) -> String {
        let found = self.root.find(media_type).map(Part::decoded);
        String::from_utf8_lossy(&found.unwrap_or_default()).into_owned()
    }

    /// The plain text.
    pub fn text(&self) -> String {
        self.body("text/plain")
    }

    /// The HTML.
    pub fn html(&self) -> String {
        self.body("text/html")
    }

    /// The first link of the plain text; empty when there is none.
    pub fn link(&self) -> String {
        let text = self.text();
        let start = ["https://", "http://"].iter().filter_map(|scheme| text.find(scheme)).min();
        let link = start.map(|start| &text[start..]).unwrap_or_default();
        link.split(char::is_whitespace).next().unwrap_or_default().to_owned()
    }

    /// The path of [`Mail::link`].
    pub fn link_path(&self) -> String {
        let link = self.link();
        let behind = link.split_once("://").map(|(_, rest)| rest).unwrap_or_default();
        behind.find('/').map(|at| behind[at..].to_owned()).unwrap_or_default()
    }
}

/// One MIME entity (RFC 2045).
#[derive(Clone, Debug)]
struct Part {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    parts: Vec<Part>,
}

impl Part {
    fn parse(raw: &[u8]) -> Self {
        let end = find(raw, b"\r\n\r\n").map_or(raw.len(), |at| at + 2);
        let head = String::from_utf8_lossy(&raw[..end]).into_owned();
        let body = raw.get(end + 2..).unwrap_or_default().to_vec();
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in head.lines() {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = headers.last_mut() {
                    value.push(' ');
                    value.push_str(line.trim());
                }
            } else if let Some((name, value)) = line.split_once(':') {
                headers.push((name.to_owned(), value.trim().to_owned()));
            }
        }
        let mut part = Self { headers, body, parts: Vec::new() };
        if let Some(boundary) = part.boundary() {
            part.parts = split(&part.body, &boundary).iter().map(|raw| Self::parse(raw)).collect();
        }
        part
    }

    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    fn boundary(&self) -> Option<String> {
        let kind = self.header("Content-Type");
        kind.to_ascii_lowercase().starts_with("multipart/").then_some(())?;
        let at = kind.to_ascii_lowercase().find("boundary=")? + "boundary=".len();
        let value = &kind[at..];
        Some(match value.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next()?.to_owned(),
            None => value.split([';', ' ']).next()?.to_owned(),
        })
    }

    fn find(&self, media_type: &str) -> Option<&Self> {
        let own = self.header("Content-Type").to_ascii_lowercase();
        if self.parts.is_empty() && (own.starts_with(media_type) || own.is_empty()) {
            return Some(self);
        }
        self.parts.iter().find_map(|part| part.find(media_type))
    }

    fn decoded(&self) -> Vec<u8> {
        match self.header("Content-Transfer-Encoding").to_ascii_lowercase().as_str() {
            "quoted-printable" => quoted_printable(&self.body),
            "base64" => {
                let mut packed = self.body.clone();
                packed.retain(|byte| !byte.is_ascii_whitespace());
                STANDARD.decode(packed).unwrap_or_default()
            }
            _ => self.body.clone(),
        }
    }
}

/// What lies between the boundary's lines (RFC 2046 section 5.1.1).
fn split(body: &[u8], boundary: &str) -> Vec<Vec<u8>> {
    let line = format!("\r\n--{boundary}");
    let mut rest = [b"\r\n", body].concat();
    let mut parts = Vec::new();
    while let Some(at) = find(&rest, line.as_bytes()) {
        let behind = rest.split_off(at + line.len());
        if behind.starts_with(b"--") || behind.is_empty() {
            break;
        }
        let start = find(&behind, b"\r\n").map_or(behind.len(), |at| at + 2);
        // The end of this line may be the start of the next boundary's.
        let behind = behind[start.saturating_sub(2)..].to_vec();
        let end = find(&behind, line.as_bytes()).unwrap_or(behind.len());
        parts.push(behind.get(2..end.max(2)).unwrap_or_default().to_vec());
        rest = behind;
    }
    parts
}

/// Undoes RFC 2045 section 6.7.
fn quoted_printable(body: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'=' {
            decoded.push(*first);
        } else if let Some(tail) = rest.strip_prefix(b"\r\n") {
            rest = tail;
        } else if let Some(byte) = rest.get(..2).and_then(hex) {
            decoded.push(byte);
            rest = &rest[2..];
        } else {
            decoded.push(*first);
        }
    }
    decoded
}

fn hex(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}
