//! The nodes this one knows.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::RwLock;
use proto::mesh::homes::{HOMES, ranked};
use proto::mesh::{NodeKey, Room};
use rand::seq::IteratorRandom as _;

/// A node is told of to clients for so long after it was seen, and is a home for so long.
const TOLD_MS: i64 = 15 * 60_000;
const HOME_MS: i64 = 5 * 60_000;
/// In a network of so many nodes, homes have been known for so long.
const MANY: usize = 8;
const AGED_MS: i64 = 10 * 60_000;

/// Another node that proved who and where it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Peer {
    pub(crate) key: NodeKey,
    pub(crate) url: String,
    pub(crate) first_seen_ms: i64,
    pub(crate) last_seen_ms: i64,
    /// Times in a row that it did not answer.
    pub(crate) fails: i32,
    pub(crate) height: Option<i16>,
    pub(crate) rtt_ms: Option<i32>,
    pub(crate) net: Option<IpAddr>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct View(RwLock<Arc<Vec<Peer>>>);

impl View {
    /// Takes over what the database says; whether the homes of rooms may have changed.
    pub(crate) fn replace(&self, peers: Vec<Peer>) -> bool {
        let homes = |peers: &[Peer]| {
            let up = peers.iter().filter(|peer| peer.fails == 0).map(|peer| peer.key);
            up.collect::<HashSet<_>>()
        };
        let mut known = self.0.write();
        let changed = homes(&known) != homes(&peers);
        *known = Arc::new(peers);
        changed
    }

    /// All nodes.
    pub(crate) fn all(&self) -> Arc<Vec<Peer>> {
        self.0.read().clone()
    }

    /// A random choice of those seen lately.
    pub(crate) fn sample(&self, most: usize, now_ms: i64) -> Vec<Peer> {
        let all = self.all();
        let recent = all.iter().filter(|peer| now_ms - peer.last_seen_ms < TOLD_MS).cloned();
        recent.sample(&mut rand::rng(), most)
    }

    /// Homes of a room among the nodes in reach and `own`; where `spread` is asked for, in
    /// different networks.
    pub(crate) fn homes(
        &self,
        room: &Room,
        now_ms: i64,
        own: Option<NodeKey>,
        spread: bool,
    ) -> Vec<NodeKey> {
        let all = self.all();
        let reachable = |peer: &&Peer| peer.fails == 0 && now_ms - peer.last_seen_ms < HOME_MS;
        let mut peers: Vec<&Peer> = all.iter().filter(reachable).collect();
        if peers.len() + 1 >= MANY {
            let aged = |peer: &&Peer| now_ms - peer.first_seen_ms >= AGED_MS;
            let old: Vec<&Peer> = peers.iter().copied().filter(aged).collect();
            // A young network has no old nodes.
            if old.len() >= HOMES {
                peers = old;
            }
        }
        let keys: Vec<NodeKey> = peers.iter().map(|peer| peer.key).chain(own).collect();
        let second = u64::try_from(now_ms / 1000).unwrap_or(0);
        let mut nets = HashSet::new();
        let apart = |key: &NodeKey| {
            let net = peers.iter().find(|peer| peer.key == *key).and_then(|peer| peer.net);
            !spread || net.is_none_or(|ip| nets.insert(network(ip)))
        };
        ranked(room, second, &keys).into_iter().filter(apart).take(HOMES).collect()
    }
}

/// The /24 or /48 of an address.
pub(crate) fn network(ip: IpAddr) -> Vec<u8> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.octets()[..3].to_vec(),
        IpAddr::V6(ip) => ip.octets()[..6].to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(byte: u8) -> Peer {
        Peer {
            key: [byte; 32],
            url: format!("https://{byte}.example"),
            first_seen_ms: 0,
            last_seen_ms: 1_000_000,
            fails: 0,
            height: None,
            rtt_ms: None,
            net: Some([192, 0, byte, 1].into()),
        }
    }

    #[test]
    fn homes_are_nodes_in_reach_of_different_networks_that_are_no_newcomers() {
        let room = Room::from_bytes(&[1; 20]).unwrap();
        let view = View::default();
        let homes = |spread| view.homes(&room, 1_000_000, Some([99; 32]), spread);
        assert_eq!(homes(true), [[99; 32]]);
        view.replace((1..=5).map(peer).collect());
        let before = homes(true);
        assert_eq!(before.len(), 3);
        // Who fails is replaced by the next, the others stay.
        let failed = before.iter().find(|key| **key != [99; 32]).copied().unwrap();
        let mut peers: Vec<Peer> = (1..=5).map(peer).collect();
        peers.iter_mut().filter(|peer| peer.key == failed).for_each(|peer| peer.fails = 1);
        assert!(view.replace(peers));
        let after = homes(true);
        assert!(
            !after.contains(&failed) && before.iter().filter(|k| after.contains(k)).count() == 2
        );
        let same = |byte| Peer { net: Some([192, 0, 2, byte].into()), ..peer(byte) };
        view.replace((1..=5).map(same).collect());
        assert!(homes(true).len() <= 2 && homes(false).len() == 3);
        let young = |byte| Peer { first_seen_ms: 900_000, ..peer(byte) };
        view.replace((1..=5).map(peer).chain((6..=20).map(young)).collect());
        assert!(homes(true).iter().all(|key| key[0] <= 5 || key[0] == 99));
    }

    #[test]
    fn clients_are_told_of_nodes_that_were_seen_lately() {
        let view = View::default();
        let stale = Peer { last_seen_ms: 0, ..peer(9) };
        view.replace((1..=5).map(peer).chain([stale]).collect());
        let told = view.sample(50, 1_000_000);
        assert!(told.len() == 5 && told.iter().all(|peer| peer.key[0] != 9));
        assert_eq!(view.sample(2, 1_000_000).len(), 2);
    }
}
