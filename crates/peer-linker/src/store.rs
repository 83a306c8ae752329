//! What outlives the process: leases and registered pads in schema `peer_linker`.

pub(crate) mod pad;
