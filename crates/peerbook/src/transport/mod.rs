//! HTTP: which handler a request reaches, and what its end looks like.

pub(crate) mod body;
pub(crate) mod pages;
pub(crate) mod respond;
#[cfg(feature = "webrtc")]
pub(crate) mod rtc;
mod verify;
mod ws;

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
};

use edge::{Body, Client, limit::Keyed, meter::Limiter, ws::Limits};
use http::{HeaderMap, Method, Request, Response, StatusCode, request::Parts};
use hyper::body::Incoming;
use service::Context;

use crate::domain::{book::Book, mail::Mail};
use pages::Page;
pub(crate) use pages::Pages;

/// Everything a request handler needs, built once.
pub(crate) struct App {
    pub(crate) book: Arc<Book>,
    pub(crate) mail: Arc<Mail>,
    pub(crate) pages: Pages,
    /// Connections by WebRTC, if they are on.
    #[cfg(feature = "webrtc")]
    pub(crate) rtc: Option<Arc<rtc::WebRtc>>,
    pub(crate) cx: Context,
    /// What sockets may use.
    pub(crate) limits: Arc<Limits>,
    /// What they may send.
    pub(crate) limiter: Arc<Limiter>,
    /// Requests by address.
    pub(crate) addresses: Option<Keyed>,
}

/// The peerbook as an HTTP service.
#[derive(Clone)]
pub(crate) struct Endpoint(pub(crate) Arc<App>);

/// One request on its way through a handler.
pub(crate) struct Call {
    pub(crate) app: Arc<App>,
    pub(crate) parts: Parts,
    pub(crate) body: Incoming,
    pub(crate) client: Client,
}

impl tower::Service<Request<Incoming>> for Endpoint {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Task<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let app = self.0.clone();
        Box::pin(async move { Ok(answer(app, request).await) })
    }
}

async fn answer(app: Arc<App>, request: Request<Incoming>) -> Response<Body> {
    let Some(client) = request.extensions().get::<Client>().copied() else {
        return respond::text(StatusCode::INTERNAL_SERVER_ERROR, "Internal error");
    };
    if let Some(Err(wait)) = app.addresses.as_ref().map(|all| all.check(&client.limit_key(), 1)) {
        return respond::too_many(wait);
    }
    let headers = request.headers().clone();
    let path = request.uri().path().to_owned();
    if request.method() == Method::OPTIONS && respond::is_shared(&path) {
        return respond::preflight(&headers);
    }
    let response = dispatch(app, request, client, &path).await;
    with_cors(&path, &headers, response)
}

async fn dispatch(
    app: Arc<App>,
    request: Request<Incoming>,
    client: Client,
    path: &str,
) -> Response<Body> {
    if path == "/ws" {
        return ws::open(&app, request, client).await;
    }
    let (parts, body) = request.into_parts();
    if let Some(page) = Page::at(path) {
        return app.pages.answer(page, parts, body, client.limit_key()).await;
    }
    let call = Call { app, parts, body, client };
    #[cfg(feature = "webrtc")]
    if let Some(rtc) = call.app.rtc.clone() {
        if path == "/offer" {
            return rtc.offer(call).await;
        }
        if let Some(id) = path.strip_prefix("/candidates/") {
            return rtc.candidates(id, call).await;
        }
    }
    match path {
        "/verify" => verify::verify(call).await,
        _ => respond::text(StatusCode::NOT_FOUND, "Not found"),
    }
}

/// What stands behind `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::trim).filter(|token| !token.is_empty())
}

fn with_cors(path: &str, headers: &HeaderMap, mut response: Response<Body>) -> Response<Body> {
    if respond::is_shared(path) {
        respond::share(headers, &mut response);
    }
    response
}
