//! One client's end of a link, and what it may hear.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use testkit::pad_client::linker::PAYLOAD;
use testkit::pad_client::{Packet, PadClient};
use tokio::time::timeout;

/// Silence after which all that came has been read.
const QUIET: Duration = Duration::from_millis(20);

/// A connection with a pad.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) client: PadClient,
    pub(super) link: Option<Link>,
}

/// One end of a link.
#[derive(Debug)]
pub(super) struct Link {
    /// No other link ever had it.
    pub(super) number: u64,
    own: usize,
    pub(super) partner: usize,
    pub(super) sent: u32,
    pub(super) heard: u32,
}

impl Link {
    pub(super) fn new(number: u64, own: usize, partner: usize) -> Self {
        Self { number, own, partner, sent: 0, heard: 0 }
    }
}

/// Link, sender, position, then as many bytes as these say.
fn payload(link: u64, sender: usize, position: u32) -> Vec<u8> {
    let mut body = link.to_le_bytes().to_vec();
    body.push(sender.to_le_bytes()[0]);
    body.extend_from_slice(&position.to_le_bytes());
    let length = (position as usize * 397 + sender * 31) % 3_000;
    body.extend((0..length).map(|at| (at % 251).to_le_bytes()[0]));
    body
}

impl Open {
    pub(super) fn new(client: PadClient) -> Self {
        Self { client, link: None }
    }

    /// Sends the next payload of its link.
    pub(super) async fn send(&mut self) -> anyhow::Result<()> {
        let link = self.link.as_mut().context("no link")?;
        let body = payload(link.number, link.own, link.sent);
        link.sent += 1;
        self.client.send_payload(&body).await
    }

    /// Reads what has come; `false` when the connection is over.
    pub(super) async fn read(&mut self) -> anyhow::Result<bool> {
        while let Ok(next) = timeout(QUIET, self.client.next()).await {
            let Ok(packet) = next else { return Ok(false) };
            if packet.kind == PAYLOAD {
                self.take(&packet)?;
            } else if packet.kind == self.client.unlinked_kind() {
                self.link = None;
            }
            // Else the answer to something that was given up.
        }
        Ok(true)
    }

    fn take(&mut self, packet: &Packet) -> anyhow::Result<()> {
        let start = packet.body.get(..13).unwrap_or(&packet.body);
        let link = self.link.as_mut().with_context(|| format!("no link, but payload {start:?}"))?;
        let expected = payload(link.number, link.partner, link.heard);
        ensure!(packet.body == expected, "{start:?} at {link:?}");
        link.heard += 1;
        Ok(())
    }
}
