//! What the node decides: who paid, what a post costs, who hears it.

pub(crate) mod dht;
pub(crate) mod egress;
pub(crate) mod feed;
pub(crate) mod height;
pub(crate) mod lately;
pub(crate) mod load;
pub(crate) mod mesh;
pub(crate) mod node;
pub(crate) mod posts;
pub(crate) mod replay;
pub(crate) mod rooms;
pub(crate) mod stream;
