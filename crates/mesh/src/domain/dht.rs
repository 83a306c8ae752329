//! The BitTorrent DHT on behalf of clients, whose keys never come here.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use mainline::async_dht::AsyncDht;
use mainline::errors::{ConcurrencyError, PutMutableError, PutQueryError};
use mainline::{Dht as Mainline, MutableItem};
use parking_lot::Mutex;
use proto::mesh::NodeKey;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::Error;

/// Look-ups at once, and waiting for their turn.
const IN_FLIGHT: usize = 32;
const QUEUED: usize = 64;
/// How long an item is good for, and how long its absence.
const HIT: Duration = Duration::from_secs(30);
const MISS: Duration = Duration::from_secs(10);
/// Answers remembered, at most 1.2 kB each.
const CACHED: usize = 4_096;
/// A fast get ends at so many copies, or so long after the first.
const FAST_COPIES: usize = 5;
const FAST: Duration = Duration::from_millis(150);
/// The longest any look-up may take.
const LONGEST: Duration = Duration::from_secs(15);

/// Addresses taken from one look-up.
const PEERS_MAX: usize = 500;

/// How the DHT is reached.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) port: Option<u16>,
    /// `host:port`s to start from; the well-known ones when `None`.
    pub(crate) bootstrap: Option<Vec<String>>,
    pub(crate) timeout: Duration,
    pub(crate) public_ip: Option<Ipv4Addr>,
}

/// A mutable item, as a client named or the DHT gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) seq: i64,
    pub(crate) value: Vec<u8>,
    pub(crate) signature: [u8; 64],
}

/// Where an item lies: its owner's key and a salt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) key: NodeKey,
    /// Empty for none.
    pub(crate) salt: Vec<u8>,
}

impl Address {
    fn salt(&self) -> Option<&[u8]> {
        // `Some(b"")` would sign and look up something else.
        (!self.salt.is_empty()).then_some(&self.salt)
    }
}

/// What a get found.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) item: Option<Item>,
    /// Nodes that had it, and that were asked.
    pub(crate) copies: u32,
    pub(crate) asked: u32,
    pub(crate) cached: bool,
}

/// Our part of the DHT.
pub(crate) struct Dht {
    dht: AsyncDht,
    turns: Semaphore,
    waiting: Semaphore,
    cache: Mutex<HashMap<Address, (Instant, Got)>>,
    writing: Mutex<HashSet<Address>>,
}

impl Dht {
    /// Joins it.
    pub(crate) fn start(settings: &Settings) -> std::io::Result<Self> {
        let mut builder = Mainline::builder();
        builder.server_mode().request_timeout(settings.timeout);
        match &settings.bootstrap {
            Some(nodes) if nodes.is_empty() => {
                builder.no_bootstrap();
            }
            Some(nodes) => {
                builder.bootstrap(nodes);
            }
            None => {}
        }
        if let Some(port) = settings.port {
            builder.port(port);
        }
        if let Some(ip) = settings.public_ip {
            builder.public_ip(ip);
        }
        Ok(Self {
            dht: builder.build()?.as_async(),
            turns: Semaphore::new(IN_FLIGHT),
            waiting: Semaphore::new(IN_FLIGHT + QUEUED),
            cache: Mutex::default(),
            writing: Mutex::default(),
        })
    }

    /// The most recent item; from memory when asked for lately.
    pub(crate) async fn get(&self, address: &Address, full: bool) -> Result<Got, Error> {
        if let Some(known) = self.cached(address) {
            return Ok(known);
        }
        let got = self.look_up(address, full).await?;
        self.remember(address, got.clone());
        Ok(got)
    }

    async fn look_up(&self, address: &Address, full: bool) -> Result<Got, Error> {
        let _place = self.waiting.try_acquire().map_err(|_| Error::DhtUnavailable)?;
        let _turn = self.turns.acquire().await.map_err(|_| Error::DhtUnavailable)?;
        guarded(self.ask(address, full)).await?
    }

    async fn ask(&self, address: &Address, full: bool) -> Result<Got, Error> {
        let query = self.dht.get_mutable_detailed(&address.key, address.salt(), None);
        let mut items = query.items;
        let mut best: Option<Item> = None;
        let (mut copies, mut until) = (0_u32, None);
        loop {
            let next = match until {
                Some(until) => match timeout_at(until, items.next()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
                None => items.next().await,
            };
            let Some(found) = next else { break };
            copies += 1;
            let newer = best.as_ref().is_none_or(|best| {
                (best.seq, best.value.as_slice()) < (found.seq(), found.value())
            });
            if newer {
                best = Some(Item {
                    seq: found.seq(),
                    value: found.value().to_vec(),
                    signature: *found.signature(),
                });
            }
            if !full {
                until.get_or_insert_with(|| Instant::now() + FAST);
                if usize::try_from(copies).is_ok_and(|copies| copies >= FAST_COPIES) {
                    break;
                }
            }
        }
        let mut asked = copies;
        if full || best.is_none() {
            // The query has ended, so that its summary is there.
            let outcome = query.outcome.recv().await;
            asked = outcome.queried.max(copies);
            if best.is_none() && outcome.queried == 0 {
                return Err(Error::DhtUnavailable);
            }
        }
        Ok(Got { item: best, copies, asked, cached: false })
    }

    /// Writes an item its owner signed; at how many nodes.
    ///
    /// The DHT itself takes another value of the same sequence number, so it is read first.
    pub(crate) async fn put(
        &self,
        address: &Address,
        item: &Item,
        cas: Option<i64>,
    ) -> Result<u32, Error> {
        if !self.writing.lock().insert(address.clone()) {
            return Err(Error::ConflictRisk);
        }
        let _writing = Writing { writing: &self.writing, address };
        let stored = self.look_up(address, true).await?.item;
        match &stored {
            Some(stored) if stored.seq > item.seq => return Err(Error::SeqTooOld(stored.seq)),
            Some(stored) if stored.seq == item.seq && stored.value != item.value => {
                return Err(Error::SeqConflict);
            }
            _ => {}
        }
        if cas.is_some_and(|cas| stored.as_ref().is_some_and(|stored| stored.seq != cas)) {
            return Err(Error::CasMismatch);
        }
        let Item { seq, value, signature } = item;
        let signed =
            MutableItem::new_signed_unchecked(address.key, *signature, value, *seq, address.salt());
        let stored_at = match guarded(self.dht.put_mutable(signed, cas)).await? {
            Ok(outcome) => outcome.stored_at,
            Err(PutMutableError::Concurrency(ConcurrencyError::CasFailed)) => {
                return Err(Error::CasMismatch);
            }
            Err(PutMutableError::Concurrency(_)) => return Err(Error::ConflictRisk),
            Err(PutMutableError::Query(PutQueryError::NoClosestNodes)) => {
                return Err(Error::DhtUnavailable);
            }
            Err(PutMutableError::Query(_)) => return Err(Error::DhtTimeout),
        };
        let got =
            Got { item: Some(item.clone()), copies: stored_at, asked: stored_at, cached: false };
        self.remember(address, got);
        Ok(stored_at)
    }

    /// Who announced itself under an infohash.
    pub(crate) async fn peers(&self, infohash: [u8; 20]) -> HashSet<SocketAddrV4> {
        let ask = async {
            let mut found = HashSet::new();
            let mut answers = self.dht.get_peers(infohash.into());
            while let Some(peers) = answers.next().await {
                // Each answer has at most some hundred; nobody gets to fill the memory.
                found.extend(peers.into_iter().take(PEERS_MAX.saturating_sub(found.len())));
            }
            found
        };
        guarded(ask).await.unwrap_or_default()
    }

    /// Announces this node under an infohash, at `port` of the address the DHT sees.
    pub(crate) async fn announce(&self, infohash: [u8; 20], port: u16) -> bool {
        let announced = guarded(self.dht.announce_peer(infohash.into(), Some(port))).await;
        announced.is_ok_and(|answer| answer.is_ok())
    }

    fn cached(&self, address: &Address) -> Option<Got> {
        let mut cache = self.cache.lock();
        let (since, got) = cache.get(address)?;
        let life = if got.item.is_some() { HIT } else { MISS };
        if since.elapsed() < life {
            return Some(Got { cached: true, ..got.clone() });
        }
        cache.remove(address);
        None
    }

    fn remember(&self, address: &Address, got: Got) {
        let mut cache = self.cache.lock();
        if cache.len() >= CACHED {
            cache.retain(|_, (since, _)| since.elapsed() < MISS);
            if cache.len() >= CACHED {
                cache.clear();
            }
        }
        cache.insert(address.clone(), (Instant::now(), got));
    }
}

/// In bounded time; the library panics when its own thread has gone.
async fn guarded<T>(query: impl Future<Output = T>) -> Result<T, Error> {
    let query = timeout(LONGEST, AssertUnwindSafe(query).catch_unwind());
    query.await.map_err(|_| Error::DhtTimeout)?.map_err(|_| Error::DhtUnavailable)
}

struct Writing<'d> {
    writing: &'d Mutex<HashSet<Address>>,
    address: &'d Address,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.writing.lock().remove(self.address);
    }
}
