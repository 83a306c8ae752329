//! Links to verified nodes: dialled, kept, ended. In a small network all are linked; in a large one some
//! are, and the homes of rooms for as long as they are of use.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use proto::mesh::NodeKey;
use proto::mesh::descriptor::Signed;
use proto::mesh::link::{FRAME_MAX, Frame};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::view;
use crate::app::App;
use crate::domain::mesh::{Link, NODES_MAX, Peer};
use crate::store::node;
use crate::transport::link;

/// Between looks at who is to be dialled.
const EVERY: Duration = Duration::from_millis(250);
const AT_LEAST: Duration = Duration::from_millis(10);
/// The smaller key dials; the other side waits so long before it does.
const OTHER_SIDE: Duration = Duration::from_secs(3);
/// The longest wait before another try.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Between notes that linked nodes are there.
const NOTE: Duration = Duration::from_secs(30);
/// Between exchanges of descriptors, and how many.
const EXCHANGE: Duration = Duration::from_mins(10);
const EXCHANGED: i64 = 20;

/// How long a ban may take to be kept before the link ends all the same.
const BAN_WITHIN: Duration = Duration::from_secs(2);

#[derive(Clone, Copy)]
struct Try {
    at: Instant,
    failures: u32,
}

/// Keeps links for as long as this replica leads.
pub(crate) async fn run(app: Arc<App>, lead: CancellationToken) {
    let work = async {
        let mut dialler = Dialler::default();
        let mut note_at = Instant::now();
        let mut exchange_at = Instant::now() + EXCHANGE;
        loop {
            app.read_cuts();
            dialler.look(&app);
            dialler.dial_due(&app, &lead);
            dialler.part_idle(&app);
            let now = Instant::now();
            if now >= note_at {
                note_at = now + NOTE;
                note(&app, &app.mesh.links.all()).await;
            }
            if now >= exchange_at {
                exchange_at = now + EXCHANGE;
                for link in app.mesh.links.all() {
                    exchange(&app, &link).await;
                }
            }
            app.metrics.links.set(i64::try_from(app.mesh.links.len()).unwrap_or(0));
            let backlog = app.mesh.backlog.lock().bytes();
            app.metrics.backlog.set(i64::try_from(backlog).unwrap_or(0));
            let _ = timeout(EVERY, app.mesh.demanded.notified()).await;
            sleep(AT_LEAST).await;
        }
    };
    lead.run_until_cancelled(work).await;
    app.metrics.links.set(0);
}

/// Whom to dial, and when again.
#[derive(Default)]
struct Dialler {
    peers: Arc<Vec<Peer>>,
    by_key: HashMap<NodeKey, usize>,
    /// Nodes to be linked whether they are of use or not.
    kept: HashSet<NodeKey>,
    tries: HashMap<NodeKey, Try>,
}

impl Dialler {
    /// Takes over which nodes are known.
    fn look(&mut self, app: &App) {
        let peers = app.mesh.view.all();
        if !Arc::ptr_eq(&peers, &self.peers) {
            self.kept = app.mesh.kept(&peers);
            self.by_key = peers.iter().enumerate().map(|(at, peer)| (peer.key, at)).collect();
            self.tries.retain(|key, _| self.by_key.contains_key(key));
            self.peers = peers;
        }
        for link in app.mesh.links.all() {
            self.tries.remove(&link.key);
        }
    }

    /// Dials the nodes that are kept, and the homes that are needed.
    fn dial_due(&mut self, app: &Arc<App>, lead: &CancellationToken) {
        let (needed, lost) = app.mesh.demand.lock().due(app.node.clock.now_ms());
        app.metrics.wanted.set(i64::try_from(needed.len()).unwrap_or(0));
        app.metrics.overflow.with_label_values(&["home"]).inc_by(lost as u64);
        let (now, small) = (Instant::now(), app.mesh.links_all());
        let mut room = NODES_MAX.saturating_sub(app.mesh.links.keys_of_nodes().len());
        let wanted: HashSet<NodeKey> = self.kept.iter().copied().chain(needed).collect();
        for key in wanted {
            let Some(peer) = self.by_key.get(&key).and_then(|at| self.peers.get(*at)) else {
                continue;
            };
            if app.mesh.links.get(&key).is_some() || app.is_cut(&key) {
                continue;
            }
            // In a large network the other side may not need us.
            let ours = !small || app.mesh.rules.key < key || app.mesh.rules.url.is_none();
            let first = Try { at: if ours { now } else { now + OTHER_SIDE }, failures: 0 };
            let attempt = self.tries.entry(key).or_insert(first);
            if now < attempt.at || room == 0 {
                continue;
            }
            room -= 1;
            attempt.failures += 1;
            let wait = Duration::from_secs(1 << attempt.failures.min(10)).min(WAIT_MAX);
            // Dialling itself takes some seconds at most.
            attempt.at = now + wait.mul_f64(rand::random_range(0.8..1.2));
            let (app_of_dial, peer, stop) = (app.clone(), peer.clone(), lead.child_token());
            app.cx.spawn("mesh-link", async move { dial(app_of_dial, peer, stop).await });
        }
    }

    /// Ends links this node made in a large network when nobody uses them any more.
    fn part_idle(&self, app: &App) {
        if app.mesh.links_all() {
            return;
        }
        let now_ms = app.node.clock.now_ms();
        let idle_ms = i64::try_from(app.config.mesh.link_idle.as_millis()).unwrap_or(i64::MAX);
        for link in app.mesh.links.all() {
            let ours = link.dialled && link.url.is_some() && !self.kept.contains(&link.key);
            if ours && link.is_idle(now_ms, idle_ms) {
                link.spare.store(true, Ordering::Relaxed);
                link.stop.cancel();
            }
        }
    }
}

async fn dial(app: Arc<App>, peer: Peer, stop: CancellationToken) {
    if let Err(why) = link::dial(&app, &peer, stop).await {
        tracing::debug!(%why, "no link");
        // Of two that were dialled at once, one is refused.
        if app.mesh.links.get(&peer.key).is_none() {
            let _ = node::failed(&app.pool, &peer.key).await; // or the database is away
            view::refresh(&app).await;
        }
    }
}

/// A link was made: what each side of it begins with.
pub(crate) async fn greet(app: &Arc<App>, link: &Arc<Link>) {
    if link.url.is_some() {
        note(app, std::slice::from_ref(link)).await;
        view::refresh(app).await;
    }
    app.mesh.shifted.notify_one();
    exchange(app, link).await;
}

/// A link has ended, not because another took its place.
pub(crate) async fn part(app: &Arc<App>, link: &Arc<Link>) {
    if link.spare.load(Ordering::Relaxed) {
        let _ = node::parted(&app.pool, &link.key).await; // or the database is away
    } else if link.url.is_some() && app.mesh.leads() {
        let _ = node::failed(&app.pool, &link.key).await; // or the database is away
        view::refresh(app).await;
    }
    app.mesh.shifted.notify_one();
}

/// Ends a link to a node that sends what no honest node would, for an hour.
pub(crate) async fn ban(app: &Arc<App>, link: &Arc<Link>) {
    if link.banned.swap(true, Ordering::Relaxed) {
        return;
    }
    app.metrics.banned.inc();
    tracing::warn!(node = %proto::mesh::hex(&link.key[..8]), "a node is banned for an hour");
    // Before the link ends, or it would be back sooner. While the database is away it may come
    // back, and is banned again.
    let _ = timeout(BAN_WITHIN, node::ban(&app.pool, &link.key)).await;
    link.stop.cancel();
    view::refresh(app).await;
}

/// Notes that linked nodes are there, and how they are.
async fn note(app: &App, links: &[Arc<Link>]) {
    let nodes = links.iter().filter(|link| link.url.is_some() && !link.stop.is_cancelled());
    let (mut keys, mut heights, mut rtts) = (Vec::new(), Vec::new(), Vec::new());
    for link in nodes {
        keys.push(link.key.as_slice());
        heights.push(i16::try_from(link.height.load(Ordering::Relaxed)).unwrap_or(i16::MAX));
        let rtt_ms = i32::try_from(link.rtt_ms.load(Ordering::Relaxed)).unwrap_or(i32::MAX);
        rtts.push((rtt_ms >= 0).then_some(rtt_ms));
    }
    if !keys.is_empty() {
        // The next note says the same.
        let _ = node::linked(&app.pool, &keys, &heights, &rtts).await;
    }
}

/// Tells a linked node of some others.
async fn exchange(app: &App, link: &Link) {
    let Ok(items) = node::items(&app.pool, EXCHANGED).await else { return };
    let items = items.iter().filter_map(|item| serde_json::from_slice::<Signed>(item).ok());
    let (mut frame, mut size) = (Vec::new(), 0);
    for item in items {
        let length = serde_json::to_vec(&item).map_or(FRAME_MAX, |text| text.len() + 1);
        if size + length > FRAME_MAX - 100 {
            link.send(Bytes::from(Frame::Peers { items: std::mem::take(&mut frame) }.encode()));
            size = 0;
        }
        if length <= FRAME_MAX - 100 {
            size += length;
            frame.push(item);
        }
    }
    if !frame.is_empty() {
        link.send(Bytes::from(Frame::Peers { items: frame }.encode()));
    }
}
