//! JSON, HTML or an event stream: what the client would rather have.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, Method};

use super::query::Query;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Html,
    /// Only for a room.
    Events,
}

/// The first rule that fits: `?format=`, the type the request says it has, the accepted type of
/// the highest quality, and then HTML, or the stream where there is one.
pub(crate) fn format(parts: &Parts, query: &Query) -> Format {
    let is_room = parts.method == Method::GET && parts.uri.path().starts_with("/room/");
    match query.get("format") {
        Some("json") => return Format::Json,
        Some("html") => return Format::Html,
        _ => {}
    }
    if says_json(&parts.headers) {
        return Format::Json;
    }
    let mut best: Option<(u16, Format)> = None;
    for value in parts.headers.get_all(ACCEPT) {
        for offer in value.to_str().unwrap_or_default().split(',') {
            let (kind, quality) = read(offer);
            let format = match kind.to_ascii_lowercase().as_str() {
                "application/json" => Format::Json,
                "text/html" => Format::Html,
                "text/event-stream" if is_room => Format::Events,
                _ => continue,
            };
            if quality > 0 && best.is_none_or(|(known, _)| quality > known) {
                best = Some((quality, format));
            }
        }
    }
    let otherwise = if is_room { Format::Events } else { Format::Html };
    best.map_or(otherwise, |(_, format)| format)
}

fn says_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let kind = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    matches!(kind.as_str(), "application/json" | "text/json" | "json") || kind.ends_with("+json")
}

/// A type and its quality in thousandths.
fn read(offer: &str) -> (&str, u16) {
    let mut parts = offer.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default();
    let quality = parts.find_map(|part| part.strip_prefix("q=")).map_or(1000, |text| {
        let number: f32 = text.trim().parse().unwrap_or(0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let thousandths = (number.clamp(0.0, 1.0) * 1000.0) as u16;
        thousandths
    });
    (kind, quality)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn of(path: &str, headers: &[(&str, &str)]) -> Format {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let query = Query::new(parts.uri.query().unwrap_or_default());
        format(&parts, &query)
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let room = "/room/00";
        type Row = (&'static [(&'static str, &'static str)], Format, Format);
        let rows: [Row; 9] = [
            (&[], Format::Html, Format::Events),
            (&[("accept", "*/*")], Format::Html, Format::Events),
            (&[("accept", "application/json")], Format::Json, Format::Json),
            (&[("accept", "text/html,application/xhtml+xml")], Format::Html, Format::Html),
            (&[("accept", "text/event-stream")], Format::Html, Format::Events),
            (&[("accept", "text/html;q=0.5, application/json")], Format::Json, Format::Json),
            (&[("accept", "application/json;q=0, text/html;q=0.1")], Format::Html, Format::Html),
            (&[("content-type", "json")], Format::Json, Format::Json),
            (&[("content-type", "application/ld+json; a=b")], Format::Json, Format::Json),
        ];
        for (headers, plain, of_room) in rows {
            assert_eq!((of("/", headers), of(room, headers)), (plain, of_room), "{headers:?}");
        }
        assert_eq!(of("/?format=json", &[("accept", "text/html")]), Format::Json);
        assert_eq!(of("/room/00?format=html", &[("content-type", "json")]), Format::Html);
    }
}
