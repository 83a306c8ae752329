//! Request bodies: a kilobyte, in bounded time.

use std::time::Duration;

use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::error::Error;

/// How long a body may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Reads a body of at most `most` bytes; one that says it is longer is not read at all.
pub(crate) async fn read(
    headers: &http::HeaderMap,
    body: &mut Incoming,
    most: usize,
) -> Result<Vec<u8>, Error> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: u64| length > most as u64) {
        return Err(Error::BodyTooLarge(most));
    }
    let collect = async {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Error::BodyIncomplete)?.into_data() else { continue };
            if bytes.len() + data.len() > most {
                return Err(Error::BodyTooLarge(most));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    };
    timeout(DEADLINE, collect).await.map_err(|_| Error::BodyIncomplete)?
}
