//! The DHT when it is half dead, silent, or asked for too much (scenario 19).
#![allow(missing_docs, reason = "a test")]

mod common;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use common::{code, node};
use ed25519_dalek::{Signer as _, SigningKey};
use futures_util::future::try_join_all;
use mainline::Testnet;
use proto::mesh::{hex, item};
use testkit::database::Database;
use testkit::mesh_client::{MeshClient, Price};
use testkit::time::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn items_outlive_half_of_the_nodes() -> anyhow::Result<()> {
    let mut testnet = tokio::task::spawn_blocking(|| Testnet::builder(10).build()).await??;
    let (one, two) = (Database::fresh().await?, Database::fresh().await?);
    let joined = |database: &Database| {
        let bootstrap = testnet.bootstrap.join(",");
        node(database).set("DHT", "on").set("DHT_BOOTSTRAP", bootstrap).set("DHT_TIMEOUT", "500ms")
    };
    let (one, two) = (joined(&one).start().await?, joined(&two).start().await?);
    let (one, two) = (MeshClient::plain(one.address()), MeshClient::plain(two.address()));

    let key = SigningKey::from_bytes(&[9; 32]);
    let address = hex(&key.verifying_key().to_bytes());
    let signed = item::signed(b"", 1, b"still here");
    let signature = key.sign(&signed).to_bytes();
    let path = format!("/dht-put?k={address}&seq=1&sig={}", hex(&signature));
    let price = Price::of(&one.post(&path, "").await?.json()?["pow"])?;
    let paid =
        price.pay("POST", "/dht-put", &[&item::signed(b"", 1, b"still here"), &signature])?;
    let put = one.post(&format!("{path}&{paid}"), "still here").await?;
    ensure!(put.json()?["stored_at"].as_u64() >= Some(5), "{}", put.text());

    testnet.nodes.drain(..5);
    let got = eventually(Duration::from_secs(30), async || {
        two.get(&format!("/dht-get?k={address}&wait=full")).await.ok()?.ok().ok()
    });
    let got = got.await.context("the item is gone")?;
    ensure!(got["seq"] == 1 && got["v"] == "c3RpbGwgaGVyZQ==", "{got}");
    Ok(())
}

#[tokio::test]
async fn a_silent_dht_is_asked_for_so_much_at_once() -> anyhow::Result<()> {
    // It takes everything and says nothing.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let database = Database::fresh().await?;
    let node = node(&database)
        .set("DHT", "on")
        .set("DHT_BOOTSTRAP", silent.local_addr()?)
        .set("DHT_TIMEOUT", "3s")
        .set("FREE_GETS", 1_000)
        .start()
        .await?;
    let gets = (0..120_u8).map(|nth| {
        let key = hex(&SigningKey::from_bytes(&[nth; 32]).verifying_key().to_bytes());
        let client = MeshClient::plain(node.address());
        async move { client.get(&format!("/dht-get?k={key}")).await }
    });
    let answers = try_join_all(gets).await?;
    let mut refused = 0;
    for answer in &answers {
        ensure!(answer.status != 200, "{}", answer.text());
        refused += usize::from((answer.status, code(answer)?.as_str()) == (503, "dht_unavailable"));
    }
    // 32 in flight and 64 behind them wait; the rest is told so at once.
    ensure!(refused >= 120 - 96, "{refused} were refused");
    let root = MeshClient::plain(node.address()).get("/").await?;
    ensure!(root.status == 200, "the rest of the node goes on");
    Ok(())
}
