//! Who else is there: the DHT, static seeds, what linked nodes tell; each asked who it is.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use proto::mesh::descriptor::{ANSWER_MAX, Signed};
use proto::mesh::{NodeKey, identity};
use rand::seq::SliceRandom as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{verify, view};
use crate::app::App;
use crate::domain::dht::{Address, Dht, Item};
use crate::store::node;

/// Between announcements, give or take a fifth.
const ANNOUNCE: Duration = Duration::from_mins(15);
/// Between publications of the own descriptor.
const PUBLISH: Duration = Duration::from_hours(1);
/// Between looks into the DHT: while there are few nodes the pause doubles up to the first, then
/// it is the second.
const LOOK_FEW: Duration = Duration::from_mins(1);
const LOOK: Duration = Duration::from_mins(10);
const FEW: usize = 3;
/// Addresses asked after one look, and of one network.
const PROBES: usize = 20;
const PROBES_PER_NET: usize = 2;
/// Nodes asked who they are at once.
const DUE: i64 = 20;
/// Between rounds of asking, and the longest wait before a seed is tried again.
const ROUND: Duration = Duration::from_millis(500);
const SEED_WAIT: Duration = Duration::from_mins(1);
/// Failures in a row after which the DHT is asked for a node's new address.
const LOST: i32 = 3;

/// Looks for other nodes for as long as this replica leads.
pub(crate) async fn run(app: Arc<App>, lead: CancellationToken) {
    let work = async {
        // What was known before is tried at once.
        while node::begin(&app.pool).await.is_err() {
            sleep(ROUND).await;
        }
        // Others ask who we are as soon as they hear of us.
        while app.descriptor.read().is_none() {
            sleep(Duration::from_millis(100)).await;
        }
        tokio::join!(in_dht(&app), publishing(&app), seeds(&app), asking(&app), listening(&app));
    };
    lead.run_until_cancelled(work).await;
}

/// Announces this node in the DHT and looks for others.
async fn in_dht(app: &Arc<App>) {
    let Some(dht) = &app.dht else { return };
    let rules = &app.mesh.rules;
    let key = rules.network_key.as_ref().map(<[u8; 32]>::as_slice);
    let infohash = identity::infohash(&rules.network, key);
    let mut announce_at = Instant::now();
    let mut pause = Duration::from_secs(1);
    loop {
        // In this order: the look-up finds the nodes to announce to, with their write tokens.
        let found = dht.peers(infohash).await;
        if rules.url.is_some()
            && Instant::now() >= announce_at
            && dht.announce(infohash, app.announce_port).await
        {
            announce_at = Instant::now() + ANNOUNCE.mul_f64(rand::random_range(0.8..1.2));
        }
        let found = found.into_iter().map(SocketAddr::V4).collect();
        probe(app, found).await;
        if app.mesh.view.all().len() < FEW {
            sleep(pause).await;
            pause = (pause * 2).min(LOOK_FEW);
        } else {
            sleep(LOOK).await;
        }
    }
}

/// Asks addresses from the DHT who they are.
async fn probe(app: &Arc<App>, mut found: Vec<SocketAddr>) {
    found.shuffle(&mut rand::rng());
    let mut nets: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut asked = FuturesUnordered::new();
    for address in found {
        let private = app.mesh.rules.egress.allow_private;
        let in_net = nets.entry(crate::domain::mesh::network(address.ip())).or_default();
        if asked.len() >= PROBES || (!private && *in_net >= PROBES_PER_NET) {
            continue;
        }
        // One address once an hour, whatever ports it is named with.
        let what = if private { address.to_string() } else { address.ip().to_string() };
        let id = app.node.address_id(&what);
        if !matches!(node::may_probe(&app.pool, &id).await, Ok(true)) {
            continue;
        }
        *in_net += 1;
        asked.push(async move {
            let outcome = match app.outgoing.probe(address, "/mesh/id", ANSWER_MAX).await {
                Ok(answer) => heard(app, &answer.body).await,
                Err(why) => {
                    tracing::debug!(%why, "an address of the DHT is no node");
                    "unreachable"
                }
            };
            app.metrics.probes.with_label_values(&[outcome]).inc();
        });
    }
    while asked.next().await.is_some() {}
}

/// A descriptor somebody gave us.
async fn heard(app: &App, text: &[u8]) -> &'static str {
    let Ok(signed) = serde_json::from_slice::<Signed>(text) else { return "malformed" };
    match hear(app, &signed).await {
        Ok(()) => "heard",
        Err(verify::Doubt::Own) => "own",
        Err(why) => {
            tracing::debug!(%why, "a descriptor is of no use");
            "unfit"
        }
    }
}

async fn hear(app: &App, signed: &Signed) -> Result<(), verify::Doubt> {
    let described = verify::admit(app, signed).await?;
    verify::remember(app, signed, &described).await
}

/// Takes in what linked nodes tell.
async fn listening(app: &Arc<App>) {
    let mut candidates = app.candidates_in.lock().await;
    while let Some(signed) = candidates.recv().await {
        if let Err(why) = hear(app, &signed).await {
            tracing::debug!(%why, "told of a node that is none");
        }
    }
}

/// Puts the own descriptor where whoever knows the key finds it.
async fn publishing(app: &Arc<App>) {
    let Some(dht) = &app.dht else { return };
    loop {
        let signed = app.descriptor.read().clone();
        if let Some(signed) = signed
            && let Some((key, value, signature)) = signed.parts()
        {
            let address = Address { key, salt: identity::SALT.to_vec() };
            let item = Item { seq: signed.seq, value: value.to_vec(), signature };
            if let Err(why) = dht.put(&address, &item, None).await {
                tracing::debug!(%why, "the descriptor was not published");
            }
        }
        sleep(PUBLISH).await;
    }
}

/// Asks the static seeds who they are until they are linked.
async fn seeds(app: &Arc<App>) {
    let mut pause = Duration::from_secs(1);
    loop {
        let known: HashSet<String> =
            app.mesh.links.all().iter().filter_map(|link| link.url.clone()).collect();
        for url in &app.config.mesh.peers {
            if known.contains(url) || app.mesh.rules.url.as_ref() == Some(url) {
                continue;
            }
            match app.outgoing.get(url, "/mesh/id", ANSWER_MAX).await {
                Ok(answer) => drop(heard(app, &answer.body).await),
                Err(why) => tracing::debug!(%why, "a seed does not answer"),
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(SEED_WAIT);
    }
}

/// Asks nodes that were told of, and such as were not seen for long, to prove who they are.
async fn asking(app: &Arc<App>) {
    loop {
        let due = node::due(&app.pool, DUE).await.unwrap_or_default();
        let mut asked = FuturesUnordered::new();
        for candidate in due {
            asked.push(async move {
                let Ok(key) = NodeKey::try_from(candidate.key.as_slice()) else { return };
                let outcome = ask(app, &key, &candidate.item).await;
                app.metrics
                    .probes
                    .with_label_values(&[outcome.map_or("failed", |()| "verified")])
                    .inc();
                if outcome.is_none() {
                    // The database may be away as well: then it stays due.
                    let _ = node::failed(&app.pool, &key).await;
                    if candidate.fails % LOST == LOST - 1 {
                        search(app, &key).await;
                    }
                }
            });
        }
        let any = !asked.is_empty();
        while asked.next().await.is_some() {}
        if any {
            view::refresh(app).await;
        }
        sleep(ROUND).await;
    }
}

async fn ask(app: &App, key: &NodeKey, item: &[u8]) -> Option<()> {
    let signed: Signed = serde_json::from_slice(item).ok()?;
    let tried = async {
        let described = match verify::admit(app, &signed).await {
            // It was fine when it was heard of; the node tells of a newer one when linked.
            Err(verify::Doubt::Unfit(proto::mesh::descriptor::Unfit::Age)) => {
                let url = app.mesh.view.all().iter().find(|peer| peer.key == *key)?.url.clone();
                return verify::hello(app, key, &url).await.ok();
            }
            described => described.ok()?,
        };
        verify::hello(app, key, &described.url?)
            .await
            .inspect_err(|why| {
                tracing::debug!(%why, "a node does not prove itself");
            })
            .ok()
    };
    tried.await
}

/// Looks for where a node that is gone from its address went.
async fn search(app: &App, key: &NodeKey) {
    let Some(dht) = &app.dht else { return };
    if let Some(signed) = published(dht, key).await {
        let _ = hear(app, &signed).await; // or it is what was known
    }
}

async fn published(dht: &Dht, key: &NodeKey) -> Option<Signed> {
    let address = Address { key: *key, salt: identity::SALT.to_vec() };
    let item = dht.get(&address, true).await.ok()?.item?;
    Some(Signed {
        k: proto::mesh::hex(key),
        salt: "wsm1".to_owned(),
        seq: item.seq,
        v: String::from_utf8(item.value).ok()?,
        sig: proto::mesh::hex(&item.signature),
    })
}

/// Descriptors from links that wait to be looked at.
pub(crate) const CANDIDATES: usize = 256;

/// Where they wait: one leader at a time reads them.
pub(crate) type Candidates = tokio::sync::Mutex<mpsc::Receiver<Signed>>;
