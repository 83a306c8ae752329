//! Sockets: the handshake, and a pump for each. And one page.

pub(crate) mod check;

use std::{
    convert::Infallible,
    future::{Ready, ready},
    ops::ControlFlow,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use edge::{
    Body, Client,
    ws::{self, Close, Ended, Limits, Message},
};
use http::{Request, Response, StatusCode, header::UPGRADE};
use hyper::body::Incoming;
use service::Context;

use crate::{domain::desk::Desk, protocol::Conversation};
use check::Check;

/// Answers every path: a WebSocket to who asks for one; the connectivity page; 426 to everybody else.
#[derive(Clone)]
pub(crate) struct Sockets {
    desk: Arc<Desk>,
    check: Arc<Check>,
    limits: Arc<Limits>,
    cx: Context,
}

impl Sockets {
    pub(crate) fn new(desk: Arc<Desk>, check: Check, limits: Limits, cx: &Context) -> Self {
        Self { desk, check: Arc::new(check), limits: Arc::new(limits), cx: cx.clone() }
    }

    fn open(&self, request: Request<Incoming>) -> Response<Body> {
        let Some(client) = request.extensions().get::<Client>().copied() else {
            let mut refusal = Response::new(Body::Empty);
            *refusal.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            return refusal;
        };
        if !request.headers().contains_key(UPGRADE)
            && let Some(page) = self.check.answer(&request, client, self.desk.ice.as_ref())
        {
            return page;
        }
        let (answer, upgrading) = match ws::upgrade(request) {
            Ok(accepted) => accepted,
            Err(refusal) => return refusal,
        };
        let (desk, address) = (self.desk.clone(), client.limit_key());
        let session = move |outbox| Session(Conversation::open(desk, outbox, address));
        self.cx.spawn("socket", upgrading.pump(self.limits.clone(), session, &self.cx));
        answer
    }
}

impl tower::Service<Request<Incoming>> for Sockets {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        ready(Ok(self.open(request)))
    }
}

struct Session(Conversation);

impl ws::Session for Session {
    async fn message(&mut self, message: Message) -> ControlFlow<Close> {
        match message {
            Message::Text(text) => self.0.hear(&text, true).await,
            Message::Binary(bytes) => self.0.hear(&bytes, false).await,
        }
    }

    async fn ended(&mut self, _: Ended) {
        self.0.end();
    }
}
