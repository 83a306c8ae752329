//! `GET /openapi.json`: the description of every endpoint, for people and generators.

use edge::Body;
use http::Response;

use super::respond;

const DOCUMENT: &str = include_str!("../../openapi.json");

/// The document, as it is in the source.
pub(super) fn document() -> Response<Body> {
    respond::json(DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::router;
    use super::DOCUMENT;
    use crate::error::Error;

    #[test]
    fn every_route_is_described_and_nothing_else_is() {
        let document: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                described.insert((path.as_str(), method.as_str()));
            }
        }
        let routed: BTreeSet<_> = router::documented().into_iter().collect();
        assert_eq!(described, routed);
    }

    #[test]
    fn every_error_a_client_can_get_is_among_the_examples() {
        let errors = [
            Error::NoBody,
            Error::BadSignature,
            Error::NotOwnKey,
            Error::Unauthenticated,
            Error::SenderNotMember,
            Error::RecipientsNotMembers(Vec::new()),
            Error::OwnerMismatch,
            Error::StaleUpdate,
            Error::ClaimByStranger,
            Error::BlobNotFound,
            Error::SessionNotFound,
            Error::TotalMismatch,
            Error::MissingChunks { expected: 2, received: 1 },
            Error::MissingChunk(1),
            Error::Busy,
            Error::Storage(pg::Error::Busy),
        ];
        for error in errors {
            assert!(DOCUMENT.contains(&format!("\"error\": \"{error}\"")), "{error}");
        }
    }
}
