//! Which handler a path and method reach.
//!
//! As the original: paths in any case, a slash at the end allowed, HEAD where GET is, OPTIONS
//! everywhere, and 404 for all else, a wrong method included.

use http::Method;

/// Longest fixed path, slash at the end included.
const FIXED_MAX: usize = 40;

/// Everything the relay answers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route<'p> {
    Health,
    Source,
    Capabilities,
    OpenApi,
    Probe,
    Store,
    GroupStore,
    MembersUpdate,
    Fetch,
    Stream,
    Ack,
    AckBatch,
    BlobUpload,
    BlobChunk,
    BlobChunkRaw,
    BlobComplete,
    /// The id as it stands in the path, escapes included.
    Blob(&'p str),
    /// As [`Route::Blob`].
    BlobRaw(&'p str),
}

/// What is at a path: a route per method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found<'p> {
    pub(crate) get: Option<Route<'p>>,
    pub(crate) post: Option<Route<'p>>,
    pub(crate) put: Option<Route<'p>>,
}

impl<'p> Found<'p> {
    /// The route of a method; HEAD takes GET's.
    pub(crate) fn method(self, method: &Method) -> Option<Route<'p>> {
        match *method {
            Method::GET | Method::HEAD => self.get,
            Method::POST => self.post,
            Method::PUT => self.put,
            _ => None,
        }
    }

    /// The value of an `Allow` header.
    pub(crate) fn allow(self) -> String {
        let names = [(self.get, "GET, HEAD"), (self.post, "POST"), (self.put, "PUT")];
        let names: Vec<_> =
            names.into_iter().filter_map(|(route, name)| route.map(|_| name)).collect();
        names.join(", ")
    }
}

/// The route of one method, if it has one.
type Handled = Option<Route<'static>>;

/// Every fixed path, in lower case, with its routes for GET, POST and PUT.
const FIXED: &[(&str, Handled, Handled, Handled)] = &[
    ("/relay/store", None, Some(Route::Store), None),
    ("/relay/fetch", Some(Route::Fetch), None, None),
    ("/relay/ack", None, Some(Route::Ack), None),
    ("/health", Some(Route::Health), None, None),
    ("/relay/probe", None, Some(Route::Probe), None),
    ("/relay/group/store", None, Some(Route::GroupStore), None),
    ("/relay/group/members/update", None, Some(Route::MembersUpdate), None),
    ("/relay/ack/batch", None, Some(Route::AckBatch), None),
    ("/relay/stream", Some(Route::Stream), None, None),
    ("/relay/blob/upload", Some(Route::Blob("upload")), Some(Route::BlobUpload), None),
    ("/relay/blob/upload/chunk", None, Some(Route::BlobChunk), Some(Route::BlobChunkRaw)),
    ("/relay/blob/upload/complete", None, Some(Route::BlobComplete), None),
    ("/relay/capabilities", Some(Route::Capabilities), None, None),
    ("/.well-known/peerlink-source", Some(Route::Source), None, None),
    ("/openapi.json", Some(Route::OpenApi), None, None),
];

/// What is at `path`, if anything.
pub(crate) fn find(path: &str) -> Option<Found<'_>> {
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    if trimmed.len() <= FIXED_MAX
        && let Some((_, get, post, put)) =
            FIXED.iter().find(|(fixed, ..)| fixed.eq_ignore_ascii_case(trimmed))
    {
        return Some(Found { get: *get, post: *post, put: *put });
    }
    let prefix = trimmed.get(..12).filter(|start| start.eq_ignore_ascii_case("/relay/blob/"))?;
    let rest = &trimmed[prefix.len()..];
    let get = match rest.split_once('/') {
        None => Route::Blob(rest),
        Some((id, raw)) if raw.eq_ignore_ascii_case("raw") => Route::BlobRaw(id),
        Some(_) => return None,
    };
    let named = match get {
        Route::Blob(id) | Route::BlobRaw(id) => !id.is_empty(),
        _ => true,
    };
    named.then_some(Found { get: Some(get), post: None, put: None })
}

/// Every fixed path, and the patterns of the others, with the methods they take; what the
/// OpenAPI document has to describe.
#[cfg(test)]
pub(crate) fn documented() -> Vec<(&'static str, &'static str)> {
    let methods = FIXED.iter().flat_map(|(path, get, post, put)| {
        let get = get.filter(|route| !matches!(route, Route::Blob(_)));
        [(get, "get"), (*post, "post"), (*put, "put")]
            .into_iter()
            .filter_map(|(route, method)| route.map(|_| (*path, method)))
    });
    methods.chain([("/relay/blob/{id}", "get"), ("/relay/blob/{id}/raw", "get")]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str) -> Option<Route<'_>> {
        find(path)?.method(&Method::GET)
    }

    #[test]
    fn case_and_a_last_slash_do_not_matter_but_doubled_slashes_do() {
        assert_eq!(get("/HEALTH/"), Some(Route::Health));
        assert_eq!(get("//health"), None);
        assert_eq!(get("/health//"), None);
        assert_eq!(get("/"), None);
    }

    #[test]
    fn a_wrong_method_finds_nothing_and_head_is_get() {
        assert_eq!(find("/health").unwrap().method(&Method::POST), None);
        assert_eq!(find("/health").unwrap().method(&Method::HEAD), Some(Route::Health));
        assert_eq!(find("/relay/store").unwrap().allow(), "POST");
        assert_eq!(find("/health").unwrap().allow(), "GET, HEAD");
    }

    #[test]
    fn blob_ids_are_one_segment() {
        assert_eq!(get("/relay/blob/a%2Fb"), Some(Route::Blob("a%2Fb")));
        assert_eq!(get("/Relay/Blob/A/RAW"), Some(Route::BlobRaw("A")));
        assert_eq!(get("/relay/blob/"), None);
        assert_eq!(get("/relay/blob"), None);
        assert_eq!(get("/relay/blob/a/b"), None);
        assert_eq!(get("/relay/blob//raw"), None);
        assert_eq!(get("/relay/blob/upload"), Some(Route::Blob("upload")));
        assert_eq!(get("/relay/blob/é"), Some(Route::Blob("é")));
    }
}
