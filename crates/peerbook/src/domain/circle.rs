//! One user's peers and their open connections, in memory.

use std::{collections::HashMap, sync::Arc};

use edge::ws::Frame;
use parking_lot::Mutex;
use proto::book::{
    Dialect, Envelope, Fingerprint,
    encode::{self, Extras, Listed, Source},
};
use smallvec::SmallVec;
use uuid::Uuid;

use super::{connection::Connection, lobby::Lobby, presence::Parcel};
use crate::store::{Account, Peer, RequireProof, Shelf, session::Elsewhere};

/// What a connection that is let in is told.
pub(crate) const VERIFIED: &str = "peer is verified";
/// What a connection hears whose peer is not approved.
pub(crate) const UNVERIFIED: &str = "Unverified peer, please check your inbox to verify";
/// What a connection hears whose peer is approved, but not proven as its user demands.
pub(crate) const UNPROVEN: &str = "Unproven peer, please prove its fingerprint";
/// What a connection hears when its peer's approval ends; it is closed then.
pub(crate) const REVOKED: &str = "peer's verification was revoked";

/// One user's peers and their open connections.
///
/// Invariant: who may send and receive is decided under this lock by the newest version seen, so
/// that nothing is forwarded for a peer after its revocation was applied.
pub(crate) struct Circle {
    pub(crate) uid: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    account: Option<Account>,
    members: HashMap<Fingerprint, Member>,
    /// Connections of the user's peers at other replicas, and which reading of theirs this is.
    elsewhere: HashMap<Fingerprint, SmallVec<[Elsewhere; 1]>>,
    reading: u64,
    /// Peers that are being revoked: shut before the commit, for the time until it is applied.
    fences: SmallVec<[Fence; 1]>,
}

/// Whom a change that is under way may put out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fence {
    /// One peer.
    One(Fingerprint),
    /// All of them.
    All,
}

struct Member {
    peer: Peer,
    links: SmallVec<[Arc<Connection>; 1]>,
    /// What the others were last told of it.
    told_online: bool,
}

/// What became of an envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Forwarded {
    /// Queued for a connection of the target.
    Sent,
    /// To be passed on to these replicas.
    Elsewhere {
        /// Where the target is connected.
        nodes: SmallVec<[Uuid; 1]>,
        /// Its fingerprint.
        target: Fingerprint,
        /// Only connections that have proven it receive anything.
        proven_only: bool,
        /// Version by which sender and target are verified.
        version: i64,
        /// It was queued for a connection here as well.
        sent: bool,
    },
    /// The sender may not send.
    Blocked,
    /// The target is one of the user's, but not there.
    Offline,
    /// The user has no such peer.
    Unknown,
}

/// What is new about a peer that was just let in.
pub(crate) struct Welcome {
    /// The connection that waited alone.
    pub(crate) to: Arc<Connection>,
    /// The secret that proves its peer from now on.
    pub(crate) token: String,
}

impl Circle {
    pub(super) fn new(uid: String) -> Self {
        Self { uid, state: Mutex::default() }
    }

    /// Version of what is known; 0 before anything is.
    pub(crate) fn version(&self) -> i64 {
        self.state.lock().version()
    }

    /// Whether no connection is open.
    pub(crate) fn is_quiet(&self) -> bool {
        self.state.lock().members.values().all(|member| member.links.is_empty())
    }

    /// Lets a connection in, or has it wait in the lobby; either way it is told. `true` when it
    /// is in.
    pub(crate) fn enter(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        lobby: &Lobby,
        now: i64,
    ) -> bool {
        let mut state = self.state.lock();
        if !state.admits(connection) {
            // Under the lock, so that an approval finds it there.
            lobby.enter(connection);
            connection.place.wait();
            connection.wait(state.reason(&connection.fp));
            if connection.line.is_closed() {
                lobby.leave(connection); // it ended on the way
            }
            return false;
        }
        if !connection.let_in(self) {
            return true;
        }
        state.link(connection, now);
        state.greet(&self.uid, connection, None);
        state.announce_arrival(connection);
        true
    }

    /// A connection is over.
    pub(crate) fn leave(&self, connection: &Arc<Connection>, now: i64) {
        let mut state = self.state.lock();
        let Some(member) = state.members.get_mut(&connection.fp) else { return };
        let before = member.links.len();
        member.links.retain(|link| !Arc::ptr_eq(link, connection));
        if before > 0 && member.links.is_empty() {
            member.peer.last_seen = Some(now);
            state.announce_if_changed(&connection.fp);
        }
    }

    /// Shuts peers before a change that will put them out is committed.
    pub(super) fn shut(&self, fence: &Fence) {
        self.state.lock().fences.push(fence.clone());
    }

    /// Ends what [`Circle::shut`] began, after the change was applied or has failed.
    pub(super) fn reopen(&self, fence: &Fence) {
        let mut state = self.state.lock();
        if let Some(at) = state.fences.iter().position(|known| known == fence) {
            state.fences.swap_remove(at);
        }
    }

    /// Takes over what the tables hold; `None` when the user is no more. Older versions change
    /// nothing. Everybody concerned is told.
    pub(super) fn apply(
        self: &Arc<Self>,
        shelf: Option<Shelf>,
        lobby: &Lobby,
        welcome: Option<&Welcome>,
        now: i64,
    ) {
        let mut state = self.state.lock();
        let Some(shelf) = shelf else {
            state.account = None;
            for (_, member) in std::mem::take(&mut state.members) {
                put_out(&member.links);
            }
            return;
        };
        if shelf.account.version <= state.version() {
            return;
        }
        state.account = Some(shelf.account);
        let mut old = std::mem::take(&mut state.members);
        for peer in shelf.peers {
            let mut member = Member { peer, links: SmallVec::new(), told_online: false };
            if let Some(before) = old.get_mut(&member.peer.fp) {
                member.links = std::mem::take(&mut before.links);
                member.told_online = before.told_online;
                member.peer.last_seen = member.peer.last_seen.max(before.peer.last_seen);
            }
            state.members.insert(member.peer.fp.clone(), member);
        }
        state.see_elsewhere();
        state.put_out_the_rejected();
        self.let_in_the_approved(&mut state, &old, lobby, welcome, now);
        for gone in old.values().filter(|gone| !state.members.contains_key(&gone.peer.fp)) {
            put_out(&gone.links);
            if gone.peer.verified {
                state.broadcast(&update(&gone.peer, false, false));
            }
        }
        state.announce_changes(&old);
    }

    fn let_in_the_approved(
        self: &Arc<Self>,
        state: &mut State,
        old: &HashMap<Fingerprint, Member>,
        lobby: &Lobby,
        welcome: Option<&Welcome>,
        now: i64,
    ) {
        if lobby.is_empty() {
            // Who comes later sees the version that was just noted.
            lobby.call_nobody();
            return;
        }
        let verified: Vec<Fingerprint> = state.verified().map(|peer| peer.fp.clone()).collect();
        for fp in verified {
            let is_it = |waiting: &Connection| {
                welcome.filter(|welcome| std::ptr::eq(&raw const *welcome.to, waiting))
            };
            let called = lobby.call(&fp, |waiting| {
                if is_it(waiting).is_some() {
                    waiting.set_proven(); // its user has just said that this is it
                }
                state.admits(waiting)
            });
            for connection in called {
                if connection.let_in(self) {
                    state.link(&connection, now);
                    let token = is_it(&connection).map(|welcome| welcome.token.as_str());
                    state.greet(&self.uid, &connection, token);
                }
            }
            if old.get(&fp).is_none_or(|before| !before.peer.verified) {
                for rest in lobby.of(&fp) {
                    rest.wait(UNPROVEN);
                }
            }
        }
    }

    /// Passes an envelope on.
    pub(crate) fn forward(
        &self,
        sender: &Connection,
        envelope: &Envelope<'_>,
        target: &str,
        capacity: usize,
    ) -> Forwarded {
        let state = self.state.lock();
        let Some(source) = state.members.get(&sender.fp).filter(|source| state.is_open(source))
        else {
            return Forwarded::Blocked;
        };
        let Some(member) = state.target(target) else { return Forwarded::Unknown };
        if !state.is_open(member) {
            return Forwarded::Offline;
        }
        // Once one connection has proven the fingerprint, nobody else receives under it.
        let others = || state.elsewhere_of(member);
        let proven_only =
            member.links.iter().any(|link| link.is_proven()) || others().any(|one| one.proven);
        let sent = hand_over(&source.peer, member, envelope, capacity, proven_only);
        let mut nodes: SmallVec<[Uuid; 1]> = SmallVec::new();
        for one in others().filter(|one| one.proven || !proven_only) {
            if !nodes.contains(&one.node) {
                nodes.push(one.node);
            }
        }
        match nodes.is_empty() {
            false => {
                let (target, version) = (member.peer.fp.clone(), state.version());
                Forwarded::Elsewhere { nodes, target, proven_only, version, sent }
            }
            true if sent => Forwarded::Sent,
            true => Forwarded::Offline,
        }
    }

    /// Takes an envelope that came over the bus; `false` when nobody here gets it.
    pub(super) fn receive(&self, parcel: &Parcel, envelope: &Envelope<'_>) -> bool {
        let state = self.state.lock();
        let open = |fp: &str| state.members.get(fp).filter(|member| state.is_open(member));
        let (Some(source), Some(member)) = (open(&parcel.from), open(&parcel.to)) else {
            return false;
        };
        let proven = parcel.proven_only || member.links.iter().any(|link| link.is_proven());
        let capacity = encode::envelope_capacity(parcel.text.len());
        hand_over(&source.peer, member, envelope, capacity, proven)
    }

    /// Takes over which peers are connected elsewhere; older readings change nothing. Tells
    /// everybody concerned unless `quiet`ly noted for the change that follows.
    pub(super) fn note_elsewhere<'e>(
        &self,
        reading: u64,
        found: impl Iterator<Item = &'e Elsewhere>,
        tell: bool,
        now: i64,
    ) {
        let state = &mut *self.state.lock();
        if reading <= state.reading {
            return;
        }
        state.reading = reading;
        let before = std::mem::take(&mut state.elsewhere);
        for one in found {
            state.elsewhere.entry(one.fp.clone()).or_default().push(one.clone());
        }
        state.see_elsewhere();
        for (fp, others) in before {
            let gone = others.iter().any(|one| one.is_in) && !state.elsewhere.contains_key(&fp);
            if gone && let Some(member) = state.members.get_mut(&fp) {
                member.peer.last_seen = Some(now);
            }
        }
        if tell {
            let verified: Vec<Fingerprint> = state.verified().map(|peer| peer.fp.clone()).collect();
            verified.iter().for_each(|fp| state.announce_if_changed(fp));
        }
    }

    /// The user's peers, as a connection of `dialect` is told them.
    pub(crate) fn list(&self, dialect: Dialect) -> Frame {
        self.state.lock().list(&self.uid, dialect)
    }

    /// Whether a connection may be heard.
    pub(crate) fn is_open_to(&self, connection: &Connection) -> bool {
        let state = self.state.lock();
        state.members.get(&connection.fp).is_some_and(|member| state.is_open(member))
    }

    /// Whether one of the user's peers is connected, here or elsewhere.
    pub(crate) fn is_online(&self, fp: &Fingerprint) -> bool {
        let state = self.state.lock();
        state.members.get(fp).is_some_and(|member| state.is_online(member))
    }
}

impl State {
    fn version(&self) -> i64 {
        self.account.as_ref().map_or(0, |account| account.version)
    }

    fn is_shut(&self, fp: &Fingerprint) -> bool {
        self.fences.iter().any(|fence| match fence {
            Fence::One(one) => one == fp,
            Fence::All => true,
        })
    }

    /// Whether a member may send and receive.
    fn is_open(&self, member: &Member) -> bool {
        member.peer.verified && (self.fences.is_empty() || !self.is_shut(&member.peer.fp))
    }

    fn needs_proof(&self, peer: &Peer) -> bool {
        needs_proof(self.account.as_ref().map_or(RequireProof::All, |a| a.require_proof), peer)
    }

    fn admits(&self, connection: &Connection) -> bool {
        self.members.get(&connection.fp).is_some_and(|member| {
            self.is_open(member) && (connection.is_proven() || !self.needs_proof(&member.peer))
        })
    }

    /// Why a connection has to wait.
    fn reason(&self, fp: &Fingerprint) -> &'static str {
        let verified = self.members.get(fp).is_some_and(|member| member.peer.verified);
        if verified { UNPROVEN } else { UNVERIFIED }
    }

    fn verified(&self) -> impl Iterator<Item = &Peer> {
        self.members.values().map(|member| &member.peer).filter(|peer| peer.verified)
    }

    /// The peer of a fingerprint, or else the one verified peer of a name.
    fn target(&self, target: &str) -> Option<&Member> {
        if let Some(member) = self.members.get(target) {
            return Some(member);
        }
        let mut named = self
            .members
            .values()
            .filter(|member| member.peer.verified && member.peer.name == target);
        let first = named.next()?;
        named.next().is_none().then_some(first)
    }

    fn link(&mut self, connection: &Arc<Connection>, now: i64) {
        let Some(member) = self.members.get_mut(&connection.fp) else { return };
        member.peer.last_seen = Some(now);
        // One that ended on the way has looked for its circle before it had one.
        if !connection.line.is_closed() {
            member.links.push(connection.clone());
        }
    }

    /// Tells a connection that it is in: the status, and in the README's dialect the list.
    fn greet(&self, uid: &str, connection: &Connection, token: Option<&str>) {
        connection.welcome(uid, token);
        if connection.dialect == Dialect::Readme {
            connection.tell(&self.list(uid, Dialect::Readme));
        }
        if let Some(frame) = connection.line.equipment(uid) {
            connection.tell(&frame);
        }
    }

    /// Whether a peer is connected, here or elsewhere.
    fn is_online(&self, member: &Member) -> bool {
        !member.links.is_empty()
            || member.peer.verified && self.elsewhere_of(member).next().is_some()
    }

    /// Notes when those who are in elsewhere came.
    fn see_elsewhere(&mut self) {
        for (fp, others) in &self.elsewhere {
            let came = others.iter().filter(|one| one.is_in).map(|one| one.since).max();
            if let Some(member) = self.members.get_mut(fp) {
                member.peer.last_seen = member.peer.last_seen.max(came);
            }
        }
    }

    /// Connections of a verified peer at other replicas.
    fn elsewhere_of(&self, member: &Member) -> impl Iterator<Item = &Elsewhere> {
        let needs_proof = self.needs_proof(&member.peer);
        let all = self.elsewhere.get(&member.peer.fp).into_iter().flatten();
        all.filter(move |one| one.may_be_in(needs_proof))
    }

    /// Tells everybody that a connection has opened, or only itself when its peer was there.
    fn announce_arrival(&mut self, connection: &Connection) {
        let Some(member) = self.members.get(&connection.fp) else { return };
        if !member.told_online {
            self.announce(&connection.fp);
        } else if connection.dialect == Dialect::Readme {
            connection.tell(&update(&member.peer, true, true));
        }
    }

    /// Tells everybody how a peer is.
    fn announce(&mut self, fp: &Fingerprint) {
        let Some(online) = self.members.get(fp).map(|member| self.is_online(member)) else {
            return;
        };
        if let Some(member) = self.members.get_mut(fp) {
            member.told_online = online;
            let frame = update(&member.peer, member.peer.verified, online);
            self.broadcast(&frame);
        }
    }

    /// Tells everybody whether a peer is connected, if they know otherwise.
    fn announce_if_changed(&mut self, fp: &Fingerprint) {
        if self.members.get(fp).is_some_and(|member| member.told_online != self.is_online(member)) {
            self.announce(fp);
        }
    }

    /// Tells everybody what is not as it was in `old`, whose connections have moved here.
    fn announce_changes(&mut self, old: &HashMap<Fingerprint, Member>) {
        let changed = self.members.iter().filter(|(fp, member)| {
            let peer = &member.peer;
            let (was_verified, same_name) = old.get(*fp).map_or((false, true), |before| {
                (before.peer.verified, before.peer.name == peer.name)
            });
            let same_online = member.told_online == self.is_online(member);
            // Requests are the user's business, not that of their peers.
            (peer.verified || was_verified)
                && !(peer.verified == was_verified && same_name && same_online)
        });
        let changed: Vec<Fingerprint> = changed.map(|(fp, _)| fp.clone()).collect();
        for fp in changed {
            self.announce(&fp);
        }
    }

    fn broadcast(&self, frame: &Frame) {
        let links = self.members.values().flat_map(|member| &member.links);
        for link in links.filter(|link| link.dialect == Dialect::Readme) {
            link.tell(frame);
        }
    }

    /// Closes connections that are not admitted any longer.
    fn put_out_the_rejected(&mut self) {
        let mut members = std::mem::take(&mut self.members);
        let mut rejected: Vec<Arc<Connection>> = Vec::new();
        for member in members.values_mut() {
            let may_stay = |link: &Connection| {
                member.peer.verified && (link.is_proven() || !self.needs_proof(&member.peer))
            };
            rejected.extend(member.links.iter().filter(|link| !may_stay(link)).cloned());
            member.links.retain(|link| may_stay(link));
        }
        self.members = members;
        put_out(&rejected);
    }

    fn list(&self, uid: &str, dialect: Dialect) -> Frame {
        let user = self.account.as_ref().map_or("", |account| account.email.as_str());
        let mut shown: Vec<&Member> =
            self.members.values().filter(|member| !member.peer.refused).collect();
        shown.sort_unstable_by(|a, b| {
            (a.peer.created_on, &a.peer.fp).cmp(&(b.peer.created_on, &b.peer.fp))
        });
        let listed =
            shown.into_iter().map(|member| (member, &member.peer)).map(|(member, peer)| Listed {
                fp: peer.fp.as_str(),
                name: &peer.name,
                kind: &peer.kind,
                user,
                verified: peer.verified,
                online: self.is_online(member),
                created_on: peer.created_on,
                verified_on: peer.verified_on,
                last_seen: peer.last_seen,
                properties: &peer.properties,
            });
        Frame::text(encode::list(dialect, uid, listed))
    }
}

/// Whether connections of a peer have to prove its fingerprint under its user's policy.
pub(super) fn needs_proof(policy: RequireProof, peer: &Peer) -> bool {
    let demanded = match policy {
        RequireProof::None => false,
        RequireProof::New => peer.needs_proof,
        RequireProof::All => true,
    };
    demanded || peer.bearer_used
}

/// Queues an envelope for the connections of a member; `false` when there are none.
fn hand_over(
    source: &Peer,
    member: &Member,
    envelope: &Envelope<'_>,
    capacity: usize,
    proven_only: bool,
) -> bool {
    let from = Source { fp: source.fp.as_str(), name: &source.name };
    let mut frames: [Option<Frame>; 2] = [None, None];
    let mut sent = false;
    for link in member.links.iter().filter(|link| !proven_only || link.is_proven()) {
        let frame = frames[link.dialect as usize].get_or_insert_with(|| {
            Frame::text_with(capacity, |out| {
                encode::envelope(link.dialect, from, envelope, out);
            })
        });
        sent |= link.line.send(frame.clone());
    }
    sent
}

fn update(peer: &Peer, verified: bool, online: bool) -> Frame {
    Frame::text(encode::peer_update(&peer.fp, &peer.name, verified, online))
}

/// The last thing these connections hear: what is still queued for them is not sent.
fn put_out(links: &[Arc<Connection>]) {
    let frame = Frame::text(encode::status(401, REVOKED, Extras::default()));
    for link in links {
        link.line.end_with(frame.clone(), 1008, REVOKED);
    }
}
