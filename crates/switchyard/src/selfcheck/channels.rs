//! A channel, a request for a pad, and its answer.

use std::net::SocketAddr;

use anyhow::ensure;

use super::identity::message_id;
use super::pads::{Client, SUCCESS};

const REGISTER: u16 = 3;
const UNREGISTER: u16 = 4;
const GET_CHANNELS: u16 = 5;
const CHANNELS: u16 = 6;
const PAD_REQUEST: u16 = 7;
const PAD_REQUEST_RESPONSE: u16 = 8;

/// A host registers a channel, a guest finds it and asks for a pad, and gets the host's answer.
/// `false` when the service wants a certificate, which this check has none of.
pub(super) async fn round_trip(hub: SocketAddr) -> anyhow::Result<bool> {
    let mut host = Client::connect(hub, "channel-hub").await?;
    let mut guest = Client::connect(hub, "channel-hub").await?;
    for client in [&mut host, &mut guest] {
        if !client.activate().await? {
            return Ok(false);
        }
    }
    let (channel, pad) = (message_id(), message_id());
    host.send(REGISTER, 2, channel.as_bytes()).await?;
    host.expect(SUCCESS).await?;
    guest.send(GET_CHANNELS, 2, b"").await?;
    let (kind, _, listed) = guest.next().await?;
    // With very many channels the list fits no packet, which is no fault.
    let found = listed.split(|byte| *byte == 0).any(|name| name == channel.as_bytes());
    ensure!(kind != CHANNELS || found, "the channel is not listed");
    guest.send(PAD_REQUEST, 3, channel.as_bytes()).await?;
    let (kind, id, asked) = host.next().await?;
    ensure!(kind == PAD_REQUEST && asked == channel.as_bytes(), "packet type {kind} instead");
    guest.expect(SUCCESS).await?;
    host.send(PAD_REQUEST_RESPONSE, id, &[&[1, 0], pad.as_bytes()].concat()).await?;
    host.expect(SUCCESS).await?;
    let answer = guest.expect(PAD_REQUEST_RESPONSE).await?;
    ensure!(answer[..] == [&[1, 0], pad.as_bytes()].concat(), "another pad was named");
    host.send(UNREGISTER, 3, channel.as_bytes()).await?;
    host.expect(SUCCESS).await?;
    host.close().await;
    guest.close().await;
    Ok(true)
}
