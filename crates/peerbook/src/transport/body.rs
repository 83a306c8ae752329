//! Request bodies: read once, inside a limit and a deadline.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

/// Longest body of any request but a support request, in bytes.
pub(crate) const BODY_MAX_BYTES: usize = 64 * 1024;
/// How long one may take to arrive.
const DEADLINE: Duration = Duration::from_secs(10);

/// The whole body; `None` when it is too long, too slow or broken.
pub(crate) async fn read(body: Incoming, max_bytes: usize) -> Option<Bytes> {
    let whole = timeout(DEADLINE, Limited::new(body, max_bytes).collect()).await;
    whole.ok()?.ok().map(http_body_util::Collected::to_bytes)
}
