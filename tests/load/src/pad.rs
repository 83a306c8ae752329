//! Generators for peer-linker and channel-hub, and the plain copy relay they are compared with.

pub(crate) mod bulk;
pub(crate) mod copy;
pub(crate) mod idle;
pub(crate) mod neighbour;
pub(crate) mod pair;
pub(crate) mod peer;
pub(crate) mod request;
pub(crate) mod round_trip;
pub(crate) mod stall;
