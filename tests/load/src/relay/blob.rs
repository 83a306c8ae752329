//! One big blob: up in chunks, five at a time as the app does, and down in one document.

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign_byupdate};
use futures_util::future::try_join_all;
use serde_json::json;
use sha2::{Digest as _, Sha256, Sha512};
use testkit::keys::Peer;
use testkit::relay_client::TTL_SECONDS;
use testkit::time::now_ms;

use crate::http::{Connection, Mode, get, post};
use crate::meter::{Meter, peak_resident, reset_peak, resident};
use crate::report::Row;
use crate::target::Target;

/// What the app puts into one chunk.
const CHUNK_BYTES: usize = 1024 * 1024;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Size of the blob in MiB.
    #[arg(long, default_value_t = 1024)]
    pub(crate) mebibytes: usize,
    /// Chunks under way at once.
    #[arg(long, default_value_t = 5)]
    pub(crate) parallel: usize,
}

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let upload = Upload { peer: Peer::random(), ts: now_ms(), chunks: options.mebibytes };
    let before = target.server_pid.and_then(resident);
    target.server_pid.inspect(|&pid| reset_peak(pid));
    let meter = Meter::start(target);

    let next = Cell::new(0);
    let started = Instant::now();
    try_join_all((0..options.parallel).map(|nth| upload.send_chunks(target, nth, &next))).await?;
    let up = started.elapsed();
    let (complete, digest) = upload.complete()?;
    let started = Instant::now();
    let mut connection = Connection::new(target.connect(0).await?);
    let request = post("/relay/blob/upload/complete", &complete, Mode::KeepAlive);
    let (status, body) = connection.exchange(&request).await?;
    ensure!(status == 200, "complete: {status} {}", String::from_utf8_lossy(body));
    let completing = started.elapsed();
    let started = Instant::now();
    ensure!(download(target, &upload.id()).await? == digest, "other bytes came back");
    let down = started.elapsed();

    let mut usage = meter.stop();
    usage.elapsed = up + completing + down;
    let rate = |time: Duration| options.mebibytes as f64 / time.as_secs_f64();
    let name = format!("relay blob of {} MiB, up and down", options.mebibytes);
    let mut row = Row::new(name, "MiB", 2 * options.mebibytes as u64, usage)
        .note("up MiB/s", rate(up))
        .note("complete s", completing.as_secs_f64())
        .note("down MiB/s", rate(down));
    if let Some((before, peak)) = before.zip(target.server_pid.and_then(peak_resident)) {
        row = row.note("RSS growth MiB", (peak as f64 - before as f64) / 1_048_576.0);
    }
    Ok(row)
}

struct Upload {
    peer: Peer,
    ts: i64,
    chunks: usize,
}

impl Upload {
    fn id(&self) -> String {
        format!("blob:{}", &self.peer.id[..12])
    }

    /// What every request of this upload says.
    fn common(&self) -> serde_json::Value {
        json!({"id": self.id(), "from": self.peer.id, "groupId": format!("dm:{}|x", self.peer.id),
               "fileName": "big.bin", "ts": self.ts, "ttl": TTL_SECONDS,
               "totalChunks": self.chunks})
    }

    async fn send_chunks(
        &self,
        target: &Target,
        nth: usize,
        next: &Cell<usize>,
    ) -> anyhow::Result<()> {
        let mut connection = Connection::new(target.connect(nth).await?);
        loop {
            let index = next.replace(next.get() + 1);
            if index >= self.chunks {
                return Ok(());
            }
            let mut body = self.common();
            body["chunkIndex"] = index.into();
            body["payload"] = STANDARD.encode(content(index)).into();
            let request = post("/relay/blob/upload/chunk", &body, Mode::KeepAlive);
            let (status, body) = connection.exchange(&request).await?;
            ensure!(status == 200, "chunk {index}: {status} {}", String::from_utf8_lossy(body));
        }
    }

    /// The completing request, signed over content that is made once more instead of kept.
    fn complete(&self) -> anyhow::Result<(serde_json::Value, [u8; 32])> {
        let mut body = self.common();
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let (id, from, group, file) = (text("id"), text("from"), text("groupId"), text("fileName"));
        let head = format!("{id}|{from}|{group}|{file}||{}|{TTL_SECONDS}|", self.ts);
        let secret = ExpandedSecretKey::from(&self.peer.key.to_bytes());
        let feed = |hash: &mut Sha512| {
            hash.update(head.as_bytes());
            (0..self.chunks).for_each(|index| hash.update(content(index)));
            Ok(())
        };
        let signature =
            raw_sign_byupdate::<Sha512, _>(&secret, feed, &self.peer.key.verifying_key())
                .context("hashing cannot fail")?;
        let mut digest = Sha256::new();
        (0..self.chunks).for_each(|index| digest.update(content(index)));
        body["sig"] = STANDARD.encode(signature.to_bytes()).into();
        body["signingPub"] = self.peer.public().into();
        Ok((body, digest.finalize().into()))
    }
}

/// The bytes of one chunk, the same every time.
fn content(index: usize) -> Vec<u8> {
    let mut state = (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(CHUNK_BYTES);
    while bytes.len() < CHUNK_BYTES {
        // xorshift64: cheap and incompressible
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// The SHA-256 of a blob's content, read as it arrives.
async fn download(target: &Target, id: &str) -> anyhow::Result<[u8; 32]> {
    let mut connection = Connection::new(target.connect(1).await?);
    let path = format!("/relay/blob/{}", id.replace(':', "%3A"));
    let head = connection.start(&get(&path, Mode::KeepAlive)).await?;
    ensure!(head.status == 200, "download: {}", head.status);
    let mut left = head.content.context("a blob's length is known")?;
    let mut payload = Payload::default();
    while left > 0 {
        let part = connection.body_part(left).await?;
        left -= part.len();
        payload.feed(part)?;
    }
    Ok(payload.digest.finalize().into())
}

/// Finds the member `payload` in a JSON document that comes in parts, and decodes its base64.
#[derive(Default)]
struct Payload {
    waiting: Vec<u8>,
    inside: bool,
    digest: Sha256,
}

impl Payload {
    fn feed(&mut self, part: &[u8]) -> anyhow::Result<()> {
        const START: &[u8] = b"\"payload\":\"";
        self.waiting.extend_from_slice(part);
        if !self.inside {
            let found = self.waiting.windows(START.len()).position(|window| window == START);
            let Some(at) = found else { return Ok(()) };
            self.waiting.drain(..at + START.len());
            self.inside = true;
        }
        let end = self.waiting.iter().position(|&byte| byte == b'"').unwrap_or(self.waiting.len());
        let whole = end - end % 4;
        self.digest.update(STANDARD.decode(&self.waiting[..whole])?);
        self.waiting.drain(..whole);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_found_and_decoded_in_any_parts() {
        let text = STANDARD.encode(content(3));
        let document = format!("{{\"id\":\"x\",\"payload\":\"{text}\"}}");
        for size in [1, 7, 4096] {
            let mut payload = Payload::default();
            document.as_bytes().chunks(size).for_each(|part| payload.feed(part).unwrap());
            assert_eq!(payload.digest.finalize()[..], Sha256::digest(content(3))[..]);
        }
    }
}
