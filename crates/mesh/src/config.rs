//! Settings of the mesh service.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use service::duration;
use turn::TurnArgs;

/// Settings of the mesh service; what each is for stands in its help text.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    #[command(flatten)]
    pub(crate) listen: edge::ListenArgs,
    #[command(flatten)]
    pub(crate) database: pg::DatabaseArgs,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(flatten)]
    pub(crate) work: WorkArgs,
    #[command(flatten)]
    pub(crate) rooms: RoomArgs,
    #[command(flatten)]
    pub(crate) dht: DhtArgs,
    #[command(flatten)]
    pub(crate) ice: IceArgs,
    #[command(flatten)]
    pub(crate) mesh: MeshArgs,
}

/// Other nodes.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Other nodes")]
pub(crate) struct MeshArgs {
    /// With which nodes this one links: any of the network, those named, none.
    #[arg(long, env = "FEDERATION", value_name = "open|allowlist|off", default_value = "open",
          value_parser = ["open", "allowlist", "off"])]
    pub(crate) federation: String,
    /// Keys of the nodes to link with under `allowlist`, 64 hexadecimal digits each.
    #[arg(long, env = "ALLOW_KEYS", value_name = "HEX", value_delimiter = ',')]
    pub(crate) allow_keys: Vec<Key>,
    /// Nodes to start from besides what the DHT names: `https://mesh.example.org,…`
    #[arg(long, env = "PEERS", value_name = "URL", value_delimiter = ',')]
    pub(crate) peers: Vec<String>,
    /// Key of a private network, 64 hexadecimal digits: nodes without it neither find it nor link.
    #[arg(long, env = "NETWORK_KEY", value_name = "HEX", hide_env_values = true)]
    pub(crate) network_key: Option<Key>,
    /// Port that other nodes find in the DHT and ask, in plain HTTP, for /mesh/id [default: the
    /// one listened on].
    #[arg(long, env = "ANNOUNCE_PORT", value_name = "PORT")]
    pub(crate) announce_port: Option<u16>,
    /// Zero bits of work every node's key is stamped with; the same in a whole network.
    #[arg(long, env = "ID_BITS", value_name = "BITS", default_value_t = proto::mesh::identity::STAMP_BITS,
          value_parser = clap::value_parser!(u32).range(0..=40))]
    pub(crate) id_bits: u32,
    /// Nodes of the largest network in which all of them are linked; in a larger one some are, and
    /// the homes of rooms while they are of use.
    #[arg(long, env = "LINKS", value_name = "COUNT", default_value_t = 64)]
    pub(crate) links: usize,
    /// How long a link of a larger network stays that nobody uses.
    #[arg(long, env = "LINK_IDLE", value_name = "TIME", default_value = "10m",
          value_parser = duration::parse)]
    pub(crate) link_idle: Duration,
    /// Connect to private addresses and over plain HTTP too: for a network of one's own.
    #[arg(long, env = "ALLOW_PRIVATE", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) allow_private: bool,
    /// Networks never to connect to.
    #[arg(long, env = "DENY_CIDRS", value_name = "CIDR", value_delimiter = ',')]
    pub(crate) deny_cidrs: Vec<ipnet::IpNet>,
    /// Obey the hooks of tests.
    #[arg(long, env = "TEST", hide = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) test: bool,
    /// With `test`: keys of nodes to have no link with, one a line, read every second.
    #[arg(long, env = "CUT_FILE", value_name = "FILE", hide = true)]
    pub(crate) cut_file: Option<PathBuf>,
}

/// 32 bytes as 64 hexadecimal digits.
#[derive(Clone, Copy)]
pub(crate) struct Key(pub(crate) [u8; 32]);

impl std::fmt::Debug for Key {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

impl std::str::FromStr for Key {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        proto::mesh::unhex(text.trim()).map(Self).ok_or("expected 64 hexadecimal digits")
    }
}

/// Who the node is.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Node")]
pub(crate) struct NodeArgs {
    /// Where clients and other nodes reach it: `https://mesh.example.org`.
    #[arg(long, env = "PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<String>,
    /// The network it belongs to.
    #[arg(long, env = "NETWORK", value_name = "NAME", default_value = "public")]
    pub(crate) network: String,
    /// Secret its tokens are made with, 64 hexadecimal digits [default: made once, kept in the
    /// database].
    #[arg(long, env = "SECRET", value_name = "HEX", hide_env_values = true)]
    pub(crate) secret: Option<Key>,
    /// Seed of its Ed25519 key, 64 hexadecimal digits [default: made once, kept in the database].
    #[arg(long, env = "NODE_SEED", value_name = "HEX", hide_env_values = true)]
    pub(crate) node_seed: Option<Key>,
}

/// What posts cost.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Proof of work")]
pub(crate) struct WorkArgs {
    /// Height at rest, in leading zero bits.
    #[arg(long, env = "POW_MIN", value_name = "BITS", default_value_t = 16,
          value_parser = clap::value_parser!(u8).range(0..=40))]
    pub(crate) pow_min: u8,
    /// Height under full load.
    #[arg(long, env = "POW_MAX", value_name = "BITS", default_value_t = 26,
          value_parser = clap::value_parser!(u8).range(0..=48))]
    pub(crate) pow_max: u8,
    /// Bits a proof may lack, so that a quote survives a step of load meanwhile.
    #[arg(long, env = "POW_GRACE", value_name = "BITS", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(0..=8))]
    pub(crate) pow_grace: u32,
    /// Make tokens good for one address only. Clients change between IPv4 and IPv6 at will.
    #[arg(long, env = "TOKEN_BIND_IP", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) token_bind_ip: bool,
    /// Read the load from this file, "CPU MEM" in shares of 1, instead of measuring it.
    #[arg(long, env = "LOAD_FILE", value_name = "FILE")]
    pub(crate) load_file: Option<PathBuf>,
}

/// How much rooms may take.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Rooms")]
pub(crate) struct RoomArgs {
    /// Streams open at once.
    #[arg(long, env = "MAX_STREAMS", value_name = "COUNT", default_value_t = 10_000)]
    pub(crate) max_streams: usize,
    /// Streams of one room.
    #[arg(long, env = "MAX_STREAMS_PER_ROOM", value_name = "COUNT", default_value_t = 1_000)]
    pub(crate) max_streams_per_room: usize,
    /// Streams of one address (IPv4, or IPv6 /64).
    #[arg(long, env = "MAX_STREAMS_PER_ADDRESS", value_name = "COUNT", default_value_t = 32)]
    pub(crate) max_streams_per_address: usize,
    /// Rooms one address listens to.
    #[arg(long, env = "MAX_ROOMS_PER_ADDRESS", value_name = "COUNT", default_value_t = 64)]
    pub(crate) max_rooms_per_address: usize,
    /// Rooms in use at once.
    #[arg(long, env = "MAX_ROOMS", value_name = "COUNT", default_value_t = 50_000)]
    pub(crate) max_rooms: usize,
    /// Events that may wait for one subscriber; more closes its stream.
    #[arg(long, env = "STREAM_QUEUE", value_name = "COUNT", default_value_t = 64)]
    pub(crate) stream_queue: usize,
    /// Posts a room takes in a minute.
    #[arg(long, env = "ROOM_POSTS_PER_MINUTE", value_name = "COUNT", default_value_t = 1_200)]
    pub(crate) room_posts_per_minute: usize,
    /// Posts one address may send a second; three times as many at once.
    #[arg(long, env = "ADDRESS_POSTS", value_name = "COUNT", default_value_t = 10)]
    pub(crate) address_posts: u32,
    /// Rooms that are not served.
    #[arg(long, env = "ROOM_DENY", value_name = "HASH", value_delimiter = ',')]
    pub(crate) room_deny: Vec<String>,
}

/// The BitTorrent DHT.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "DHT")]
pub(crate) struct DhtArgs {
    /// Whether to join the DHT.
    #[arg(long, env = "DHT", value_name = "on|off", default_value = "on",
          value_parser = ["on", "off"])]
    pub(crate) dht: String,
    /// UDP port [default: one the system picks].
    #[arg(long, env = "DHT_PORT", value_name = "PORT")]
    pub(crate) dht_port: Option<u16>,
    /// Nodes to start from, HOST:PORT,… [default: the well-known ones; empty: none].
    #[arg(long, env = "DHT_BOOTSTRAP", value_name = "LIST")]
    pub(crate) dht_bootstrap: Option<String>,
    /// How long another node of the DHT may take to answer.
    #[arg(long, env = "DHT_TIMEOUT", value_name = "TIME", default_value = "1s",
          value_parser = duration::parse)]
    pub(crate) dht_timeout: Duration,
    /// Our address as the DHT sees it, when we are behind a NAT.
    #[arg(long, env = "DHT_PUBLIC_IP", value_name = "IPV4")]
    pub(crate) dht_public_ip: Option<Ipv4Addr>,
    /// Gets one address makes a second without paying; ten times as many at once.
    #[arg(long, env = "FREE_GETS", value_name = "COUNT", default_value_t = 1)]
    pub(crate) free_gets: u32,
}

/// TURN and STUN servers for clients.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "TURN")]
pub(crate) struct IceArgs {
    #[command(flatten)]
    pub(crate) turn: TurnArgs,
    /// Where STUN is: stun:HOST:3478,…
    #[arg(long, env = "STUN_URLS", value_name = "URL", value_delimiter = ',')]
    pub(crate) stun_urls: Vec<String>,
    /// How long a credential is good for, a minute to a day.
    #[arg(long, env = "TURN_TTL", value_name = "TIME", default_value = "1h",
          value_parser = duration::parse)]
    pub(crate) turn_ttl: Duration,
}
