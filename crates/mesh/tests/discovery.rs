//! Nodes find each other in a DHT of real nodes on the loopback, and list only who proved itself.

mod common;

use std::time::Instant;

use anyhow::{Context as _, ensure};
use common::impostor::{Impostor, descriptor, hello, ok};
use common::{Node, fully_linked, until, url};
use mainline::{Id, Testnet};
use proto::mesh::identity;
use testkit::process::Port;

/// A DHT of ten nodes, and how to find it.
async fn dht() -> anyhow::Result<(Testnet, String)> {
    let build = || Testnet::builder(10).build();
    let testnet = tokio::task::spawn_blocking(build).await??;
    let bootstrap = testnet.bootstrap.join(",");
    Ok((testnet, bootstrap))
}

async fn announce(testnet: &Testnet, at: usize, port: u16) -> anyhow::Result<()> {
    let infohash = Id::from(identity::infohash("test", None));
    testnet.nodes[at].clone().as_async().announce_peer(infohash, Some(port)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_know_only_the_dht_link_and_list_nobody_else() -> anyhow::Result<()> {
    let (testnet, bootstrap) = dht().await?;
    // Nothing there; another network; a signature over something else; an honest descriptor of a
    // place that does not prove itself.
    let dead = Port::reserve()?;
    announce(&testnet, 0, dead.number()).await?;
    let foreign = Port::reserve()?;
    let item = serde_json::to_string(&descriptor(101, "other", Some(&url(&foreign)))?)?;
    let foreign = Impostor::start(foreign, move |_| ok(&item)).await?;
    announce(&testnet, 1, foreign.port.number()).await?;
    let forged = Port::reserve()?;
    let mut item = descriptor(102, "test", Some(&url(&forged)))?;
    item.seq += 1;
    let item = serde_json::to_string(&item)?;
    let forged = Impostor::start(forged, move |_| ok(&item)).await?;
    announce(&testnet, 2, forged.port.number()).await?;
    let elsewhere = Port::reserve()?;
    let place = url(&elsewhere);
    let item = serde_json::to_string(&descriptor(103, "test", Some(&place))?)?;
    let elsewhere = Impostor::start(elsewhere, move |path| match path {
        "/mesh/id" => ok(&item),
        path => ok(&hello(103, "test", "http://127.0.0.1:1025", path)),
    })
    .await?;
    announce(&testnet, 3, elsewhere.port.number()).await?;

    let began = Instant::now();
    let mut nodes = Vec::new();
    for seed in 1..=3 {
        let settings = |builder: testkit::process::Builder| {
            builder.set("DHT", "on").set("DHT_BOOTSTRAP", &bootstrap).set("DHT_TIMEOUT", "300ms")
        };
        nodes.push(Node::start(seed, settings).await?);
    }
    let started = began.elapsed();
    fully_linked(&nodes).await?;
    println!("3 nodes: started after {started:?}, fully linked after {:?}", began.elapsed());
    for node in &nodes {
        let told = node.nodes().await?;
        ensure!(!told.contains(&node.url) && told.len() == 2, "{told:?}");
        let detail = node.client.get("/nodes?detail=1&n=1").await?.ok()?;
        let detail = detail[0].clone();
        ensure!(told.contains(detail["url"].as_str().context("a url")?), "{detail}");
        ensure!(detail["key"].is_string() && detail["last_seen"].is_u64(), "{detail}");
    }
    // All of the others were asked, so that they are not listed for a reason.
    until("the impostors were asked", async || {
        Ok(foreign.asked() > 0 && forged.asked() > 0 && elsewhere.asked() > 1)
    })
    .await?;
    for node in &nodes {
        ensure!(node.nodes().await?.len() == 2);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_the_public_network_asks_no_private_address() -> anyhow::Result<()> {
    let (testnet, bootstrap) = dht().await?;
    let trap = Port::reserve()?;
    let item = serde_json::to_string(&descriptor(101, "test", Some(&url(&trap)))?)?;
    let trap = Impostor::start(trap, move |_| ok(&item)).await?;
    announce(&testnet, 0, trap.port.number()).await?;
    let strict = Node::start(1, |builder| {
        builder
            .set("DHT", "on")
            .set("DHT_BOOTSTRAP", &bootstrap)
            .set("DHT_TIMEOUT", "300ms")
            .set("ALLOW_PRIVATE", 0)
            .set("PUBLIC_URL", "https://mesh.example.org")
    })
    .await?;
    until("it tried", async || Ok(strict.service.metric("mesh_probes_total").await? > 0.0)).await?;
    ensure!(trap.asked() == 0 && strict.nodes().await?.is_empty());
    Ok(())
}

/// What is answered to a path, by who says to be at a URL.
type Way = dyn Fn(&str, &str) -> Vec<u8> + Send + Sync;

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_long_slow_or_lead_elsewhere_are_no_proof() -> anyhow::Result<()> {
    let denied = Impostor::start(Port::reserve()?, |_| ok("{}")).await?;
    let goal = url(&denied.port);
    // Each describes itself honestly and then answers `/mesh/hello` in its own way.
    let long = "x".repeat(10 << 20);
    let ways: [(u8, Box<Way>); 3] = [
        (
            111,
            Box::new(move |_, _| {
                format!("HTTP/1.1 302 Found\r\nlocation: {goal}\r\ncontent-length: 0\r\n\r\n")
                    .into_bytes()
            }),
        ),
        (112, Box::new(move |_, _| ok(&long))),
        // More is announced than ever comes.
        (113, Box::new(|_, _| b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_vec())),
    ];
    let mut impostors = Vec::new();
    for (seed, way) in ways {
        let port = Port::reserve()?;
        let place = url(&port);
        let item = serde_json::to_string(&descriptor(seed, "test", Some(&place))?)?;
        let answer = move |path: &str| match path {
            "/mesh/id" => ok(&item),
            path => way(path, &place),
        };
        impostors.push(Impostor::start(port, answer).await?);
    }
    // One describes itself as being where the operator forbids to go.
    let port = Port::reserve()?;
    let trap = tokio::net::TcpListener::bind(("127.0.0.2", port.number())).await?;
    let place = format!("http://127.0.0.2:{}", port.number());
    let item = serde_json::to_string(&descriptor(114, "test", Some(&place))?)?;
    impostors.push(Impostor::start(port, move |_| ok(&item)).await?);
    // And one is honest.
    let port = Port::reserve()?;
    let place = url(&port);
    let item = serde_json::to_string(&descriptor(115, "test", Some(&place))?)?;
    let honest = place.clone();
    let answer = move |path: &str| match path {
        "/mesh/id" => ok(&item),
        path => ok(&hello(115, "test", &place, path)),
    };
    impostors.push(Impostor::start(port, answer).await?);
    let seeds: Vec<String> = impostors.iter().map(|impostor| url(&impostor.port)).collect();
    let node = Node::start(1, |builder| {
        builder.set("PEERS", seeds.join(",")).set("DENY_CIDRS", "127.0.0.2/32")
    })
    .await?;
    until("the honest one is listed", async || Ok(node.nodes().await?.contains(&honest))).await?;
    until("the others were asked", async || {
        Ok(impostors.iter().take(3).all(|impostor| impostor.asked() >= 2))
    })
    .await?;
    until("their answers were looked at", async || {
        Ok(node.service.metric("mesh_probes_total").await? >= 4.0)
    })
    .await?;
    ensure!(node.nodes().await?.len() == 1, "{:?}", node.nodes().await?);
    ensure!(denied.asked() == 0, "a redirect was followed");
    let reached = tokio::time::timeout(std::time::Duration::from_millis(100), trap.accept()).await;
    ensure!(reached.is_err(), "a denied address was connected to");
    Ok(())
}
