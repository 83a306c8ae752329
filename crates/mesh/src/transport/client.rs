//! What browsers load: the client as ES modules, its miner, its types, and the demo's files.

use std::sync::LazyLock;

use edge::Body;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, Response, StatusCode};
use proto::mesh::hex;
use sha2::{Digest as _, Sha256};

use super::respond;

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// For scripts that run on their own, as workers do: they load their own parts and the miner.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'";

/// Something that is the same for everybody.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: &'static str,
    pub(super) kind: &'static str,
    pub(super) bytes: &'static [u8],
    pub(super) policy: &'static str,
}

macro_rules! script {
    ($path:literal) => {
        File {
            path: $path,
            kind: SCRIPT,
            bytes: include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/client", $path)),
            policy: POLICY,
        }
    };
}

static FILES: [File; 17] = [
    script!("/client.js"),
    script!("/client/dht.js"),
    script!("/client/events.js"),
    script!("/client/join.js"),
    script!("/client/line.js"),
    script!("/client/mesh.js"),
    script!("/client/peer.js"),
    script!("/client/pow.js"),
    script!("/client/seal.js"),
    script!("/client/search.js"),
    script!("/client/sha256.js"),
    script!("/client/stream.js"),
    script!("/client/transfer.js"),
    script!("/client/worker.js"),
    script!("/demo.js"),
    File {
        path: "/client.d.ts",
        kind: "application/typescript; charset=utf-8",
        bytes: include_bytes!("../../client/client.d.ts"),
        policy: POLICY,
    },
    File {
        path: "/client/miner.wasm",
        kind: "application/wasm",
        bytes: include_bytes!(concat!(env!("OUT_DIR"), "/miner.wasm")),
        policy: POLICY,
    },
];

/// The file of a path.
pub(super) fn find(path: &str) -> Option<&'static File> {
    FILES.iter().chain(super::demo::files()).find(|file| file.path == path)
}

/// One tag for all files: those of one version belong together.
static TAG: LazyLock<HeaderValue> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for file in FILES.iter().chain(super::demo::files()) {
        hash.update(file.bytes);
    }
    let tag = format!("\"{}\"", hex(&hash.finalize()[..12]));
    HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\""))
});

/// A file, or that the one the client has is still good.
pub(super) fn send(file: &'static File, asked: &HeaderMap) -> Response<Body> {
    let known = asked.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok()).unwrap_or_default();
    let same = known
        .split(',')
        .any(|tag| tag.trim().trim_start_matches("W/").as_bytes() == TAG.as_bytes());
    let mut response = match same {
        true => respond::bare(StatusCode::NOT_MODIFIED),
        false => Response::new(Body::from(bytes::Bytes::from_static(file.bytes))),
    };
    let headers = response.headers_mut();
    headers.insert(ETAG, TAG.clone());
    // Asked for again each time, answered with 304: scripts of two versions never meet.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.kind));
    headers.insert("content-security-policy", HeaderValue::from_static(file.policy));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("cross-origin"));
    response
}
