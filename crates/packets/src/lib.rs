#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod args;
mod conn;
mod gate;
mod line;
mod metrics;
mod packet;
mod pump;
mod serve;
mod siblings;
mod sockets;
mod verifier;
mod wire;

use std::ops::ControlFlow;

use edge::{Body, ws::Ended};
use http::{Request, Response};
use hyper::body::Incoming;

pub use self::{
    args::{ARGUMENTS, PacketArgs},
    gate::{Gate, Identity, Refused, bearer},
    line::{Line, SendError},
    packet::{Id, Packet, Wire},
    serve::Packets,
    siblings::{NODE_BYTES, PeerArgs, SECRET_BYTES, Sibling, Siblings},
};
pub use edge::ws::Close;

/// A session that has just become active.
pub struct Opened {
    /// The generation of the client.
    pub wire: Wire,
    /// Where it comes from.
    pub peer: edge::Client,
    /// What is sent to it.
    pub line: Line,
    /// Who the operator says it is; `None` when certificates are not checked.
    pub identity: Option<Identity>,
}

/// What peer-linker and channel-hub each are.
pub trait Service: Clone + Send + Sync + 'static {
    /// One active session.
    type Client: Client;
    /// The WebSocket subprotocol clients have to ask for.
    const SUBPROTOCOL: &'static str;

    /// A client has activated its session for the first time. Its Success is on its way.
    fn connect(&self, opened: Opened) -> Self::Client;

    /// An HTTP request that does not ask for an upgrade.
    fn http(&self, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;
}

/// What a service does with one active session.
pub trait Client: Send + 'static {
    /// Handles one packet, of any type but ActivateSession. Packets of one client come in order,
    /// one at a time; while this future waits the socket is not read, but still written to.
    /// Dropped when the connection ends meanwhile.
    fn packet(
        &mut self,
        packet: Packet,
        line: &Line,
    ) -> impl Future<Output = ControlFlow<Close>> + Send;

    /// Called exactly once, as soon as the connection is over. Nothing can be sent any more.
    /// [`Ended::Slow`] says that the client did not read in time.
    fn gone(&mut self, how: Ended) -> impl Future<Output = ()> + Send;
}
