//! HTTP: which handler a request reaches, and what its end looks like.

mod body;
mod client;
mod demo;
mod dht;
pub(crate) mod link;
mod mesh;
mod negotiate;
pub(crate) mod outgoing;
mod pages;
mod pump;
mod query;
pub(crate) mod respond;
mod room;
mod stream;
mod token;

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use edge::{Body, Client};
use http::request::Parts;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use proto::mesh::price::Kind;

use self::negotiate::Format;
use self::query::Query;
use crate::app::App;
use crate::error::Error;

/// The node as an HTTP service.
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
    pub(crate) client: Client,
    pub(crate) format: Format,
    pub(crate) query: Query,
}

/// What a refusal's quote is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Priced {
    pub(crate) kind: Kind,
    pub(crate) recent: u32,
}

/// A request that failed, and what its retry costs.
pub(crate) struct Failed {
    pub(crate) error: Error,
    pub(crate) priced: Priced,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, priced: Priced { kind: Kind::Post, recent: 0 } }
    }
}

impl Priced {
    /// Marks a failure as being about this purchase.
    pub(crate) fn mark(self, error: Error) -> Failed {
        Failed { error, priced: self }
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
        let app = self.0.clone();
        Box::pin(async move { Ok(answer(app, request).await) })
    }
}

async fn answer(app: Arc<App>, request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Some(client) = parts.extensions.get::<Client>().copied() else {
        return respond::bare(http::StatusCode::INTERNAL_SERVER_ERROR);
    };
    let query = Query::new(parts.uri.query().unwrap_or_default());
    let format = negotiate::format(&parts, &query);
    let shared = app.clone();
    let mut response = if parts.method == Method::OPTIONS {
        respond::preflight()
    } else {
        let path = parts.uri.path().to_owned();
        let call = Call { app, parts, body, client, format, query };
        match dispatch(call, &path).await {
            Ok(response) => response,
            Err(failed) => {
                let (code, _) = failed.error.code();
                shared.metrics.refused.with_label_values(&[code]).inc();
                let Failed { error, priced: Priced { kind, recent } } = failed;
                let quote = error.wants_quote().then(|| shared.node.quote(kind, recent, client.ip));
                let elsewhere = error.sends_elsewhere();
                let others = elsewhere.then(|| shared.mesh.others(shared.node.clock.now_ms()));
                respond::error(&error, quote.as_ref(), others, format)
            }
        }
    };
    respond::common(response.headers_mut(), shared.node.height());
    response
}

async fn dispatch(call: Call, path: &str) -> Result<Response<Body>, Failed> {
    let method = call.parts.method.clone();
    let get = method == Method::GET || method == Method::HEAD;
    let post = method == Method::POST;
    let either = |allowed: bool| if allowed { Ok(()) } else { Err(Error::Method) };
    match path {
        "/" => either(get).map(|()| pages::root(&call)).map_err(Into::into),
        "/nodes" => either(get).map_err(Failed::from).and_then(|()| pages::nodes(&call)),
        "/ip" => either(get).map(|()| pages::ip(&call)).map_err(Into::into),
        "/token" if get => Ok(token::describe(&call)),
        "/token" if post => token::mint(call).await,
        "/dht-get" if get => dht::get(call).await,
        "/dht-put" if post => dht::put(call).await,
        "/mesh/id" if get => mesh::id(&call),
        "/mesh/hello" if get => mesh::hello(&call),
        "/mesh/link" if get => mesh::open(call),
        "/token" | "/dht-get" | "/dht-put" | "/mesh/id" | "/mesh/hello" | "/mesh/link" => {
            Err(Error::Method.into())
        }
        _ => match path.strip_prefix("/room/") {
            Some(room) if post => room::post(call, room).await,
            Some(room) if get && call.format == Format::Events => stream::open(call, room).await,
            Some(room) if get => room::describe(&call, room),
            Some(_) => Err(Error::Method.into()),
            None => match client::find(path) {
                Some(file) if get => Ok(client::send(file, &call.parts.headers)),
                Some(_) => Err(Error::Method.into()),
                None => Err(Error::NotFound.into()),
            },
        },
    }
}
