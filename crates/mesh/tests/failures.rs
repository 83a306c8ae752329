//! Nodes die, links break, the database goes away: listeners that come back miss nothing of the
//! last minute, and the mesh closes again by itself.

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use common::{Node, ROOM, fully_linked, linked, ranked, until};
use testkit::cluster::Cluster;
use testkit::database::Database;
use testkit::mesh_client::Listener;
use testkit::process::{Builder, Port};

/// Bodies a listener hears until it hears `last`.
async fn bodies(listener: &mut Listener, last: &str) -> anyhow::Result<Vec<String>> {
    let mut heard = Vec::new();
    loop {
        let body = listener.post().await?.data["body"].as_str().context("a body")?.to_owned();
        let is_last = body == last;
        heard.push(body);
        if is_last {
            return Ok(heard);
        }
    }
}

async fn say(node: &Node, body: &str) -> anyhow::Result<()> {
    let told = node.client.say(ROOM, body).await?;
    ensure!(told.status == 202, "{}", told.text());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_of_a_killed_node_goes_on_at_another_without_a_gap() -> anyhow::Result<()> {
    let mut nodes = linked(3, |_, builder| builder).await?;
    let mut there = nodes[2].client.listen(ROOM, "").await?;
    say(&nodes[0], "one").await?;
    let last = there.post().await?;
    ensure!(last.data["body"] == "one");
    nodes[2].service.kill();
    say(&nodes[0], "two").await?;
    say(&nodes[0], "three").await?;
    let mut here = nodes[1].client.listen(ROOM, &format!("last={}", last.id)).await?;
    say(&nodes[0], "four").await?;
    let heard = bodies(&mut here, "four").await?;
    let missing: BTreeSet<_> = ["two", "three", "four"].map(str::to_owned).into();
    // Who comes back may hear something twice; clients know by the id.
    let unique: BTreeSet<_> = heard.iter().cloned().collect();
    ensure!(unique == missing, "{heard:?}");

    nodes[2].service.start_again().await?;
    let began = Instant::now();
    fully_linked(&nodes).await?;
    println!("linked again {:?} after the start", began.elapsed());
    ensure!(began.elapsed() < Duration::from_secs(60));
    let mut back = nodes[2].client.listen(ROOM, "").await?;
    say(&nodes[1], "five").await?;
    ensure!(bodies(&mut back, "five").await?.len() <= 5);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn six_nodes_pass_posts_through_three_homes_and_do_without_one() -> anyhow::Result<()> {
    let mut nodes = linked(6, |_, builder| builder).await?;
    let order = ranked(&nodes)?;
    let (first_home, outsider) = (order[0], order[5]);
    let mut listeners = Vec::new();
    for node in &nodes {
        listeners.push(node.client.listen(ROOM, "").await?);
    }
    // From a node that is no home, to all.
    until("all have subscribed", async || {
        let told = nodes[outsider].client.say(ROOM, "warm").await?;
        Ok(told.json()?["homes"] == 3)
    })
    .await?;
    tokio::time::timeout(common::WITHIN, async {
        for listener in &mut listeners {
            bodies(listener, "warm").await?;
        }
        anyhow::Ok(())
    })
    .await??;
    let frames = async || {
        let mut all = 0.0;
        for node in &nodes {
            all += node.service.metric("mesh_link_posts_sent_total").await?;
        }
        anyhow::Ok(all)
    };
    let before = frames().await?;
    for (at, node) in nodes.iter().enumerate() {
        say(node, &format!("from {at}")).await?;
        for listener in &mut listeners {
            let heard = listener.post().await?;
            ensure!(heard.data["body"] == format!("from {at}"), "{heard:?}");
        }
    }
    let per_post = (frames().await? - before) / 6.0;
    println!("{per_post} frames for a post to 6 nodes");
    ensure!(per_post <= 3.0 + 3.0 * 6.0, "{per_post}");

    // Other rooms have other homes, which pass on to whoever listens, wherever.
    for nth in 0..8 {
        let room = format!("{nth:040x}");
        let mut listener = nodes[nth % 6].client.listen(&room, "since=60").await?;
        let told = nodes[(nth + 3) % 6].client.say(&room, "here too").await?;
        ensure!(told.status == 202, "{}", told.text());
        ensure!(bodies(&mut listener, "here too").await?.len() == 1, "room {nth}");
    }

    nodes[first_home].service.kill();
    drop(listeners.remove(first_home));
    say(&nodes[outsider], "without").await?;
    for listener in &mut listeners {
        let heard = bodies(listener, "without").await?;
        ensure!(heard.len() == 1, "{heard:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_nobody_here_listens_to_waits_for_a_home_to_take_it() -> anyhow::Result<()> {
    let nodes = linked(4, |_, builder| builder).await?;
    let outsider = &nodes[ranked(&nodes)?[3]];
    let told = outsider.client.say(ROOM, "alone").await?;
    ensure!(told.status == 202, "{}", told.text());
    let told = told.json()?;
    ensure!(told["delivered"] == 0 && told["homes"] == 3, "{told}");
    ensure!(told["acked"].as_u64() >= Some(1), "{told}");
    // Who comes later and asks for it hears it, on a home and elsewhere.
    for node in &nodes {
        let mut late = node.client.listen(ROOM, "since=60").await?;
        ensure!(bodies(&mut late, "alone").await?.len() == 1);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_of_a_split_go_on_and_heal() -> anyhow::Result<()> {
    let directory = tempfile_directory()?;
    let cut = directory.join("cut");
    std::fs::write(&cut, "")?;
    let hook = |at: usize, builder: Builder| match at {
        2 => builder.set("TEST", 1).set("CUT_FILE", cut.display()),
        _ => builder,
    };
    let nodes = linked(3, hook).await?;
    std::fs::write(&cut, format!("{}\n{}", nodes[0].key, nodes[1].key))?;
    until("the third is alone", async || {
        Ok(nodes[2].links().await? == 0 && nodes[0].links().await? == 1)
    })
    .await?;
    let mut near = nodes[1].client.listen(ROOM, "").await?;
    let mut alone = nodes[2].client.listen(ROOM, "").await?;
    say(&nodes[0], "near").await?;
    say(&nodes[2], "alone").await?;
    ensure!(near.post().await?.data["body"] == "near");
    ensure!(alone.post().await?.data["body"] == "alone");
    std::fs::write(&cut, "")?;
    let began = Instant::now();
    fully_linked(&nodes).await?;
    println!("healed after {:?}", began.elapsed());
    ensure!(began.elapsed() < Duration::from_secs(60));
    say(&nodes[0], "whole").await?;
    bodies(&mut near, "whole").await?;
    bodies(&mut alone, "whole").await?;
    std::fs::remove_dir_all(directory)?;
    Ok(())
}

fn tempfile_directory() -> anyhow::Result<std::path::PathBuf> {
    let directory = std::env::temp_dir().join(format!("mesh-cut-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_outlive_the_database_and_tokens_do_not_outlive_used_proofs() -> anyhow::Result<()>
{
    let mut cluster = Cluster::start().await?;
    let ports = [Port::reserve()?, Port::reserve()?];
    let seeds = ports.iter().map(common::url).collect::<Vec<_>>().join(",");
    let mut nodes = Vec::new();
    for (seed, port) in (1..).zip(ports) {
        let database = Database::within(cluster.options()).await?;
        let peers = |builder: Builder| builder.set("PEERS", &seeds);
        nodes.push(Node::start_in(database, seed, port, peers).await?);
    }
    fully_linked(&nodes).await?;
    let mut listener = nodes[1].client.listen(ROOM, "").await?;
    let path = format!("/room/{ROOM}");
    let old = nodes[0].client.price(ROOM).await?;
    cluster.kill();
    let paid = old.pay("POST", &path, &[b"away"])?;
    let refused = nodes[0].client.post(&format!("{path}?{paid}"), "away").await?;
    ensure!(
        refused.status == 503 && !refused.header("retry-after").is_empty(),
        "{}",
        refused.text()
    );
    cluster.start_again().await?;
    // The used proofs are gone with the crash, and so is what they were made of.
    until("old tokens are void", async || {
        let paid = old.pay("POST", &path, &[b"void"])?;
        let answer = nodes[0].client.post(&format!("{path}?{paid}"), "void").await?;
        Ok(answer.json()?["error"] == "token_invalid")
    })
    .await?;
    fully_linked(&nodes).await?;
    say(&nodes[0], "back").await?;
    // On the stream that was open all the while.
    bodies(&mut listener, "back").await?;
    Ok(())
}
