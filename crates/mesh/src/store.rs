//! What the node keeps.

pub(crate) mod post;
pub(crate) mod secret;
