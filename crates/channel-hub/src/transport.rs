//! Connections of both generations, and a page for those who come by HTTP.

pub(crate) mod siblings;

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use edge::{Body, ws::Ended};
use http::{
    HeaderValue, Request, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use hyper::body::Incoming;
use packets::{Close, Id, Opened, Packet, Wire};

use crate::{
    domain::{
        desk::{Desk, Line},
        hub::{Generation, Say},
    },
    protocol::{
        Conversation,
        sibling::{self, Role},
        speak,
    },
};

/// What every path answers, as in the original.
const PAGE: &[u8] = b"channel-hub\n\
    WebSocket clients connect here with the subprotocol channel-hub.\n";

/// The service as the connections see it.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Desk<Way>>);

impl Hub {
    pub(crate) fn new(desk: Arc<Desk<Way>>) -> Self {
        Self(desk)
    }
}

impl packets::Service for Hub {
    type Client = Session;
    const SUBPROTOCOL: &'static str = "channel-hub";

    fn connect(&self, opened: Opened) -> Session {
        let generation = generation(opened.wire);
        let address = opened.peer.limit_key();
        let line = Way::Client(opened.line);
        Session(Conversation::open(self.0.clone(), generation, address, line))
    }

    async fn http(&self, _: Request<Incoming>) -> Response<Body> {
        let mut page = Response::new(Body::Full(Bytes::from_static(PAGE)));
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        page.headers_mut().insert(CONTENT_TYPE, text);
        page.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        page
    }
}

/// What other processes get that speak HTTP to this one: they have nothing to ask for in it.
pub(crate) async fn no_http(_: Request<Incoming>) -> Response<Body> {
    let mut answer = Response::new(Body::Empty);
    *answer.status_mut() = http::StatusCode::NOT_FOUND;
    answer
}

/// One activated client.
pub(crate) struct Session(Conversation<Way>);

impl packets::Client for Session {
    async fn packet(&mut self, packet: Packet, _: &packets::Line) -> ControlFlow<Close> {
        self.0.hear(packet.kind, packet.id, packet.body()).await;
        ControlFlow::Continue(())
    }

    async fn gone(&mut self, _: Ended) {
        self.0.end();
    }
}

/// The way to one session.
#[derive(Clone)]
pub(crate) enum Way {
    /// To a client.
    Client(packets::Line),
    /// To another process, about channels of one generation.
    Sibling(packets::Line, Role, Generation),
}

impl Line for Way {
    fn tell(&self, say: Say) {
        let (line, spoken) = match self {
            Self::Client(line) => {
                let spoken = speak(generation(line.wire()), &say, |kind, id, body| {
                    // Who reads none of this is being closed; its session ends with the connection.
                    let _ = line.control(kind, id.map_or(Id::Own, Id::Of), body);
                });
                (line, spoken)
            }
            Self::Sibling(line, role, generation) => {
                (line, sibling::speak(line, *role, *generation, &say))
            }
        };
        if !spoken {
            line.close(1012, "another replica has the channel");
        }
    }
}

fn generation(wire: Wire) -> Generation {
    match wire {
        Wire::WebSocket => Generation::WebSocket,
        Wire::Encrypted => Generation::Encrypted,
    }
}
