//! Requests for HTTP pads that another process has: it answers, this one passes on.
//!
//! Nothing is kept here but what one read gives: who reads slowly stops the sender through both.

use std::sync::Arc;

use edge::{Body, BoxError};
use futures_util::{Stream, StreamExt, stream::unfold};
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING},
};
use http_body_util::BodyExt;
use hyper::{
    body::{Body as _, Bytes, Incoming},
    ext::on_informational,
};
use packets::Siblings;
use tokio_util::sync::CancellationToken;

use super::{Broken, gone, refuse};
use crate::{
    domain::{desk::Desk, meter::Payer, transfers::Failed},
    protocol::Way,
};

/// Passes one side of a transfer on to the process at `there`, and its answer back.
pub(in crate::transport) async fn forward(
    request: Request<Incoming>,
    there: &str,
    (desk, siblings): (Arc<Desk<Way>>, &Siblings),
    payer: Payer,
) -> Response<Body> {
    let (asked, body) = request.into_parts();
    let mut request = Request::new(Body::Empty);
    *request.uri_mut() = asked.uri.path().parse().unwrap_or_default();
    request.headers_mut().insert(HOST, HeaderValue::from_static("sibling"));
    let node = desk.node();
    let begun = CancellationToken::new();
    if asked.method == Method::PUT {
        let length = body.size_hint().exact();
        if let Some(length) = length {
            request.headers_mut().insert(CONTENT_LENGTH, length.into());
        }
        if length != Some(0) {
            // As at one process, the body waits until there is somebody to read it.
            request.headers_mut().insert(EXPECT, HeaderValue::from_static("100-continue"));
            let go = begun.clone();
            on_informational(&mut request, move |said| {
                if said.status() == StatusCode::CONTINUE {
                    go.cancel();
                }
            });
            *request.body_mut() = Body::stream(paid(body, begun.clone(), desk, payer));
        }
    }
    *request.method_mut() = asked.method;
    match siblings.ask(there, &node, request).await {
        Ok(answer) => passed_back(answer),
        Err(why) => {
            tracing::debug!(%why, "a sibling does not answer");
            if begun.is_cancelled() { refuse(Broken::Failed(Failed::Left)) } else { gone() }
        }
    }
}

/// The body from when it may begin, no faster than its payer may send.
fn paid(
    body: Incoming,
    begun: CancellationToken,
    desk: Arc<Desk<Way>>,
    payer: Payer,
) -> impl Stream<Item = Result<Bytes, hyper::Error>> + Send + 'static {
    unfold((body.into_data_stream(), begun), move |(mut body, begun)| {
        let (desk, payer) = (desk.clone(), payer.clone());
        async move {
            // When the answer comes instead, the connection ends, and this with it.
            begun.cancelled().await;
            let chunk = body.next().await?;
            if let Ok(chunk) = &chunk {
                desk.meter().spend(&payer, chunk.len()).await;
            }
            Some((chunk, (body, begun)))
        }
    })
}

fn passed_back(answer: Response<Incoming>) -> Response<Body> {
    let (head, body) = answer.into_parts();
    let body = body.into_data_stream().map(|chunk| chunk.map_err(BoxError::from));
    let mut response = Response::new(Body::stream(body));
    *response.status_mut() = head.status;
    *response.headers_mut() = head.headers;
    for hop in [CONNECTION, TRANSFER_ENCODING] {
        response.headers_mut().remove(hop);
    }
    response
}
