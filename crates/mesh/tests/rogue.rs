//! Whatever a linked node sends, honest traffic goes on: what no honest node would send is dropped,
//! and who sends it is banned. Who is not of the network does not link at all.

mod common;

use std::time::{Duration, Instant};

use anyhow::ensure;
use common::rogue::{Odd, Rogue};
use common::{Node, ROOM, linked, until};
use proto::mesh::hex;
use proto::mesh::link::{Frame, Post};
use testkit::mesh_client::Listener;

/// Whether the other side ends the link.
async fn ends(rogue: &mut Rogue) -> bool {
    loop {
        match rogue.next().await {
            Ok(_) => {}
            Err(why) => return !why.to_string().contains("elapsed"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn posts_no_honest_node_sends_are_dropped_and_their_sender_is_banned() -> anyhow::Result<()> {
    // Dear enough that work is not found by chance.
    let nodes = linked(2, |_, builder| builder.set("POW_MIN", 12).set("POW_MAX", 12)).await?;
    let node = &nodes[0];
    let mut listener = node.client.listen(ROOM, "").await?;
    let mut far = nodes[1].client.listen(ROOM, "").await?;
    let dear = Some(u64::MAX >> 12);
    let cases = [
        ("work", Odd { target: Some(u64::MAX >> 1), ..Odd::default() }),
        ("signature", Odd { unsigned: true, target: dear, ..Odd::default() }),
        ("stale", Odd { age_s: 160, target: dear, ..Odd::default() }),
        ("hops", Odd { hop: 3, target: dear, ..Odd::default() }),
        ("long", Odd { long: true, target: dear, ..Odd::default() }),
    ];
    for (at, (what, odd)) in cases.into_iter().enumerate() {
        let mut rogue = Rogue::link(200 + u8::try_from(at)?, node, None).await?;
        let mut sent = 0;
        for step in 0..30 {
            let post = rogue.post(&format!("{what} {step}"), odd)?;
            if what == "work" && post.open()?.proof.height() >= 10 {
                continue; // by chance it is work enough
            }
            sent += 1;
            if rogue.send(&Frame::Post(post)).await.is_err() {
                break;
            }
        }
        ensure!(sent >= 10 && ends(&mut rogue).await, "{what}: the link goes on");
        let again = Rogue::link(200 + u8::try_from(at)?, node, None).await;
        ensure!(again.is_err(), "{what}: linked again");
    }
    ensure!(node.service.metric("mesh_banned_total").await? == 5.0);
    // Too long a frame ends the link, and a frame that is none counts.
    let mut rogue = Rogue::link(210, node, None).await?;
    rogue.send_text("x".repeat(5_000)).await?;
    ensure!(ends(&mut rogue).await);
    let mut rogue = Rogue::link(211, node, None).await?;
    for _ in 0..10 {
        rogue.send_text("{}".to_owned()).await?;
    }
    ensure!(ends(&mut rogue).await && Rogue::link(211, node, None).await.is_err());

    // An honest post passes, the same one again is no news to anybody, nor is it when it loops.
    let mut honest = Rogue::link(220, node, None).await?;
    let post = honest.post("honest", Odd { target: dear, ..Odd::default() })?;
    let again = Post { hop: 2, ..post.clone() };
    for frame in [post.clone(), post.clone(), again] {
        honest.send(&Frame::Post(frame)).await?;
    }
    let id = hex(&post.open()?.proof.0);
    for _ in 0..2 {
        let Frame::Ack { id: acked, ok: true, .. } = honest.next().await? else {
            anyhow::bail!("no ack")
        };
        ensure!(acked == id);
    }
    nodes[1].client.say(ROOM, "last").await?;
    for listener in [&mut listener, &mut far] {
        let heard = listener.post().await?;
        ensure!(heard.data["body"] == "honest" && heard.id == id, "{heard:?}");
        let heard = listener.post().await?;
        ensure!(heard.data["body"] == "last", "{heard:?}");
    }
    Ok(())
}

/// The longest that one of thirty posts took from a client of one node to a listener of the other.
async fn slowest(from: &Node, listener: &mut Listener) -> anyhow::Result<Duration> {
    let mut slowest = Duration::ZERO;
    for nth in 0..30 {
        let body = format!("honest {nth}");
        let began = Instant::now();
        from.client.say(ROOM, &body).await?;
        loop {
            let event = listener.post().await?;
            if event.data["body"] == body {
                break;
            }
            ensure!(event.data["body"] == "flood", "{event:?}");
        }
        slowest = slowest.max(began.elapsed());
    }
    Ok(slowest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_cut_off_and_costs_honest_traffic_nothing() -> anyhow::Result<()> {
    let nodes = linked(2, |_, builder| builder).await?;
    let mut listener = nodes[1].client.listen(ROOM, "").await?;
    let mut flooder = Rogue::link(200, &nodes[1], None).await?;
    let post = Frame::Post(flooder.post("flood", Odd { hop: 2, ..Odd::default() })?);
    let flood = async {
        let mut sent = 0_u32;
        while sent < 20_000 && flooder.send(&post).await.is_ok() {
            sent += 1;
        }
        sent
    };
    let quiet = slowest(&nodes[0], &mut listener).await?;
    let (sent, flooded) = tokio::join!(flood, slowest(&nodes[0], &mut listener));
    let flooded = flooded?;
    println!("the slowest honest post took {quiet:?}, and {flooded:?} beside a flood of {sent}");
    // The machine may be busy otherwise: what a flood may cost is some times what is usual now.
    ensure!(flooded < 5 * quiet.max(Duration::from_millis(200)), "{quiet:?}, {flooded:?}");
    ensure!(ends(&mut flooder).await, "the flood goes on");
    ensure!(Rogue::link(200, &nodes[1], None).await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_nodes_on_the_list_link_where_there_is_one() -> anyhow::Result<()> {
    let allowed = hex(&common::key(1)) + "," + &hex(&common::key(2));
    let nodes =
        linked(2, |_, builder| builder.set("FEDERATION", "allowlist").set("ALLOW_KEYS", &allowed))
            .await?;
    ensure!(nodes[0].client.get("/").await?.ok()?["federation"] == "allowlist");
    ensure!(Rogue::link(3, &nodes[0], None).await.is_err(), "a stranger linked");
    let seed = nodes[0].url.clone();
    let stranger = Node::start(3, |builder| builder.set("PEERS", &seed)).await?;
    until("the stranger tried", async || {
        Ok(stranger.nodes().await?.len() == 1 && nodes[0].links().await? == 1)
    })
    .await?;
    ensure!(nodes[0].nodes().await?.len() == 1 && stranger.links().await? == 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_nodes_that_know_the_networks_key_link_where_there_is_one() -> anyhow::Result<()> {
    let nodes = linked(2, |_, builder| builder.set("NETWORK_KEY", hex(&[5; 32]))).await?;
    ensure!(Rogue::link(3, &nodes[0], None).await.is_err(), "linked without the key");
    ensure!(Rogue::link(3, &nodes[0], Some([6; 32])).await.is_err(), "linked with another key");
    Rogue::link(3, &nodes[0], Some([5; 32])).await?;
    Ok(())
}
