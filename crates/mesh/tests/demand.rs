//! In a network that is larger than what a node keeps linked, homes are linked when rooms need them, and parted
//! with when they do not. "Large" is three nodes here, where it is 64 by default.
#![allow(missing_docs, clippy::print_stdout, reason = "a test")]

mod common;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use common::{Node, until, url};
use testkit::process::Port;

const NODES: u8 = 7;
/// Every node keeps as many links of its own making.
const KEPT: usize = 2;
const ROOMS: usize = 20;

fn room(nth: usize) -> String {
    format!("{nth:040x}")
}

/// Ends of links, two of each, and whether every node knows all others.
async fn look(nodes: &[Node]) -> anyhow::Result<(usize, bool)> {
    let (mut ends, mut known) = (0, true);
    for node in nodes {
        ends += node.links().await?;
        known &= node.nodes().await?.len() + 1 == nodes.len();
    }
    Ok((ends, known))
}

/// Waits until there are no more links than are kept, for a while; how many ends.
async fn at_rest(nodes: &[Node]) -> anyhow::Result<usize> {
    let (mut since, mut last) = (Instant::now(), 0);
    until("links are at rest", async || {
        let (ends, known) = look(nodes).await?;
        if ends != last || !known || ends > 2 * KEPT * nodes.len() {
            (since, last) = (Instant::now(), ends);
        }
        Ok(since.elapsed() > Duration::from_secs(2))
    })
    .await?;
    Ok(last)
}

#[tokio::test(flavor = "multi_thread")]
async fn homes_are_linked_when_they_are_needed_and_not_longer() -> anyhow::Result<()> {
    let ports: Vec<Port> = (0..NODES).map(|_| Port::reserve()).collect::<Result<_, _>>()?;
    let seeds = ports.iter().map(url).collect::<Vec<_>>().join(",");
    let mut nodes = Vec::new();
    for (seed, port) in (1..).zip(ports) {
        let settings = |builder: testkit::process::Builder| {
            builder.set("PEERS", &seeds).set("LINKS", KEPT).set("LINK_IDLE", "3s")
        };
        nodes.push(Node::start_at(seed, port, settings).await?);
    }
    let resting = at_rest(&nodes).await?;
    println!("{} of 21 links at rest", resting / 2);

    // Posts that nobody on the way listens to are taken by a home all the same.
    let (mut most, mut slowest) = (0, Duration::ZERO);
    for nth in 0..ROOMS {
        let from = &nodes[nth % nodes.len()];
        let began = Instant::now();
        let told = from.client.say(&room(nth), "before").await?;
        slowest = slowest.max(began.elapsed());
        ensure!(told.status == 202, "{}", told.text());
        let told = told.json()?;
        ensure!(told["homes"] == 3, "{told}");
        most = most.max(look(&nodes).await?.0);
    }
    println!("{} links at most, the slowest post took {slowest:?}", most / 2);
    ensure!(most > resting, "no home was linked: {most}");
    let again = at_rest(&nodes).await?;
    ensure!(again <= 2 * KEPT * nodes.len(), "{again}");

    // Whoever listens hears what was said before, and what is said from now on by anybody, once.
    let mut listeners = Vec::new();
    for nth in 0..ROOMS {
        let told = nodes[(nth + 1) % nodes.len()].client.say(&room(nth), "just now").await?;
        ensure!(told.status == 202, "{}", told.text());
        let mut listener =
            nodes[(nth + 3) % nodes.len()].client.listen(&room(nth), "since=60").await?;
        let mut heard = Vec::new();
        while !heard.iter().any(|body| body == "just now") {
            let post = listener.post().await.with_context(|| format!("room {nth}: {heard:?}"))?;
            // What was said before may come twice; clients know it by its id.
            heard.push(post.data["body"].clone());
        }
        listeners.push(listener);
    }
    for (nth, listener) in listeners.iter_mut().enumerate() {
        let told = nodes[(nth + 5) % nodes.len()].client.say(&room(nth), "after").await?;
        ensure!(told.status == 202, "{}", told.text());
        let mut heard = listener.post().await.with_context(|| format!("room {nth}"))?;
        while heard.data["body"] == "before" || heard.data["body"] == "just now" {
            heard = listener.post().await.with_context(|| format!("room {nth}"))?;
        }
        ensure!(heard.data["body"] == "after" && heard.id == told.json()?["id"], "{heard:?}");
    }
    Ok(())
}
