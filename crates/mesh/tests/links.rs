//! Linked nodes carry posts: every listener hears every post once, wherever it was sent.

mod common;

use anyhow::ensure;
use common::{ROOM, linked, until};
use testkit::mesh_client::MeshClient;

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
