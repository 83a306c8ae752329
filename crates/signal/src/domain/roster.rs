//! Everything about all peers together: order, presence, snapshots.

use std::collections::{BTreeMap, HashMap, VecDeque};

use edge::ws::Frame;
use proto::signal::{PeerId, encode};
use uuid::Uuid;

use super::{departed::Departed, line::Line};

/// A resume window that will end.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) until_ms: i64,
    pub(crate) peer: PeerId,
    pub(crate) session: Uuid,
}

/// A session that ended and that the store does not know about yet.
#[derive(Clone, Debug)]
pub(crate) struct Leaver {
    pub(crate) peer: PeerId,
    pub(crate) session: Uuid,
    pub(crate) at_ms: i64,
    /// It may come back with a token.
    pub(crate) kept: bool,
}

/// State under the registry's one common lock, which no forwarded signal takes.
#[derive(Debug)]
pub(crate) struct Roster<L> {
    /// Online peers in order of registration.
    pub(crate) online: BTreeMap<u64, PeerId>,
    /// How many of them are connected to this process.
    pub(crate) here: usize,
    pub(crate) departed: Departed,
    /// Lines that asked about single peers, by peer.
    watchers: HashMap<PeerId, Vec<(u64, L)>>,
    /// What each such socket asked about.
    watching: HashMap<u64, Vec<PeerId>>,
    /// Ends of resume windows, soonest first.
    pub(crate) windows: VecDeque<Window>,
    pub(crate) leavers: Vec<Leaver>,
    /// Grows with every change a snapshot shows.
    version: u64,
    snapshot: Option<Snapshot>,
}

#[derive(Debug)]
struct Snapshot {
    version: u64,
    built_at_ms: i64,
    frame: Frame,
}

/// How much a snapshot shows, and how often it is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SnapshotBounds {
    /// Most online peers; the latest to register are kept.
    pub(crate) max_peers: usize,
    /// Most departed peers; the latest to leave are kept.
    pub(crate) max_departed: usize,
    /// How long ago a departed peer may have left, in milliseconds.
    pub(crate) departed_age_ms: i64,
    /// Shortest time between two builds, in milliseconds.
    pub(crate) rebuild_ms: i64,
}

impl<L: Line> Roster<L> {
    pub(crate) fn new(max_departed: usize) -> Self {
        Self {
            online: BTreeMap::new(),
            here: 0,
            departed: Departed::new(max_departed),
            watchers: HashMap::new(),
            watching: HashMap::new(),
            windows: VecDeque::new(),
            leavers: Vec::new(),
            version: 0,
            snapshot: None,
        }
    }

    /// Notes a change that snapshots show.
    pub(crate) fn changed(&mut self) {
        self.version += 1;
    }

    /// Tells everybody who asked to hear of `peer`, but not the socket it is about. Returns the
    /// event's position in the common log.
    pub(crate) fn announce(
        &self,
        feed: &L::Feed,
        peer: &PeerId,
        last_seen_ms: Option<i64>,
        own_socket: u64,
    ) -> u64 {
        let frame = Frame::text(encode::presence_update(peer, last_seen_ms));
        for (socket, line) in self.watchers.get(peer).into_iter().flatten() {
            if *socket != own_socket {
                line.send(&frame);
            }
        }
        L::append(feed, &frame)
    }

    /// Whether a socket hears of single peers only.
    pub(crate) fn is_watching(&self, socket: u64) -> bool {
        self.watching.contains_key(&socket)
    }

    /// Makes a socket hear of these peers only.
    pub(crate) fn watch(&mut self, socket: u64, line: &L, peers: Vec<PeerId>) {
        self.unwatch(socket);
        for peer in &peers {
            self.watchers.entry(peer.clone()).or_default().push((socket, line.clone()));
        }
        self.watching.insert(socket, peers);
    }

    /// Ends what [`Roster::watch`] began.
    pub(crate) fn unwatch(&mut self, socket: u64) {
        for peer in self.watching.remove(&socket).unwrap_or_default() {
            if let Some(lines) = self.watchers.get_mut(&peer) {
                lines.retain(|(watcher, _)| *watcher != socket);
                if lines.is_empty() {
                    self.watchers.remove(&peer);
                }
            }
        }
    }

    /// The current snapshot: the shared one while nothing changed, a new one when the last is old
    /// enough or `force` says that the caller has waited. Else how long to wait, in milliseconds.
    ///
    /// Never answers with an old one: whoever asks may have been told of the change already.
    pub(crate) fn peers(
        &mut self,
        bounds: &SnapshotBounds,
        now_ms: i64,
        force: bool,
    ) -> Result<(Frame, bool), i64> {
        if let Some(snapshot) = &self.snapshot {
            if snapshot.version == self.version {
                return Ok((snapshot.frame.clone(), false));
            }
            let age_ms = now_ms - snapshot.built_at_ms;
            if !force && (0..bounds.rebuild_ms).contains(&age_ms) {
                return Err(bounds.rebuild_ms - age_ms);
            }
        }
        let frame = self.build(bounds, now_ms);
        let (version, built_at_ms) = (self.version, now_ms);
        self.snapshot = Some(Snapshot { version, built_at_ms, frame: frame.clone() });
        Ok((frame, true))
    }

    /// What snapshots show: the latest to register, in order, and the latest to leave.
    pub(crate) fn shown(
        &self,
        bounds: &SnapshotBounds,
        now_ms: i64,
    ) -> (impl ExactSizeIterator<Item = &PeerId>, impl Iterator<Item = (&PeerId, i64)>) {
        let hidden = self.online.len().saturating_sub(bounds.max_peers);
        let departed = self.departed.newest(now_ms - bounds.departed_age_ms);
        (self.online.values().skip(hidden), departed.take(bounds.max_departed))
    }

    fn build(&self, bounds: &SnapshotBounds, now_ms: i64) -> Frame {
        const PEER_BYTES: usize = 40;
        let (online, departed) = self.shown(bounds, now_ms);
        let capacity = PEER_BYTES * online.len();
        Frame::text(encode::peers(online, departed, capacity))
    }
}
