//! Everything a request handler needs, built once, and what runs beside the requests.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use edge::LimitKey;
use edge::limit::{Keyed, Rate};
use parking_lot::RwLock;
use pg::{GroupCommit, GroupLimits};
use proto::mesh::descriptor::Signed;
use proto::mesh::token::Secret;
use proto::mesh::{NodeKey, Room, unhex};
use service::{Context, Stop};
use sqlx::PgPool;
use tokio::sync::{Notify, mpsc};

use crate::config::Config;
use crate::domain::dht::{Dht, Settings};
use crate::domain::egress::Rules;
use crate::domain::lately::Lately;
use crate::domain::mesh::{Federation, Mesh, Rulebook};
use crate::domain::node::{Node, Pricing};
use crate::domain::posts::{Outcome, Paid};
use crate::domain::replay::Seen;
use crate::domain::rooms::{Bounds, Rooms};
use crate::error::Error;
use crate::federation::discovery::{CANDIDATES, Candidates};
use crate::federation::{self, feed};
use crate::metrics::Metrics;
use crate::store::post;
use crate::store::secret;
use crate::tasks;
use crate::transport::outgoing::Outgoing;

/// Addresses counted at the same time.
const ADDRESSES: usize = 200_000;
/// Questions of other nodes from one address.
const ASKS: Rate = Rate { burst: 60, per_second: 10 };
/// What waits longer for its commit is told to try again.
const RETRY_FOR: Duration = Duration::from_secs(2);

/// The node, as its handlers see it.
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) node: Node,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) dht: Option<Dht>,
    pub(crate) pool: PgPool,
    pub(crate) metrics: Metrics,
    pub(crate) stop: Stop,
    /// Posts by address.
    pub(crate) posts: Keyed<LimitKey>,
    /// Free look-ups by address.
    pub(crate) gets: Keyed<LimitKey>,
    pub(crate) denied: HashSet<Room>,
    /// Requests for who we are, and links, by address.
    pub(crate) asks: Keyed<LimitKey>,
    pub(crate) mesh: Mesh,
    pub(crate) outgoing: Outgoing,
    /// This replica's name among the node's.
    pub(crate) replica: String,
    /// The node's own descriptor, once its key is stamped.
    pub(crate) descriptor: RwLock<Option<Signed>>,
    pub(crate) announce_port: u16,
    /// Another replica listens to something new.
    pub(crate) interest_heard: Notify,
    /// Descriptors that linked nodes told of.
    pub(crate) candidates: mpsc::Sender<Signed>,
    pub(crate) candidates_in: Candidates,
    /// Some posts were not told of: the queue was full.
    pub(crate) overrun: AtomicBool,
    pub(crate) cx: Context,
    /// Proofs that were used.
    pub(crate) seen: Seen,
    /// Posts that listeners here were given.
    pub(crate) heard: Seen,
    /// What a crash of the database may take along.
    lately: Lately,
    /// The database's life in which proofs are written.
    boot_id: Arc<RwLock<Vec<u8>>>,
    /// The database may have begun another life.
    pub(crate) forgotten: Notify,
    payments: GroupCommit<Paid, Outcome>,
    untold: mpsc::Sender<i64>,
    cuts: RwLock<HashSet<NodeKey>>,
}

impl App {
    /// Finds out who the node is, joins the DHT, starts what runs beside the requests.
    ///
    /// `port` is the one that is listened on.
    pub(crate) async fn start(
        pool: PgPool,
        config: &Config,
        port: u16,
        cx: &Context,
    ) -> anyhow::Result<Arc<Self>> {
        let settled = identity(&pool, config).await?;
        let work = &config.work;
        anyhow::ensure!(work.pow_min <= work.pow_max, "--pow-min is above --pow-max");
        let pricing = Pricing {
            least: work.pow_min,
            most: work.pow_max,
            grace_bits: work.pow_grace,
            bind_address: work.token_bind_ip,
        };
        let metrics = Metrics::register(&cx.metrics)?;
        metrics.height.set(i64::from(pricing.least));
        let mut group = GroupLimits::new("payments");
        group.retry_for = RETRY_FOR;
        let writer = pool.clone();
        let boot_id = Arc::new(RwLock::new(settled.boot_id.clone()));
        let life = boot_id.clone();
        let spawn = cx.clone();
        let payments = GroupCommit::start(
            group,
            &cx.metrics,
            move |name, task| spawn.spawn(name, task),
            move |batch: pg::Batch<Paid>| {
                let (pool, boot_id) = (writer.clone(), life.read().clone());
                async move { post::pay(&pool, &boot_id, &batch).await }
            },
        );
        let denied = config.rooms.room_deny.iter().map(|text| Room::parse(text));
        let denied = denied.collect::<Result<_, _>>().context("--room-deny")?;
        let posts = config.rooms.address_posts;
        let gets = config.dht.free_gets;
        let node = Node::new(settled.seed, settled.secret(), pricing, cx.clock.clone());
        let rules = rulebook(config, node.key())?;
        let (untold, to_tell) = mpsc::channel(feed::UNTOLD);
        let (candidates, candidates_in) = mpsc::channel(CANDIDATES);
        let app = Arc::new(Self {
            node,
            outgoing: Outgoing::new(rules.egress.clone())?,
            mesh: Mesh::new(rules),
            replica: proto::mesh::hex(&rand::random::<[u8; 8]>()),
            descriptor: RwLock::default(),
            announce_port: config.mesh.announce_port.unwrap_or(port),
            interest_heard: Notify::new(),
            candidates,
            candidates_in: candidates_in.into(),
            overrun: AtomicBool::new(false),
            asks: Keyed::new(ASKS, ADDRESSES),
            cx: cx.clone(),
            heard: Seen::default(),
            untold,
            cuts: RwLock::default(),
            rooms: Rooms::new(bounds(config)),
            dht: dht(config)?,
            metrics,
            stop: cx.stop.clone(),
            posts: Keyed::new(
                Rate { burst: posts.saturating_mul(3), per_second: posts },
                ADDRESSES,
            ),
            gets: Keyed::new(Rate { burst: gets.saturating_mul(10), per_second: gets }, ADDRESSES),
            denied,
            seen: Seen::default(),
            lately: Lately::default(),
            boot_id,
            forgotten: Notify::new(),
            payments,
            pool,
            config: config.clone(),
        });
        tasks::start(&app, settled.root, cx);
        feed::start(&app, to_tell, cx);
        federation::own::start(&app, cx);
        federation::view::start(&app, cx);
        federation::interest::start(&app, cx);
        federation::leader::start(&app, cx);
        Ok(app)
    }

    /// Uses up a proof, with what it pays for; once, on whichever replica.
    pub(crate) async fn spend(&self, paid: Paid) -> Result<Outcome, Error> {
        let hash = paid.hash;
        if !self.seen.insert(hash, self.node.clock.now_ms()) {
            return Err(Error::PowReplayed);
        }
        match self.write(paid).await {
            Ok(Outcome::Replayed) => Err(Error::PowReplayed),
            Ok(Outcome::Forgotten) => {
                self.seen.forget(&hash);
                self.forgotten.notify_one();
                Err(Error::Storage)
            }
            Ok(outcome) => Ok(outcome),
            Err(why) => {
                tracing::warn!(error = &why as &dyn std::error::Error, "a payment was not kept");
                self.seen.forget(&hash);
                Err(Error::Storage)
            }
        }
    }

    /// Writes a payment, without looking whether it was seen.
    pub(crate) async fn write(&self, paid: Paid) -> Result<Outcome, pg::Error> {
        let bytes = paid.post.as_ref().map_or(0, |post| post.event.len()) + 64;
        let copy = paid.post.is_some().then(|| paid.clone());
        let outcome = self.payments.write_sized(paid, bytes).await?;
        if let (Outcome::Posted(_), Some(paid)) = (outcome, copy) {
            self.lately.keep(self.node.clock.now_ms(), paid);
        }
        Ok(outcome)
    }

    /// Begins another life of the database: tokens of before are void, and what may have been lost with it
    /// is written and told to the other replicas again. `false` when it is away once more; may be repeated.
    pub(crate) async fn begin(&self, root: &[u8], boot_id: &[u8]) -> bool {
        // In this order: what is checked from here on is of the new life. (A request between its check and its
        // write at this very moment may count once more.)
        self.node.renew_secret(Secret::derive(root, boot_id));
        boot_id.clone_into(&mut self.boot_id.write());
        for paid in self.lately.all() {
            let outcome = match self.payments.write(paid).await {
                Ok(outcome) if outcome != Outcome::Forgotten => outcome,
                _ => return false,
            };
            self.metrics.written_again.inc();
            self.tell_of(outcome);
        }
        true
    }

    /// Tells the other replicas of a post that was written.
    pub(crate) fn tell_of(&self, outcome: Outcome) {
        if let Outcome::Posted(number) = outcome
            && self.untold.try_send(number).is_err()
        {
            self.overrun.store(true, Ordering::Relaxed);
            self.metrics.overflow.with_label_values(&["replicas"]).inc();
        }
    }

    /// Whether a test wants no link to a node.
    pub(crate) fn is_cut(&self, key: &NodeKey) -> bool {
        self.cuts.read().contains(key)
    }

    /// Reads which nodes a test wants no link to, and ends those there are.
    pub(crate) fn read_cuts(&self) {
        let args = &self.config.mesh;
        let Some(file) = args.cut_file.as_ref().filter(|_| args.test) else { return };
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let cuts: HashSet<NodeKey> = text.split_whitespace().filter_map(unhex).collect();
        let cut = cuts.iter().filter_map(|key| self.mesh.links.get(key));
        cut.for_each(|link| link.stop.cancel());
        *self.cuts.write() = cuts;
    }
}

struct Settled {
    seed: [u8; 32],
    root: Vec<u8>,
    boot_id: Vec<u8>,
}

impl Settled {
    fn secret(&self) -> Secret {
        Secret::derive(&self.root, &self.boot_id)
    }
}

async fn identity(pool: &PgPool, config: &Config) -> anyhow::Result<Settled> {
    let root = match config.node.secret {
        Some(key) => key.0.to_vec(),
        None => secret::keep(pool, "server_secret", rand::random()).await?,
    };
    let seed = match config.node.node_seed {
        Some(key) => key.0.to_vec(),
        None => secret::keep(pool, "node_seed", rand::random()).await?,
    };
    let seed = seed.try_into().ok().context("the node's seed in the database has no 32 bytes")?;
    let boot_id = secret::boot_id(pool, rand::random()).await?;
    Ok(Settled { seed, root, boot_id })
}

/// Who this node is to others.
fn rulebook(config: &Config, key: NodeKey) -> anyhow::Result<Rulebook> {
    let args = &config.mesh;
    let egress = Rules { allow_private: args.allow_private, denied: args.deny_cidrs.clone() };
    if let Some(url) = &config.node.public_url {
        egress
            .target(url)
            .context("--public-url: expected https://HOST[:PORT], nothing behind it")?;
    }
    let federation = match args.federation.as_str() {
        "off" => Federation::Off,
        "allowlist" => Federation::AllowList(args.allow_keys.iter().map(|key| key.0).collect()),
        _ => Federation::Open,
    };
    Ok(Rulebook {
        key,
        url: config.node.public_url.clone(),
        network: config.node.network.clone(),
        network_key: args.network_key.map(|key| key.0),
        federation,
        id_bits: args.id_bits,
        links: args.links,
        egress,
    })
}

fn bounds(config: &Config) -> Bounds {
    let rooms = &config.rooms;
    Bounds {
        streams: rooms.max_streams,
        streams_per_room: rooms.max_streams_per_room,
        streams_per_address: rooms.max_streams_per_address,
        rooms_per_address: rooms.max_rooms_per_address,
        rooms: rooms.max_rooms,
        queue: rooms.stream_queue,
        posts_per_minute: rooms.room_posts_per_minute,
    }
}

fn dht(config: &Config) -> anyhow::Result<Option<Dht>> {
    let args = &config.dht;
    if args.dht == "off" {
        return Ok(None);
    }
    let bootstrap = args.dht_bootstrap.as_ref().map(|list| {
        list.split(',').map(str::trim).filter(|node| !node.is_empty()).map(str::to_owned).collect()
    });
    let settings = Settings {
        port: args.dht_port,
        bootstrap,
        timeout: args.dht_timeout,
        public_ip: args.dht_public_ip,
    };
    Ok(Some(Dht::start(&settings).context("cannot join the DHT")?))
}
