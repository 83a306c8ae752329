//! Linked nodes carry posts: every listener hears every post once, wherever it was sent.

mod common;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use common::{ROOM, linked, ranked, settings, until};
use http::Method;
use serde_json::{Value, json};
use testkit::database::Database;
use testkit::http_client::HttpClient;
use testkit::mesh_client::{MeshClient, Price};
use testkit::process::Service;

#[tokio::test(flavor = "multi_thread")]
async fn a_post_on_one_node_is_heard_once_on_all() -> anyhow::Result<()> {
    let nodes = linked(3, |_, builder| builder).await?;
    let mut listeners = Vec::new();
    for node in &nodes {
        listeners.push(node.client.listen(ROOM, "").await?);
    }
    for from in [0, 1, 2] {
        let body = format!("from {from}");
        let told = nodes[from].client.say(ROOM, &body).await?;
        ensure!(told.status == 202, "{}", told.text());
        let told = told.json()?;
        ensure!(told["homes"] == 3 && told["delivered"] == 1, "{told}");
        for listener in &mut listeners {
            let heard = listener.post().await?;
            // Were the one before heard twice, it would be here instead.
            ensure!(heard.data["body"] == body && heard.id == told["id"], "{heard:?}");
            ensure!(heard.data["origin"] == nodes[from].key[..16], "{heard:?}");
        }
    }
    let root = nodes[0].client.get("/").await?.ok()?;
    ensure!(root["federation"] == "open" && root["peers"] == 2, "{root}");
    // A busy room is dear everywhere.
    let idle = MeshClient::plain(nodes[2].service.address());
    until("the price is known everywhere", async || {
        Ok(idle.get(&format!("/room/{ROOM}")).await?.ok()?["recent"] == 3)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_url_posts_and_listens_through_others() -> anyhow::Result<()> {
    let nodes = linked(2, |_, builder| builder).await?;
    let database = Database::fresh().await?;
    let leaf = settings(Service::named("mesh"), &database).set("PEERS", &nodes[0].url);
    let leaf = leaf.start().await?;
    until("it has dialled both", async || Ok(leaf.metric("mesh_links").await? == 2.0)).await?;
    let client = MeshClient::plain(leaf.address());
    let mut inside = client.listen(ROOM, "").await?;
    let mut outside = nodes[1].client.listen(ROOM, "").await?;
    let told = client.say(ROOM, "out").await?;
    ensure!(told.status == 202, "{}", told.text());
    ensure!(inside.post().await?.data["body"] == "out");
    ensure!(outside.post().await?.data["body"] == "out");
    // Its subscription is on its way to the homes.
    until("it hears", async || {
        nodes[0].client.say(ROOM, "in").await?;
        Ok(inside.post().await?.data["body"] == "in")
    })
    .await?;
    // Nobody is sent there.
    for node in &nodes {
        ensure!(node.nodes().await?.len() == 1, "{:?}", node.nodes().await?);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_is_too_cheap_for_its_homes_is_sent_back_with_their_price() -> anyhow::Result<()>
{
    let nodes = linked(4, |_, builder| builder).await?;
    let order = ranked(&nodes)?;
    let (home, outsider) = (&nodes[order[0]], &nodes[order[3]]);
    for at in 0..100 {
        let told = home.client.say(ROOM, &at.to_string()).await?;
        ensure!(told.status == 202, "{}", told.text());
    }
    // Nobody listens at the outsider, so that it knows nothing of these; now and then a proof is
    // by chance good enough for the homes.
    let mut refused = None;
    for at in 0..50 {
        let told = outsider.client.say(ROOM, &format!("cheap {at}")).await?;
        if told.status == 402 {
            refused = Some(told);
            break;
        }
        ensure!(told.status == 202, "{}", told.text());
    }
    let refused = refused.context("never refused")?.json()?;
    ensure!(refused["error"] == "pow_too_low", "{refused}");
    ensure!(refused["pow"]["work"].as_u64() >= Some(256 * 108 / 8), "{refused}");
    let paid = Price::of(&refused["pow"])?.pay("POST", &format!("/room/{ROOM}"), &[b"paid"])?;
    let told = outsider.client.post(&format!("/room/{ROOM}?{paid}"), "paid").await?;
    ensure!(told.status == 202 && told.json()?["acked"].as_u64() >= Some(1), "{}", told.text());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_stay_is_told_of_other_nodes() -> anyhow::Result<()> {
    let load = std::env::temp_dir().join(format!("mesh-full-{}", std::process::id()));
    std::fs::write(&load, "0.1 0.1")?;
    let nodes = linked(2, |at, builder| match at {
        0 => builder.set("LOAD_FILE", load.display()),
        _ => builder,
    });
    let mut nodes = nodes.await?;
    let mut listener = nodes[0].client.listen(ROOM, "").await?;
    std::fs::write(&load, "1 1")?;
    let http = HttpClient::plain(nodes[0].service.address()).new_connections();
    let stream = [("accept", "text/event-stream")];
    let mut refused = Value::Null;
    until("nobody new may listen", async || {
        // A stream that is open still has no end to wait for.
        let root = nodes[0].client.get("/").await?.ok()?;
        if root["load"]["max"].as_f64() <= Some(0.96) {
            return Ok(false);
        }
        let room = format!("/room/{ROOM}");
        let answer = http.send(Method::GET, &room, &stream, Bytes::new()).await?;
        ensure!(answer.status == 503 && !answer.header("retry-after").is_empty());
        refused = answer.json()?;
        Ok(true)
    })
    .await?;
    std::fs::remove_file(&load)?;
    ensure!(refused["error"] == "overloaded", "{refused}");
    ensure!(refused["nodes"] == json!([nodes[1].url]), "{refused}");
    // And so is who listens when the node stops.
    nodes[0].service.ask_to_drain();
    let bye = loop {
        let event = listener.next().await?;
        if event.name == "bye" {
            break event.data;
        }
    };
    ensure!(bye == json!({"reason": "shutdown", "nodes": [nodes[1].url]}), "{bye}");
    Ok(())
}
