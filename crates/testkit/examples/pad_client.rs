//! Two peers meet through a channel and talk through a link, in either generation of the protocol.
//!
//! `cargo run --example pad_client -- HUB LINKER [websocket|encrypted]`, for example
//! `cargo run --example pad_client -- 127.0.0.1:8081 127.0.0.1:8080`
#![allow(clippy::print_stdout)]

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use testkit::pad_client::{Generation, PadClient, Program};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (addresses, generations) = match &arguments[..] {
        [hub, linker] => ([hub, linker], Generation::BOTH.to_vec()),
        [hub, linker, which] => {
            let generation = match which.as_str() {
                "websocket" => Generation::WebSocket,
                "encrypted" => Generation::Encrypted,
                _ => bail!("{which} is neither websocket nor encrypted"),
            };
            ([hub, linker], vec![generation])
        }
        _ => bail!("usage: pad_client HUB_ADDRESS LINKER_ADDRESS [websocket|encrypted]"),
    };
    let [hub, linker]: [SocketAddr; 2] = [addresses[0].parse()?, addresses[1].parse()?];
    for generation in generations {
        meet(generation, hub, linker).await.with_context(|| format!("{generation:?}"))?;
    }
    Ok(())
}

/// Alice hosts a channel; Bob finds it, asks for a pad, and links to the one she makes for him.
async fn meet(generation: Generation, hub: SocketAddr, linker: SocketAddr) -> anyhow::Result<()> {
    let (channel, pad) = (b"alice's files".as_slice(), b"alice's pad 1".as_slice());
    let mut alice = PadClient::activated(generation, Program::ChannelHub, hub).await?;
    ensure!(alice.register_channel(channel).await?, "somebody has Alice's channel");

    let mut bob = PadClient::activated(generation, Program::ChannelHub, hub).await?;
    let channels = bob.channels().await?.context("the list is too long")?;
    println!("{generation:?}: Bob sees {} channels", channels.len());
    let asked = bob.send_pad_request(channel).await?;
    let request = alice.next_pad_request().await?;

    let mut host = PadClient::activated(generation, Program::PeerLinker, linker).await?;
    ensure!(host.register_pad(pad).await?, "somebody has Alice's pad");
    ensure!(alice.answer_pad_request(&request, Some(pad)).await?, "nobody waits for the pad");
    let pad = bob.pad(asked).await?.context("Alice made no pad")?;
    println!("{generation:?}: Bob is to link to {:?}", String::from_utf8_lossy(&pad));

    let mut guest = PadClient::activated(generation, Program::PeerLinker, linker).await?;
    ensure!(guest.register_pad(b"bob's pad").await?, "somebody has Bob's pad");
    guest.link_to(&mut host, &pad, b"what Alice told Bob").await?;
    guest.send_payload(b"GET /readme").await?;
    println!("{generation:?}: Alice got {:?}", host.next_payload().await?);
    host.send_payload(b"Read me first.").await?;
    println!("{generation:?}: Bob got {:?}", guest.next_payload().await?);
    ensure!(guest.unlink().await?, "Bob could not unlink");
    host.unlinked().await?;
    for client in [alice, bob, host, guest] {
        client.close().await?;
    }
    Ok(())
}
