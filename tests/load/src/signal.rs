//! Generators for the signal server.

pub(crate) mod across;
pub(crate) mod echo;
pub(crate) mod forward;
pub(crate) mod idle;
pub(crate) mod register;
pub(crate) mod storm;
pub(crate) mod takeover;

use serde_json::json;
use testkit::keys::Peer;
use testkit::signal_client::register_payload;
use testkit::time::now_ms;

use crate::ws;

/// A signed `register`, as a frame. Good for the 30 s that the server lets clocks differ.
fn register_frame(peer: &Peer) -> Vec<u8> {
    let nonce = format!("{:032x}", rand::random::<u128>());
    let payload = register_payload(peer, now_ms(), &nonce);
    let frame = json!({"v": "1", "id": "r", "type": "register", "payload": payload});
    ws::text(frame.to_string().as_bytes())
}

pub(crate) fn contains(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|window| window == part.as_bytes())
}
