//! What is posted: read inside a limit and a deadline, and only from our own pages where a token
//! stands in the path.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, ORIGIN};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

/// Longest form.
pub(super) const FORM_BYTES: usize = 64 << 10;
/// How long a body may take to arrive.
const DEADLINE: Duration = Duration::from_secs(10);
/// Fields of a form; more are not seen. Twenty peers have sixty.
const MOST_FIELDS: usize = 500;

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// Longer than allowed.
    TooLarge,
    /// Broken or late.
    Broken,
}

/// The whole body, at most `most` bytes.
pub(super) async fn read(body: Incoming, most: usize) -> Result<Bytes, BodyError> {
    let whole = tokio::time::timeout(DEADLINE, Limited::new(body, most).collect()).await;
    match whole {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(why)) if why.is::<http_body_util::LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(_)) | Err(_) => Err(BodyError::Broken),
    }
}

/// The fields of a form, or of a query, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads `application/x-www-form-urlencoded`; anything is one.
    pub(super) fn parse(body: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(body).into_owned().take(MOST_FIELDS);
        // Postgres takes no NUL in a text, and no name or code has one.
        Self(pairs.filter(|(name, value)| !name.contains('\0') && !value.contains('\0')).collect())
    }

    /// The first value of a field.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first value of a field, empty without.
    pub(super) fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// Whether the field is there, with whatever value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

/// Whether a browser says that another site made this request.
///
/// The token in the path is the secret that counts; this is for a token that leaked. `Origin` is
/// `null` on our own forms, because the pages send no referrer.
pub(super) fn is_foreign(headers: &HeaderMap, public_url: &str) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return !matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let Some(origin) = headers.get(ORIGIN) else { return false };
    if origin.as_bytes() == b"null" {
        return false;
    }
    let Some((_, authority)) = origin.to_str().ok().and_then(|text| text.split_once("://")) else {
        return true;
    };
    let configured = public_url.split_once("://").map_or("", |(_, rest)| rest);
    let configured = configured.split('/').next().unwrap_or_default();
    // A browser sets Host itself: equal to Origin, the page came from where it posts to.
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    !authority.eq_ignore_ascii_case(configured) && !authority.eq_ignore_ascii_case(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_nul_is_not() {
        let form = Form::parse(b"a=1&b=x+y%21&a=2&c&d=%00&%66=g");
        assert_eq!(form.get("a"), Some("1"));
        assert_eq!(form.text("b"), "x y!");
        assert!(form.has("c") && !form.has("d"));
        assert_eq!(form.text("f"), "g");
        assert_eq!(Form::parse(&b"a&".repeat(10_000)).0.len(), MOST_FIELDS);
    }

    #[test]
    fn other_sites_are_told_apart() {
        let foreign = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            is_foreign(&headers, "https://book.example/base")
        };
        assert!(!foreign(&[]), "no browser");
        assert!(!foreign(&[("sec-fetch-site", "same-origin"), ("origin", "null")]));
        assert!(!foreign(&[("sec-fetch-site", "none")]));
        assert!(foreign(&[("sec-fetch-site", "cross-site"), ("origin", "https://book.example")]));
        assert!(foreign(&[("sec-fetch-site", "same-site")]));
        assert!(!foreign(&[("origin", "https://book.example")]));
        assert!(!foreign(&[("origin", "http://127.0.0.1:17777"), ("host", "127.0.0.1:17777")]));
        assert!(foreign(&[("origin", "https://evil.example"), ("host", "book.example")]));
        assert!(foreign(&[("origin", "garbage")]));
    }
}
