//! What nodes prove to each other: who they are, where they are, that the key cost something.

use sha2::Digest as _;
use subtle::ConstantTimeEq as _;

use super::proof::{Challenge, Nonce, Proof};
use super::{NodeKey, hex, hmac_sha256, sha256};

/// Salt of the DHT item a node describes itself in.
pub const SALT: &[u8] = b"wsm1";
/// Bits of work in a node's stamp on the public network.
pub const STAMP_BITS: u32 = 24;

/// What a node's stamp is searched for, so that a key costs some seconds.
pub fn stamp(network: &str, node: &NodeKey) -> Challenge {
    Challenge(sha256(&[b"wsm1 id\n", network.as_bytes(), b"\n", node]))
}

/// Whether `nonce` stamps the key with at least `bits` of work.
pub fn is_stamped(network: &str, node: &NodeKey, nonce: Nonce, bits: u32) -> bool {
    stamp(network, node).hash(nonce).height() >= bits
}

/// Where nodes of a network look for each other in the DHT; of a private one only who has its key.
pub fn infohash(network: &str, network_key: Option<&[u8]>) -> [u8; 20] {
    let name = format!("webrtc-signaling-mesh:1:{network}");
    match network_key {
        None => sha1::Sha1::digest(name.as_bytes()).into(),
        Some(key) => sha1::Sha1::digest(hmac_sha256(key, &[name.as_bytes()])).into(),
    }
}

/// What a node signs to prove that it answers at `url`: `challenge` is the asker's, 64
/// hexadecimal digits.
pub fn hello(network: &str, url: &str, challenge: &str, now_s: u64) -> String {
    format!("wsm1 hello\n{network}\n{url}\n{challenge}\n{now_s}")
}

/// What a node signs when it accepts a post, so that it travels under its name.
pub fn post(network: &str, proof: &Proof) -> Vec<u8> {
    [b"wsm1 post\n", network.as_bytes(), b"\n", &proof.0].concat()
}

/// What who dials a link signs.
pub fn link(acceptor: &NodeKey, acceptors_challenge: &[u8], own_challenge: &[u8]) -> String {
    line("wsm1 link\n", acceptor, acceptors_challenge, own_challenge)
}

/// What who accepts a link signs.
pub fn link_ok(dialler: &NodeKey, diallers_challenge: &[u8], own_challenge: &[u8]) -> String {
    line("wsm1 link ok\n", dialler, diallers_challenge, own_challenge)
}

/// What proves knowledge of a private network's key over either of these, 64 hexadecimal digits.
pub fn network_mac(network_key: &[u8], line: &str) -> String {
    hex(&hmac_sha256(network_key, &[line.as_bytes()]))
}

/// Whether `mac` is that of `line`, in constant time.
pub fn is_network_mac(network_key: &[u8], line: &str, mac: &str) -> bool {
    network_mac(network_key, line).as_bytes().ct_eq(mac.as_bytes()).into()
}

fn line(tag: &str, node: &NodeKey, theirs: &[u8], ours: &[u8]) -> String {
    [tag, &hex(node), &hex(theirs), &hex(ours)].concat()
}
