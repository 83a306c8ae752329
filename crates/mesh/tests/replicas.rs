//! Replicas of one node: a post to any is heard on all, one of them leads, and no proof counts twice.

mod common;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use common::{Node, ROOM, settings, until, url};
use proto::mesh::hex;
use testkit::database::Database;
use testkit::mesh_client::MeshClient;
use testkit::process::{Builder, Port, Service};

fn replica(database: &Database) -> Builder {
    settings(Service::named("mesh"), database)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_to_one_replica_is_heard_on_the_other_once() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let (one, two) = (replica(&database).start().await?, replica(&database).start().await?);
    let (one, two) = (MeshClient::plain(one.address()), (MeshClient::plain(two.address()), two));
    let mut here = one.listen(ROOM, "").await?;
    let mut there = two.0.listen(ROOM, "").await?;
    for at in 0..20 {
        let (from, body) = (if at % 2 == 0 { &one } else { &two.0 }, at.to_string());
        let told = from.say(ROOM, &body).await?;
        ensure!(told.status == 202, "{}", told.text());
        for listener in [&mut here, &mut there] {
            let heard = listener.post().await?;
            ensure!(heard.data["body"] == body, "{heard:?}");
        }
    }
    let price = two.0.get(&format!("/room/{ROOM}")).await?.ok()?;
    ensure!(price["recent"] == 20, "every replica counts every post: {price}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_leads_soon_after_the_leader_was_killed() -> anyhow::Result<()> {
    let database = Database::fresh().await?;
    let (mut one, two) = (replica(&database).start().await?, replica(&database).start().await?);
    until("one leads", async || Ok(one.metric("mesh_leads").await? == 1.0)).await?;
    ensure!(two.metric("mesh_leads").await? == 0.0);
    one.kill();
    let since = Instant::now();
    until("the other leads", async || Ok(two.metric("mesh_leads").await? == 1.0)).await?;
    ensure!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_does_not_lead_posts_and_listens_through_the_one_that_does()
-> anyhow::Result<()> {
    let far_port = Port::reserve()?;
    let near_port = Port::reserve()?;
    let seeds = format!("{},{}", url(&far_port), url(&near_port));
    let near = Node::start_at(1, near_port, |builder| builder.set("PEERS", &seeds)).await?;
    until("it leads", async || Ok(near.service.metric("mesh_leads").await? == 1.0)).await?;
    let second = replica(&near.database)
        .set("NODE_SEED", hex(&[1; 32]))
        .set("PUBLIC_URL", &near.url)
        .set("PEERS", &seeds)
        .start()
        .await?;
    let second = (MeshClient::plain(second.address()), second);
    let far = Node::start_at(2, far_port, |builder| builder.set("PEERS", &seeds)).await?;
    until("they are linked", async || Ok(near.links().await? == 1 && far.links().await? == 1))
        .await?;
    let mut heard_far = far.client.listen(ROOM, "").await?;
    let mut heard_second = second.0.listen(ROOM, "").await?;
    let told = second.0.say(ROOM, "out").await?;
    ensure!(told.status == 202, "{}", told.text());
    ensure!(heard_far.post().await?.data["body"] == "out");
    ensure!(heard_second.post().await?.data["body"] == "out");
    far.client.say(ROOM, "in").await?;
    let heard = heard_second.post().await?;
    ensure!(heard.data["body"] == "in", "{heard:?}");
    until("all replicas know the nodes", async || {
        let nodes = second.0.get("/nodes").await?.ok()?;
        Ok(nodes.as_array().context("an array")?.len() == 1)
    })
    .await
}
