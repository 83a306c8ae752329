//! A post to a room of the mesh, paid for.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use proto::mesh::hex;
use proto::mesh::proof::{Challenge, Nonce, Proof};
use serde_json::Value;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::STEP;
use crate::http;
use crate::secrets::random;

/// How long the work for one post may take, with all that a price that rises meanwhile, as it does on a
/// busy machine, makes of it; at rest it is a fraction of a second.
const WORK: Duration = Duration::from_secs(5);

/// Tries between two looks at the clock, in which other tasks wait.
const TRIES: u64 = 1 << 14;

/// The node names its price, and takes a post that pays it. `false` when it is so busy that the
/// check would be.
pub(super) async fn round_trip(mesh: SocketAddr) -> anyhow::Result<bool> {
    let path = format!("/room/{}", hex(&random::<20>()));
    let mut price = ask(mesh, &path).await?;
    let until = Instant::now() + WORK;
    loop {
        let token = price["token"].as_str().context("no token")?;
        let target = u64::from_str_radix(price["target"].as_str().context("no target")?, 16)?;
        let challenge = Challenge::new("POST", &path, token, &[b"{}"]);
        let Some((nonce, proof)) = mine(&challenge, target, until).await else {
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
}

async fn mine(challenge: &Challenge, target: u64, until: Instant) -> Option<(Nonce, Proof)> {
    let mut first = u64::from_be_bytes(random());
    while Instant::now() < until {
        if let Some(found) = challenge.mine(target, first, TRIES) {
            return Some(found);
        }
        first = first.wrapping_add(TRIES);
        yield_now().await;
    }
    None
}

async fn ask(mesh: SocketAddr, path: &str) -> anyhow::Result<Value> {
    let answer = http::get(mesh, &format!("{path}?format=json"), STEP).await?;
    ensure!(answer.status == 200, "{}", String::from_utf8_lossy(&answer.body));
    Ok(serde_json::from_slice(&answer.body)?)
}
