//! Sockets and HTTP.

pub(crate) mod http;
