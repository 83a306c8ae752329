//! How long a post takes from a node to the next.

mod common;

use std::time::{Duration, Instant};

use anyhow::ensure;
use common::{ROOM, linked};

#[tokio::test(flavor = "multi_thread")]
async fn a_post_is_on_the_next_node_within_a_second() -> anyhow::Result<()> {
    let nodes = linked(3, |_, builder| builder.set("POW_MIN", 1).set("POW_MAX", 1)).await?;
    let mut listener = nodes[2].client.listen(ROOM, "").await?;
    let mut took = Vec::new();
    for at in 0..200 {
        let body = at.to_string();
        let price = nodes[0].client.price(ROOM).await?;
        let paid = price.pay("POST", &format!("/room/{ROOM}"), &[body.as_bytes()])?;
        let began = Instant::now();
        let told = nodes[0].client.post(&format!("/room/{ROOM}?{paid}"), body.clone()).await?;
        ensure!(told.status == 202, "{}", told.text());
        ensure!(listener.post().await?.data["body"] == body);
        took.push(began.elapsed());
    }
    took.sort_unstable();
    println!("A to C: p50 {:?}, p99 {:?}, most {:?}", took[100], took[197], took[199]);
    ensure!(took[197] < Duration::from_secs(1));
    Ok(())
}
