//! The mesh as one node sees it: who is there, who is linked, where rooms are at home.
//!
//! All replicas know the view; links, and what goes over them, are the leader's.

mod acks;
mod backlog;
mod demand;
mod ingress;
mod interest;
mod link;
mod view;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use proto::mesh::homes::HOMES;
use proto::mesh::link::{Frame, Post, SINCE_MAX_S};
use proto::mesh::{NodeKey, Room, hex};
use tokio::sync::Notify;

pub(crate) use self::acks::{Ack, Acks, Waiting};
pub(crate) use self::backlog::{Backlog, Kept};
pub(crate) use self::demand::Demand;
pub(crate) use self::ingress::{Arrived, Ingress, Verdict, judge};
pub(crate) use self::interest::{Interest, OTHERS_MAX};
pub(crate) use self::link::{Link, Links, NODES_MAX, OUTBOX};
pub(crate) use self::view::{Peer, View, network};
use super::egress::Rules;

/// Nodes one post is passed on to by one home, at most.
const FAN_OUT: usize = 256;
/// Nodes of a large network that are linked all the time.
const KEPT: usize = 8;
/// Nodes that clients are told of who cannot stay.
const REFERRED: usize = 5;

/// With whom this node links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Federation {
    /// Any node of the network whose key is stamped.
    Open,
    /// These.
    AllowList(HashSet<NodeKey>),
    /// Nobody.
    Off,
}

impl Federation {
    /// Whether a node is one to deal with.
    pub(crate) fn admits(&self, key: &NodeKey) -> bool {
        match self {
            Self::Open => true,
            Self::AllowList(keys) => keys.contains(key),
            Self::Off => false,
        }
    }

    /// As `GET /` shows it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::AllowList(_) => "allowlist",
            Self::Off => "off",
        }
    }
}

/// Who this node is to others, and with whom it deals.
#[derive(Clone)]
pub(crate) struct Rulebook {
    pub(crate) key: NodeKey,
    /// Nothing when it only dials.
    pub(crate) url: Option<String>,
    pub(crate) network: String,
    pub(crate) network_key: Option<[u8; 32]>,
    pub(crate) federation: Federation,
    /// Bits of work in a key's stamp.
    pub(crate) id_bits: u32,
    /// Nodes of a network that are all linked all the time.
    pub(crate) links: usize,
    pub(crate) egress: Rules,
}

/// The mesh.
pub(crate) struct Mesh {
    pub(crate) rules: Rulebook,
    pub(crate) view: View,
    pub(crate) links: Links,
    pub(crate) interest: Mutex<Interest>,
    pub(crate) backlog: Mutex<Backlog>,
    pub(crate) ingress: Ingress,
    pub(crate) acks: Acks,
    /// Homes to be linked.
    pub(crate) demand: Mutex<Demand>,
    pub(crate) demanded: Notify,
    /// Links or the view changed: subscriptions have to be looked at.
    pub(crate) shifted: Notify,
    leading: AtomicBool,
}

/// What became of a post that went to other nodes, in frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) frames: u64,
    /// Not sent, because the link had as many posts as it takes.
    pub(crate) dropped: u64,
}

impl Sent {
    fn count(&mut self, taken: bool) {
        *(if taken { &mut self.frames } else { &mut self.dropped }) += 1;
    }
}

/// Where a post goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Homes {
    pub(crate) all: Vec<NodeKey>,
    /// Whether this node is one of them.
    pub(crate) own: bool,
}

impl Mesh {
    /// Alone so far.
    pub(crate) fn new(rules: Rulebook) -> Self {
        Self {
            rules,
            view: View::default(),
            links: Links::default(),
            interest: Mutex::default(),
            backlog: Mutex::default(),
            ingress: Ingress::default(),
            acks: Acks::default(),
            demand: Mutex::default(),
            demanded: Notify::new(),
            shifted: Notify::new(),
            leading: AtomicBool::new(false),
        }
    }

    /// Whether nodes link at all.
    pub(crate) fn is_on(&self) -> bool {
        self.rules.federation != Federation::Off
    }

    /// Whether this replica holds the links.
    pub(crate) fn leads(&self) -> bool {
        self.leading.load(Ordering::Relaxed)
    }

    /// Takes or gives up the lead; the latter ends all links.
    pub(crate) fn lead(&self, leads: bool) {
        self.leading.store(leads, Ordering::Relaxed);
        if !leads {
            self.links.end_all();
        }
    }

    /// Some nodes for clients to go to instead of this one.
    pub(crate) fn others(&self, now_ms: i64) -> Vec<String> {
        self.view.sample(REFERRED, now_ms).into_iter().map(|peer| peer.url).collect()
    }

    /// Where a room is at home.
    pub(crate) fn homes(&self, room: &Room, now_ms: i64) -> Homes {
        let own = self.rules.url.is_some().then_some(self.rules.key);
        let spread = !self.rules.egress.allow_private;
        let all = self.view.homes(room, now_ms, own, spread);
        Homes { own: all.contains(&self.rules.key), all }
    }

    /// Asks the homes of rooms for what is posted there, and for what was in the last `since`
    /// seconds; of homes that were asked before only when `again`.
    pub(crate) fn ask(&self, rooms: &[Room], since: u32, again: bool, now_ms: i64) {
        for (link, rooms) in self.homes_of(rooms, now_ms) {
            link.ask(&rooms, since, again);
        }
    }

    /// Brings what is asked of every link in line with where rooms are at home now.
    pub(crate) fn settle(&self, now_ms: i64) {
        let rooms: Vec<Room> = self.interest.lock().all().into_iter().collect();
        let mut wanted = self.homes_of(&rooms, now_ms);
        for link in self.links.all() {
            let at = wanted.iter().position(|(other, _)| other.key == link.key);
            let rooms = at.map(|at| wanted.swap_remove(at).1).unwrap_or_default();
            link.ask(&rooms, SINCE_MAX_S, false);
            link.settle(&rooms.into_iter().collect(), now_ms);
        }
    }

    /// The links to homes, each with its rooms; homes that are not linked are wanted from now on.
    fn homes_of(&self, rooms: &[Room], now_ms: i64) -> Vec<(Arc<Link>, Vec<Room>)> {
        let mut by_link: HashMap<NodeKey, (Arc<Link>, Vec<Room>)> = HashMap::new();
        for room in rooms {
            for key in self.homes(room, now_ms).all {
                let Some(link) = self.links.get(&key) else {
                    self.want(key, None, now_ms);
                    continue;
                };
                by_link.entry(key).or_insert_with(|| (link, Vec::new())).1.push(room.clone());
            }
        }
        by_link.into_values().collect()
    }

    /// A home is needed, for a post or for what is posted there; whether the post can wait.
    fn want(&self, key: NodeKey, post: Option<Bytes>, now_ms: i64) -> bool {
        if key == self.rules.key {
            return true;
        }
        let mut demand = self.demand.lock();
        let waits = match post {
            Some(post) => demand.want_for(key, post, now_ms),
            None => {
                demand.want(key, now_ms);
                true
            }
        };
        drop(demand);
        self.demanded.notify_one();
        waits
    }

    /// Gives a home that is linked at last what waited for it.
    pub(crate) fn deliver(&self, link: &Link) -> Sent {
        let posts = self.demand.lock().take(&link.key);
        let mut sent = Sent::default();
        posts.into_iter().for_each(|post| sent.count(link.send_post(post)));
        sent
    }

    /// Sends a post of this node's clients on: to the room's homes, and, being one, to who
    /// subscribed to it here. For homes that are not linked it waits some seconds.
    pub(crate) fn send_out(&self, room: &Room, post: Post, now_ms: i64) -> Sent {
        let homes = self.homes(room, now_ms);
        let linked = |keys: &[NodeKey]| {
            let others = keys.iter().filter(|key| **key != self.rules.key);
            others.filter_map(|key| self.links.get(key)).collect::<Vec<_>>()
        };
        let mut to = linked(&homes.all);
        if to.is_empty() && !homes.own && self.links_all() {
            // No home is in reach: those that would be if only they were there.
            let reachable = self.links.keys_of_nodes();
            let second = u64::try_from(now_ms / 1000).unwrap_or(0);
            let ranked = proto::mesh::homes::ranked(room, second, &reachable);
            to = linked(&ranked[..ranked.len().min(HOMES)]);
        }
        let mut served: Vec<String> = to.iter().map(|link| hex(&link.key[..8])).collect();
        if homes.own {
            served.push(hex(&self.rules.key[..8]));
        }
        let post = Post { hop: 1, hs: served, ..post };
        let frame = Bytes::from(Frame::Post(post.clone()).encode());
        to.iter().for_each(|link| link.used(now_ms));
        let mut sent = send(&to, &frame);
        for key in homes.all.iter().filter(|key| self.links.get(key).is_none()) {
            let waits = self.want(*key, Some(frame.clone()), now_ms);
            sent.dropped += u64::from(!waits);
        }
        let passed =
            if homes.own { self.pass_on(room, post, &self.rules.key) } else { Sent::default() };
        Sent { frames: sent.frames + passed.frames, dropped: sent.dropped + passed.dropped }
    }

    /// Whether the network is so small that every node is linked all the time.
    pub(crate) fn links_all(&self) -> bool {
        self.view.all().len() <= self.rules.links
    }

    /// Nodes to be linked whether they are of use or not: all of a small network, some of a large
    /// one, which nobody else can foresee.
    pub(crate) fn kept(&self, peers: &[Peer]) -> HashSet<NodeKey> {
        let mut keys: Vec<NodeKey> = peers.iter().map(|peer| peer.key).collect();
        if peers.len() > self.rules.links {
            keys.sort_by_cached_key(|key| self.links.chance(key));
            keys.truncate(KEPT.min(self.rules.links));
        }
        keys.into_iter().collect()
    }

    /// Sends a post to the nodes that subscribed to its room here, unless they have it: its origin,
    /// the homes that the origin served, and `from`.
    pub(crate) fn pass_on(&self, room: &Room, post: Post, from: &NodeKey) -> Sent {
        let subscribers = self.links.subscribers(room);
        let without = |link: &Link| {
            link.key == *from || post.o == hex(&link.key) || post.hs.contains(&hex(&link.key[..8]))
        };
        let to: Vec<_> = subscribers.into_iter().filter(|link| !without(link)).collect();
        if to.is_empty() {
            return Sent::default();
        }
        let frame = Bytes::from(Frame::Post(Post { hop: 2, hs: Vec::new(), ..post }).encode());
        send(&to[..to.len().min(FAN_OUT)], &frame)
    }
}

fn send(to: &[Arc<Link>], frame: &Bytes) -> Sent {
    let mut sent = Sent::default();
    to.iter().for_each(|link| sent.count(link.send_post(frame.clone())));
    sent
}
