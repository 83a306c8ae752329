//! Nodes of a mesh: real processes, each with a database of its own, on the loopback.
#![allow(dead_code, reason = "each test file uses some of it")]

pub(crate) mod impostor;
pub(crate) mod rogue;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ed25519_dalek::SigningKey;
use proto::mesh::{Room, hex, homes, unhex};
use testkit::database::Database;
use testkit::http_client::Answer;
use testkit::mesh_client::{MeshClient, cheap};
use testkit::process::{Builder, Port, Service};
use tokio::time::{Instant, sleep};

/// What is waited for takes seconds; the machine may be busy.
pub(crate) const WITHIN: Duration = Duration::from_secs(90);

pub(crate) const ROOM: &str = "648904681423c5abca2077dde957f78af460be70275cc2ce6ea10a3e134461e4";

/// Settings every node of a test has.
pub(crate) fn settings(builder: Builder, database: &Database) -> Builder {
    cheap(builder).database(&database.url())
}

/// A node with a database that others may share, and no one to link to.
pub(crate) fn node(database: &Database) -> Builder {
    settings(Service::named("mesh"), database)
}

/// What a refusal is called.
pub(crate) fn code(answer: &Answer) -> anyhow::Result<String> {
    Ok(answer.json()?["error"].as_str().context("no error")?.to_owned())
}

/// One node.
pub(crate) struct Node {
    pub(crate) database: Database,
    pub(crate) service: Service,
    pub(crate) client: MeshClient,
    pub(crate) url: String,
    pub(crate) key: String,
}

impl Node {
    /// Starts the node whose key has the seed `seed`, with settings of its own.
    pub(crate) async fn start(
        seed: u8,
        more: impl FnOnce(Builder) -> Builder,
    ) -> anyhow::Result<Self> {
        Self::start_at(seed, Port::reserve()?, more).await
    }

    /// As [`Node::start`], at a port others know already.
    pub(crate) async fn start_at(
        seed: u8,
        port: Port,
        more: impl FnOnce(Builder) -> Builder,
    ) -> anyhow::Result<Self> {
        Self::start_in(Database::fresh().await?, seed, port, more).await
    }

    /// As [`Node::start_at`], in a database of the test's.
    pub(crate) async fn start_in(
        database: Database,
        seed: u8,
        port: Port,
        more: impl FnOnce(Builder) -> Builder,
    ) -> anyhow::Result<Self> {
        let url = url(&port);
        let builder = settings(Service::named("mesh"), &database)
            .set("NODE_SEED", hex(&[seed; 32]))
            .set("PUBLIC_URL", &url)
            .at(port);
        let service = more(builder).start().await?;
        let client = MeshClient::plain(service.address());
        Ok(Self { database, client, url, key: hex(&key(seed)), service })
    }

    /// The nodes it tells clients of.
    pub(crate) async fn nodes(&self) -> anyhow::Result<BTreeSet<String>> {
        let told = self.client.get("/nodes?n=50").await?.ok()?;
        let told = told.as_array().context("an array")?;
        told.iter().map(|url| url.as_str().map(str::to_owned).context("a URL")).collect()
    }

    /// How many links it has.
    pub(crate) async fn links(&self) -> anyhow::Result<usize> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let links = self.service.metric("mesh_links").await? as usize;
        Ok(links)
    }
}

/// Where a node at `port` is reached.
pub(crate) fn url(port: &Port) -> String {
    format!("http://{}", port.address())
}

/// The public key of a seed.
pub(crate) fn key(seed: u8) -> [u8; 32] {
    SigningKey::from_bytes(&[seed; 32]).verifying_key().to_bytes()
}

/// Nodes that know each other's addresses, fully linked; with settings of their own.
pub(crate) async fn linked(
    count: u8,
    more: impl Fn(usize, Builder) -> Builder,
) -> anyhow::Result<Vec<Node>> {
    let ports: Vec<Port> = (0..count).map(|_| Port::reserve()).collect::<Result<_, _>>()?;
    let seeds = ports.iter().map(url).collect::<Vec<_>>().join(",");
    let mut nodes = Vec::new();
    for (at, port) in ports.into_iter().enumerate() {
        let seed = u8::try_from(at)? + 1;
        let builder = |builder: Builder| more(at, builder.set("PEERS", &seeds));
        nodes.push(Node::start_at(seed, port, builder).await?);
    }
    fully_linked(&nodes).await?;
    Ok(nodes)
}

/// Waits until every node has a link to every other.
pub(crate) async fn fully_linked(nodes: &[Node]) -> anyhow::Result<()> {
    let wanted = nodes.len() - 1;
    until("all are linked", async || {
        for node in nodes {
            if node.links().await? != wanted || node.nodes().await?.len() != wanted {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .await
}

/// Waits until something is so.
pub(crate) async fn until(
    what: &str,
    mut holds: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let end = Instant::now() + WITHIN;
    loop {
        // A node that is being started again does not answer.
        let now = holds().await;
        if matches!(now, Ok(true)) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "never came: {what}: {now:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// The nodes that are the room's homes, best first.
pub(crate) fn ranked(nodes: &[Node]) -> anyhow::Result<Vec<usize>> {
    let keys: Vec<[u8; 32]> = nodes.iter().filter_map(|node| unhex(&node.key)).collect();
    let now_s = u64::try_from(impostor::now_s())?;
    let order = homes::ranked(&Room::parse(ROOM)?, now_s, &keys);
    order.iter().map(|key| keys.iter().position(|one| one == key).context("known")).collect()
}
