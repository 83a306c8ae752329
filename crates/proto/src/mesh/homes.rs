//! Which nodes a room is at home on: rendezvous hashing, so that nodes with different views still
//! mostly agree.

use super::{NodeKey, Room, sha256};

/// Homes of a room.
pub const HOMES: usize = 3;
/// Homes change once a day, each room at a time of its own.
const EPOCH_S: u64 = 86_400;

/// The day of a room.
pub fn epoch(room: &Room, now_s: u64) -> u32 {
    let digest = sha256(&[room.bytes()]);
    let offset = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    let shifted = now_s.saturating_add(u64::from(offset) % EPOCH_S);
    u32::try_from(shifted / EPOCH_S).unwrap_or(u32::MAX)
}

/// How much a node is a room's home on a day; the highest are.
pub fn score(room: &Room, epoch: u32, node: &NodeKey) -> u64 {
    let digest = sha256(&[b"wsm1 home\n", &epoch.to_be_bytes(), room.bytes(), node]);
    let mut word = [0; 8];
    word.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(word)
}

/// `nodes` from the best home to the worst.
pub fn ranked(room: &Room, now_s: u64, nodes: &[NodeKey]) -> Vec<NodeKey> {
    let epoch = epoch(room, now_s);
    let mut ranked = nodes.to_vec();
    ranked.sort_by_key(|node| std::cmp::Reverse((score(room, epoch, node), *node)));
    ranked
}
