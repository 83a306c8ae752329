//! Claiming and looking up owners, as the services do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pg::{Batch, GroupCommit, GroupLimits, Wake, Wakeups};
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};
use service::Context;
use sqlx::PgPool;

use crate::cache::Owners;
use crate::{Error, Key, PEER_MAX_BYTES, Policy, Proof};

/// NOTIFY channel on which released peers are named, in hex. A service's [`Wakeups`] has to
/// listen on it.
pub const CHANNEL: &str = "identity_pin";

/// How long an owner is believed without asking again.
pub const CACHE_TTL: Duration = Duration::from_secs(60);

/// Owners kept in the cache; about 150 bytes each.
const CACHE_PLACES: usize = 100_000;

const OWNER_OF: &str = "SELECT identity.owner_of($1)";
const CLAIM: &str = "SELECT identity.claim($1, $2, $3)";

/// The pins as one process uses them. Clones share the cache.
#[derive(Clone)]
pub struct Pins(Arc<Inner>);

struct Inner {
    policy: Policy,
    pool: PgPool,
    owners: Arc<Owners>,
    claims: GroupCommit<Claim, Option<Key>>,
    metrics: Metrics,
}

struct Claim {
    peer: Box<[u8]>,
    key: Key,
    proof: Proof,
}

impl Pins {
    /// Pins in `pool` under `policy`. `wakeups` has to listen on [`CHANNEL`].
    ///
    /// # Panics
    /// When called twice for one `cx`.
    pub fn new(pool: PgPool, policy: Policy, cx: &Context, wakeups: &Wakeups) -> Self {
        let owners = Arc::new(Owners::new(CACHE_PLACES, CACHE_TTL));
        let spawn = |name, task| cx.spawn(name, task);
        let writer = pool.clone();
        let limits = GroupLimits { lanes: 2, ..GroupLimits::new("identity_claims") };
        let claims = GroupCommit::start(limits, &cx.metrics, spawn, move |batch| {
            claim_all(writer.clone(), batch)
        });
        let metrics = Metrics::register(&cx.metrics).expect("one set of pins per process");
        cx.spawn("identity-cache", forget(owners.clone(), wakeups.clone(), cx.stop.clone()));
        Self(Arc::new(Inner { policy, pool, owners, claims, metrics }))
    }

    /// The policy in force.
    pub fn policy(&self) -> Policy {
        self.0.policy
    }

    /// The key that owns `peer`, as far as one is pinned; cached. Nobody owns anything under
    /// [`Policy::Open`].
    ///
    /// # Errors
    /// [`Error::Storage`].
    pub async fn owner(&self, peer: &[u8]) -> Result<Option<Key>, Error> {
        let inner = &*self.0;
        if inner.policy.is_open() {
            return Ok(None);
        }
        if let Some(key) = self.cached(peer) {
            return Ok(Some(key));
        }
        let asked = inner.owners.asked();
        let found: Option<Vec<u8>> =
            sqlx::query_scalar(OWNER_OF).bind(peer).fetch_one(&inner.pool).await?;
        let key = found.and_then(to_key);
        if let Some(key) = key {
            inner.owners.put(peer, key, asked);
        }
        Ok(key)
    }

    /// Pins `key` to `peer` when nobody owns it yet. `true` when `key` owns it now, after the
    /// commit; always `true` under [`Policy::Open`]. Cached; concurrent claims share a commit.
    ///
    /// # Errors
    /// [`Error::PeerLength`], [`Error::Storage`].
    pub async fn claim(&self, peer: &[u8], key: &Key, by: Proof) -> Result<bool, Error> {
        let inner = &*self.0;
        if inner.policy.is_open() {
            return Ok(true);
        }
        if peer.is_empty() || peer.len() > PEER_MAX_BYTES {
            return Err(Error::PeerLength);
        }
        let owner = match self.cached(peer) {
            Some(owner) => owner,
            None => {
                let asked = inner.owners.asked();
                let claim = Claim { peer: peer.into(), key: *key, proof: by };
                // Released between the claim and the look at it: the claim was refused then.
                let Some(owner) = inner.claims.write(claim).await? else { return Ok(false) };
                inner.owners.put(peer, owner, asked);
                owner
            }
        };
        let granted = owner == *key;
        if granted { &inner.metrics.granted } else { &inner.metrics.refused }.inc();
        Ok(granted)
    }

    fn cached(&self, peer: &[u8]) -> Option<Key> {
        let found = self.0.owners.get(peer);
        if found.is_some() { &self.0.metrics.hits } else { &self.0.metrics.misses }.inc();
        found
    }
}

impl fmt::Debug for Pins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pins").field("policy", &self.0.policy).finish_non_exhaustive()
    }
}

async fn claim_all(pool: PgPool, batch: Batch<Claim>) -> Result<Vec<Option<Key>>, pg::Error> {
    let peers: Vec<&[u8]> = batch.iter().map(|claim| &*claim.peer).collect();
    let keys: Vec<&[u8]> = batch.iter().map(|claim| &claim.key.as_bytes()[..]).collect();
    let proofs: Vec<i16> = batch.iter().map(|claim| claim.proof.to_sql()).collect();
    let owners: Vec<Option<Vec<u8>>> =
        sqlx::query_scalar(CLAIM).bind(peers).bind(keys).bind(proofs).fetch_all(&pool).await?;
    Ok(owners.into_iter().map(|owner| owner.and_then(to_key)).collect())
}

fn to_key(bytes: Vec<u8>) -> Option<Key> {
    <[u8; 32]>::try_from(bytes).ok().map(Key)
}

/// Forgets what an operator released, and everything when a notification may have been missed.
async fn forget(owners: Arc<Owners>, wakeups: Wakeups, stop: service::Stop) {
    let mut wakes = wakeups.subscribe();
    drop(wakeups); // it would keep its own channel open
    loop {
        let wake = tokio::select! {
            wake = wakes.next() => wake,
            // The seconds of a drain are not worth keeping it waiting for a release.
            () = stop.draining().cancelled() => None,
        };
        match wake {
            Some(Wake::Notified { channel, payload }) if &*channel == CHANNEL => {
                match from_hex(&payload) {
                    Some(peer) => owners.forget(&peer),
                    None => owners.forget_all(),
                }
            }
            Some(Wake::Notified { .. }) => {}
            Some(Wake::Resync) => owners.forget_all(),
            None => return,
        }
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

struct Metrics {
    granted: IntCounter,
    refused: IntCounter,
    hits: IntCounter,
    misses: IntCounter,
}

impl Metrics {
    fn register(to: &Registry) -> prometheus::Result<Self> {
        let claims = IntCounterVec::new(
            Opts::new("identity_claims_total", "Claims of a peer id by a proven key, by outcome."),
            &["outcome"],
        )?;
        to.register(Box::new(claims.clone()))?;
        let counter = |name: &str, help: &str| {
            let metric = IntCounter::new(name, help)?;
            to.register(Box::new(metric.clone())).map(|()| metric)
        };
        Ok(Self {
            granted: claims.with_label_values(&["pinned_or_known"]),
            refused: claims.with_label_values(&["refused"]),
            hits: counter("identity_cache_hits_total", "Owners found in the cache.")?,
            misses: counter("identity_cache_misses_total", "Owners the database was asked for.")?,
        })
    }
}
