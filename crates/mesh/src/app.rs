//! Everything a request handler needs, built once, and what runs beside the requests.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use edge::LimitKey;
use edge::limit::{Keyed, Rate};
use pg::{GroupCommit, GroupLimits};
use proto::mesh::Room;
use proto::mesh::price::{self, Kind};
use proto::mesh::token::Secret;
use service::{Context, Stop};
use sqlx::PgPool;

use crate::config::Config;
use crate::domain::dht::{Dht, Settings};
use crate::domain::load::Sampler;
use crate::domain::node::{Node, Pricing};
use crate::domain::replay::Seen;
use crate::domain::rooms::{Bounds, Rooms, farewell};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::store::post::{self, Paid};
use crate::store::secret;
use crate::transport::respond;

/// Addresses counted at the same time.
const ADDRESSES: usize = 200_000;
/// Between samples of the load.
const SAMPLE: Duration = Duration::from_secs(1);
/// Between a stream's signs of life.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Every second sign of life carries a fresh token and price.
const PRICE_EVERY: u32 = 2;
/// Between rounds of forgetting.
const SWEEP: Duration = Duration::from_secs(10);
/// Between looks at whether used proofs were lost.
const BOOT_CHECK: Duration = Duration::from_secs(5);
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
    seen: Seen,
    payments: GroupCommit<Paid, bool>,
}

impl App {
    /// Finds out who the node is, joins the DHT, starts what runs beside the requests.
    pub(crate) async fn start(
        pool: PgPool,
        config: &Config,
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
        let spawn = cx.clone();
        let payments = GroupCommit::start(
            group,
            &cx.metrics,
            move |name, task| spawn.spawn(name, task),
            move |batch: pg::Batch<Paid>| {
                let pool = writer.clone();
                async move { post::pay(&pool, &batch).await }
            },
        );
        let denied = config.rooms.room_deny.iter().map(|text| Room::parse(text));
        let denied = denied.collect::<Result<_, _>>().context("--room-deny")?;
        let posts = config.rooms.address_posts;
        let gets = config.dht.free_gets;
        let app = Arc::new(Self {
            node: Node::new(settled.seed, settled.secret(), pricing, cx.clock.clone()),
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
            payments,
            pool,
            config: config.clone(),
        });
        app.spawn(settled.root, cx);
        Ok(app)
    }

    /// Uses up a proof, with what it pays for; once, on whichever replica.
    pub(crate) async fn spend(&self, paid: Paid) -> Result<(), Error> {
        let hash = paid.hash;
        if !self.seen.insert(hash, self.node.clock.now_ms()) {
            return Err(Error::PowReplayed);
        }
        let bytes = paid.post.as_ref().map_or(0, |post| post.event.len()) + 64;
        match self.payments.write_sized(paid, bytes).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::PowReplayed),
            Err(why) => {
                tracing::warn!(error = &why as &dyn std::error::Error, "a payment was not kept");
                self.seen.forget(&hash);
                Err(Error::Storage)
            }
        }
    }

    /// What a post to a room costs anybody now, as an event.
    fn price_event(&self, room: &Room, recent: u32) -> Option<Bytes> {
        // Tokens for one address have to be fetched from it.
        if self.config.work.token_bind_ip {
            return None;
        }
        let quote = self.node.quote_for(Kind::Post, recent, None);
        let value = serde_json::json!({
            "room": room.to_string(),
            "token": quote.token,
            "height": price::height(quote.work),
            "target": respond::target(quote.work),
            "recent": recent,
        });
        Some(Bytes::from(format!("event: price\ndata: {value}\n\n")))
    }

    fn spawn(self: &Arc<Self>, root: Vec<u8>, cx: &Context) {
        let app = self.clone();
        cx.spawn("mesh-load", async move {
            let work = async {
                let mut sampler = Sampler::new(app.config.work.load_file.clone());
                loop {
                    tokio::time::sleep(SAMPLE).await;
                    if let Some(height) = app.node.sample(sampler.sample()) {
                        app.metrics.height.set(i64::from(height));
                        let now_ms = app.node.clock.now_ms();
                        app.rooms.each(now_ms, |room, recent| app.price_event(room, recent));
                    }
                }
            };
            let _: Option<()> = app.stop.draining().run_until_cancelled(work).await;
        });
        let app = self.clone();
        cx.spawn("mesh-heartbeat", async move {
            let work = async {
                for beat in 1_u32.. {
                    tokio::time::sleep(HEARTBEAT).await;
                    let now_ms = app.node.clock.now_ms();
                    let alive = Bytes::from_static(b": hb\n\n");
                    let with_price = beat % PRICE_EVERY == 0;
                    app.rooms.each(now_ms, |room, recent| {
                        let price = with_price.then(|| app.price_event(room, recent)).flatten();
                        Some(price.unwrap_or_else(|| alive.clone()))
                    });
                }
            };
            let _: Option<()> = app.stop.draining().run_until_cancelled(work).await;
            app.rooms.end_all(&farewell("shutdown"));
        });
        let (pool, stop) = (self.pool.clone(), self.stop.clone());
        cx.spawn("mesh-janitor", async move {
            let work = async {
                loop {
                    match post::sweep(&pool).await {
                        Ok(true) => {}
                        Ok(false) | Err(_) => tokio::time::sleep(SWEEP).await,
                    }
                }
            };
            let _: Option<()> = stop.draining().run_until_cancelled(work).await;
        });
        let app = self.clone();
        cx.spawn("mesh-boot", async move {
            let work = async {
                loop {
                    tokio::time::sleep(BOOT_CHECK).await;
                    // While the database is away nothing is spent either.
                    if let Ok(boot_id) = secret::boot_id(&app.pool, rand::random()).await {
                        app.node.renew_secret(Secret::derive(&root, &boot_id));
                    }
                }
            };
            let _: Option<()> = app.stop.draining().run_until_cancelled(work).await;
        });
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
