//! A post to a room of the mesh, paid for.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use proto::mesh::hex;
use proto::mesh::proof::Challenge;
use serde_json::Value;

use super::STEP;
use crate::http;
use crate::secrets::random;

/// Tries a proof may take: far more than the price of a node at rest.
const TRIES: u64 = 1 << 24;

/// How often the price may have risen while a proof was looked for, as it does on a busy machine.
const RAISES: usize = 5;

/// The node names its price, and takes a post that pays it. `false` when it is so busy that the
/// check would be.
pub(super) async fn round_trip(mesh: SocketAddr) -> anyhow::Result<bool> {
    let path = format!("/room/{}", hex(&random::<20>()));
    let mut price = ask(mesh, &path).await?;
    for _ in 0..=RAISES {
        let token = price["token"].as_str().context("no token")?;
        let target = u64::from_str_radix(price["target"].as_str().context("no target")?, 16)?;
        let challenge = Challenge::new("POST", &path, token, &[b"{}"]);
        let Some((nonce, proof)) = challenge.mine(target, u64::from_be_bytes(random()), TRIES)
        else {
            return Ok(false);
        };
        let paid = format!("{path}?t={token}&n={}", hex(&nonce));
        let answer = http::post(mesh, &paid, b"{}".to_vec(), STEP).await?;
        let text = String::from_utf8_lossy(&answer.body);
        if answer.status == 402 {
            let refused: Value = serde_json::from_str(&text)?;
            price = refused["pow"].clone();
            continue;
        }
        ensure!(answer.status == 202, "the post was refused: {} {text}", answer.status);
        let told: Value = serde_json::from_str(&text)?;
        ensure!(told["id"] == *hex(&proof.0), "another post was accepted: {told}");
        ensure!(ask(mesh, &path).await?["recent"] == 1, "the post does not count");
        return Ok(true);
    }
    Ok(false)
}

async fn ask(mesh: SocketAddr, path: &str) -> anyhow::Result<Value> {
    let answer = http::get(mesh, &format!("{path}?format=json"), STEP).await?;
    ensure!(answer.status == 200, "{}", String::from_utf8_lossy(&answer.body));
    Ok(serde_json::from_slice(&answer.body)?)
}
