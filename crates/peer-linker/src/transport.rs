//! Clients' packets and HTTP requests, handed to the rules.

mod http;
pub(crate) mod siblings;

use std::{ops::ControlFlow, sync::Arc};

use ::http::{Request, Response, StatusCode, header::AUTHORIZATION};
use bytes::Bytes;
use edge::{Body, Client as Peer, ws::Ended};
use hyper::body::Incoming;
use packets::{Close, Line, Opened, Packet, Packets, Siblings};
use pg::Sibling;

use crate::{
    domain::{
        desk::Desk,
        meter::Payer,
        seat::{Origin, Seat},
        transfers::{Row, Transfers},
    },
    protocol::{self, Request as Asked, Way},
};

/// The service as connections see it.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

struct Shared {
    desk: Arc<Desk<Way>>,
    siblings: Siblings,
    transfers: Option<Transfers>,
    packets: Packets,
    pass_server_types: bool,
}

impl App {
    /// Without `transfers` there are no HTTP pads.
    pub(crate) fn new(
        (desk, siblings): (Arc<Desk<Way>>, Siblings),
        transfers: Option<Transfers>,
        packets: Packets,
        pass_server_types: bool,
    ) -> Self {
        Self(Arc::new(Shared { desk, siblings, transfers, packets, pass_server_types }))
    }

    /// Who pays for what an HTTP client sends; `None` when it may send nothing.
    async fn payer(&self, request: &Request<Incoming>) -> Option<Payer> {
        let gate = self.0.packets.gate();
        let identity = if gate.is_open() {
            None
        } else {
            let header = request.headers().get(AUTHORIZATION)?;
            gate.check(&packets::bearer(header.as_bytes())?).await.ok()?
        };
        match identity {
            Some(identity) => Some(Payer::Identity(identity.content().into())),
            None => {
                let peer = request.extensions().get::<Peer>()?;
                Some(Payer::Address(peer.limit_key()))
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let Some(name) = http::pad(request.uri().path()) else { return http::page() };
        let Some(transfers) = &self.0.transfers else {
            return http::say(StatusCode::NOT_FOUND, "HTTP pads are switched off\n");
        };
        let name = match name {
            Ok(name) => name,
            Err(status) => return http::say(status, "this is no name for a pad\n"),
        };
        let Some(payer) = self.payer(&request).await else { return http::unauthorized() };
        if !http::moves(request.method()) {
            return http::not_allowed();
        }
        let desk = &self.0.desk;
        match self.share(transfers, &name).await {
            Ok(row) => {
                http::transfer(request, &name, (transfers, desk.meter()), Some(&payer), row).await
            }
            Err(there) => {
                let between = (desk.clone(), &self.0.siblings);
                http::forward::forward(request, &there.address, between, payer).await
            }
        }
    }

    /// Answers another process that was told that the name is here, or was a moment ago. It has
    /// seen to who may.
    pub(crate) async fn answer_sibling(self, request: Request<Incoming>) -> Response<Body> {
        let name = http::pad(request.uri().path()).and_then(Result::ok);
        let (Some(transfers), Some(name)) = (&self.0.transfers, name) else { return http::gone() };
        let Ok(row) = self.share(transfers, &name).await else { return http::gone() };
        http::transfer(request, &name, (transfers, self.0.desk.meter()), None, row).await
    }

    /// Sees to it that the two sides of a name meet here, unless they do at another process.
    async fn share(&self, transfers: &Transfers, name: &[u8]) -> Result<Option<Row>, Sibling> {
        match self.0.desk.share_name(name).await {
            // Somebody came here while the database was away.
            Err(_) if transfers.is_here(name) => Ok(None),
            shared => shared,
        }
    }
}

impl packets::Service for App {
    type Client = Session;
    const SUBPROTOCOL: &'static str = "peer-linker";

    fn connect(&self, opened: Opened) -> Session {
        let address = opened.peer.limit_key();
        let payer = match opened.identity {
            Some(identity) => Payer::Identity(identity.content().into()),
            None => Payer::Address(address),
        };
        let namespace = protocol::namespace(opened.wire);
        let origin = Origin { address, payer };
        let seat = self.0.desk.open(namespace, origin, Way::Client(opened.line));
        Session { shared: self.0.clone(), seat }
    }

    async fn http(&self, request: Request<Incoming>) -> Response<Body> {
        self.answer(request).await
    }
}

/// One activated client.
pub(crate) struct Session {
    shared: Arc<Shared>,
    seat: Arc<Seat<Way>>,
}

impl packets::Client for Session {
    async fn packet(&mut self, packet: Packet, _: &Line) -> ControlFlow<Close> {
        let (desk, seat, id) = (&self.shared.desk, &self.seat, packet.id);
        match protocol::request(&packet, self.shared.pass_server_types) {
            Asked::Pass => {
                let bytes = packet.body().len();
                if !desk.pass(seat, packet, bytes).await {
                    desk.refuse(seat, id);
                }
            }
            Asked::Register(name) => desk.register(seat, id, name).await,
            Asked::Unregister => desk.unregister(seat, id),
            Asked::Link { requestee, secret } => {
                let secret = Bytes::copy_from_slice(secret);
                if let Some(elsewhere) = desk.link(seat, id, requestee, &secret).await {
                    siblings::ask(&self.shared, seat, id, elsewhere, secret).await;
                }
            }
            Asked::Answer { requester, ok } => desk.answer(seat, id, requester, ok),
            Asked::Unlink => desk.unlink(seat, id),
            Asked::Wrong => desk.refuse(seat, id),
            Asked::Ignored => {}
        }
        ControlFlow::Continue(())
    }

    async fn gone(&mut self, _: Ended) {
        self.shared.desk.gone(&self.seat);
    }
}
