//! `/demo`: a page that shows what the client does, two people's chat and files without a server
//! in between.

use super::client::File;

/// Only this node's files run; nodes are other origins. Everything else comes from nowhere.
const POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; worker-src 'self'; \
    connect-src 'self' https: http://127.0.0.1:* http://localhost:*; img-src data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static FILES: [File; 2] = [
    File {
        path: "/demo",
        kind: "text/html; charset=utf-8",
        bytes: include_bytes!("../../client/demo.html"),
        policy: POLICY,
    },
    File {
        path: "/demo.css",
        kind: "text/css; charset=utf-8",
        bytes: include_bytes!("../../client/demo.css"),
        policy: POLICY,
    },
];

/// The page and its style sheet; its script is among the client's.
pub(super) fn files() -> &'static [File] {
    &FILES
}
