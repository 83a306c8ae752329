//! What the node keeps.

pub(crate) mod leader;
pub(crate) mod node;
pub(crate) mod post;
pub(crate) mod replica;
pub(crate) mod secret;
