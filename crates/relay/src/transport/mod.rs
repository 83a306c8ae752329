//! HTTP: which handler a request reaches, and what its end looks like.

mod blob;
mod blob_body;
mod blob_raw;
pub(crate) mod body;
pub(crate) mod body_memory;
mod fetch;
mod openapi;
mod pages;
pub(crate) mod respond;
pub(crate) mod router;
mod stream;
mod writes;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use edge::{Body, Client};
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::app::App;
use crate::error::{Error, Http};
use body::BodyLimits;
use router::Route;

/// The relay as an HTTP service.
#[derive(Clone)]
pub(crate) struct Endpoint(Arc<App>);

impl Endpoint {
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self(app)
    }
}

/// One request on its way through a handler.
pub(crate) struct Call {
    pub(crate) app: Arc<App>,
    pub(crate) parts: Parts,
    pub(crate) body: Incoming,
}

impl Call {
    /// The JSON body, not yet parsed.
    pub(crate) async fn json(&mut self) -> Result<Bytes, Error> {
        let limits = self.limits();
        let memory = &self.app.body_memory;
        body::read_json(&self.parts.headers, &mut self.body, limits, memory).await
    }

    /// What a body may cost.
    pub(crate) fn limits(&self) -> BodyLimits {
        let config = &self.app.config;
        BodyLimits { bytes: config.body_limit, deadline: config.body_deadline }
    }

    /// What stands behind the `?`.
    pub(crate) fn query(&self) -> &str {
        self.parts.uri.query().unwrap_or_default()
    }

    /// Who is asking.
    pub(crate) fn client(&self) -> Option<&Client> {
        self.parts.extensions.get()
    }
}

impl tower::Service<Request<Incoming>> for Endpoint {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let call = Call { app: self.0.clone(), parts, body };
        Box::pin(async move { Ok(answer(call).await) })
    }
}

async fn answer(call: Call) -> Response<Body> {
    let app = call.app.clone();
    let answer = match admit(&call) {
        Ok(()) => dispatch(call).await,
        Err(refused) => Err(refused),
    };
    answer.unwrap_or_else(|why| {
        let response = respond::error(&why);
        app.metrics.refused.with_label_values(&[response.status().as_str()]).inc();
        response
    })
}

fn admit(call: &Call) -> Result<(), Error> {
    let (Some(addresses), Some(client)) = (&call.app.addresses, call.client()) else {
        return Ok(());
    };
    let spent = addresses.check(&client.limit_key(), 1);
    spent.map_err(|retry_after| Error::TooMany { what: "too many requests", retry_after })
}

async fn dispatch(call: Call) -> Result<Response<Body>, Error> {
    let path = call.parts.uri.path().to_owned();
    let found = router::find(&path).ok_or(Error::Http(Http::NotFound))?;
    if call.parts.method == Method::OPTIONS {
        return Ok(options(&found.allow()));
    }
    let route = found.method(&call.parts.method).ok_or(Error::Http(Http::NotFound))?;
    match route {
        Route::Store => writes::store(call).await,
        Route::Fetch => fetch::fetch(call).await,
        Route::Ack => writes::ack(call).await,
        Route::Health => pages::health(&call),
        Route::Probe => pages::probe(call).await,
        Route::GroupStore => writes::group_store(call).await,
        Route::MembersUpdate => writes::members_update(call).await,
        Route::AckBatch => writes::ack_batch(call).await,
        Route::Stream => stream::stream(call).await,
        Route::Capabilities => Ok(pages::capabilities(&call)),
        Route::Source => Ok(pages::source(&call)),
        Route::OpenApi => Ok(openapi::document()),
        Route::BlobUpload => blob::upload(call).await,
        Route::BlobChunk => blob::chunk(call).await,
        Route::BlobChunkRaw => blob_raw::put_chunk(call).await,
        Route::BlobComplete => blob::complete(call).await,
        Route::Blob(id) => blob::get(call, id).await,
        Route::BlobRaw(id) => blob_raw::get(call, id).await,
    }
}

fn options(allow: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(allow.to_owned()));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert(ALLOW, HeaderValue::from_str(allow).expect("method names and commas"));
    response
}
