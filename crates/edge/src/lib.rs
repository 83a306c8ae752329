//! Public sockets: everything between a listening port and a service's own protocol.
//!
//! ```text
//! accept -> caps -> PROXY header? -> TLS? -> HTTP/1.1 -> the service's tower `Service`
//!                                                 \-> upgrade -> ws::pump -> the service's `Session`
//! ```
//!
//! What a service gets: [`bind`] and [`serve`] for HTTP, [`ws::upgrade`] and [`ws::pump`] for
//! WebSockets, [`Body::raw`] for answers that last, [`Listener::accept`] for protocols of its own,
//! [`limit::Keyed`] against floods.
//!
//! Invariant: nothing a peer does costs another peer more than its share. Every buffer has a
//! limit, every wait a deadline, and the accept loop never waits for a connection.
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod args;
mod body;
mod client;
mod establish;
mod http;
pub mod limit;
mod listener;
pub mod meter;
mod metrics;
mod raw;
mod stream;
mod tls;
pub mod ws;

pub use self::{
    args::{ListenArgs, ProxyProtocol},
    body::{Body, BoxError},
    client::{Client, LimitKey},
    establish::Accepted,
    http::{Port, serve, serve_connection},
    listener::{Listener, bind, bind_asking, bind_within},
    raw::Raw,
    stream::Stream,
};
