//! Clients that write to a relay and remember every answer that said "done".

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use testkit::keys::Peer;
use testkit::relay_client::{RelayClient, body::Blob};
use testkit::time::eventually;

/// Parts of the one file every writer uploads.
const CHUNKS: usize = 12;

/// Bytes of a part; more than the relay keeps in one row.
const CHUNK_BYTES: usize = 300_000;

/// Longest wait for progress; much longer than any recovery takes.
const PROGRESS_WITHIN: Duration = Duration::from_secs(90);

/// How long a client waits for an answer before it counts the request as unanswered.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Writers at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    confirmed: Arc<AtomicUsize>,
    writers: Vec<tokio::task::JoinHandle<Writer>>,
}

/// One client with its own mailbox, group and file, and what it was promised.
#[derive(Debug)]
pub struct Writer {
    address: SocketAddr,
    client: RelayClient,
    sender: Peer,
    recipient: Peer,
    group: String,
    stored: Vec<String>,
    /// Ids whose acknowledgement was answered.
    acked: HashSet<String>,
    /// Ids whose acknowledgement was sent, answered or not.
    ack_sent: HashSet<String>,
    /// Whether the relay confirmed who belongs to the group.
    group_known: bool,
    chunks: usize,
}

impl Load {
    /// Starts `writers` clients.
    #[expect(clippy::disallowed_methods, reason = "a test has no service context")]
    pub fn start(address: SocketAddr, writers: usize) -> Self {
        let (stop, confirmed) = (Arc::default(), Arc::default());
        let begin = |_| {
            let writer = Writer::new(address);
            tokio::spawn(writer.run(Arc::clone(&stop), Arc::clone(&confirmed)))
        };
        let writers = (0..writers).map(begin).collect();
        Self { stop, confirmed, writers }
    }

    /// Waits until `more` further writes were confirmed.
    pub async fn progress(&self, more: usize) -> anyhow::Result<()> {
        let goal = self.confirmed.load(Ordering::SeqCst) + more;
        let reached = async || (self.confirmed.load(Ordering::SeqCst) >= goal).then_some(());
        eventually(PROGRESS_WITHIN, reached).await.context("the writers make no progress")
    }

    /// Ends the load; the writers finish the request they are at.
    pub async fn end(self) -> anyhow::Result<Vec<Writer>> {
        self.stop.store(true, Ordering::SeqCst);
        let mut ended = Vec::new();
        for writer in self.writers {
            ended.push(writer.await?);
        }
        Ok(ended)
    }
}

impl Writer {
    fn new(address: SocketAddr) -> Self {
        let (sender, recipient) = (Peer::random(), Peer::random());
        let group = format!("group:{}", sender.id);
        let client = RelayClient::plain(address);
        let (stored, acked, ack_sent) = Default::default();
        let (group_known, chunks) = (false, 0);
        Self {
            address,
            client,
            sender,
            recipient,
            group,
            stored,
            acked,
            ack_sent,
            group_known,
            chunks,
        }
    }

    async fn run(mut self, stop: Arc<AtomicBool>, confirmed: Arc<AtomicUsize>) -> Self {
        let mut round = 0;
        while !stop.load(Ordering::SeqCst) {
            round += 1;
            if self.write(round).await {
                confirmed.fetch_add(1, Ordering::SeqCst);
            } else {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        self
    }

    /// One write; `true` when it was confirmed.
    async fn write(&mut self, round: usize) -> bool {
        match round % 8 {
            3 | 6 => self.acknowledge().await,
            1 if !self.group_known => {
                let members = [&*self.sender.id, &self.recipient.id];
                let id = format!("members:{round}");
                let update = self.client.members_update(&self.sender, &id, &self.group, &members);
                self.group_known = done(update).await;
                self.group_known
            }
            5 if self.chunks < CHUNKS => {
                let body =
                    self.blob().chunk(&self.sender, self.chunks, CHUNKS, &chunk(self.chunks));
                let sent = done(self.client.post("/relay/blob/upload/chunk", &body)).await;
                self.chunks += usize::from(sent);
                sent
            }
            _ => {
                let id = format!("m{round}");
                let payload = id.clone().into_bytes();
                let store = self.client.store(&self.sender, &id, &self.recipient.id, &payload);
                let stored = done(store).await;
                self.stored.extend(stored.then_some(id));
                stored
            }
        }
    }

    async fn acknowledge(&mut self) -> bool {
        let Some(id) = self.stored.iter().find(|id| !self.ack_sent.contains(*id)).cloned() else {
            return false;
        };
        self.ack_sent.insert(id.clone());
        let acked = done(self.client.ack(&self.recipient, &id)).await;
        self.acked.extend(acked.then_some(id));
        acked
    }

    fn blob(&self) -> Blob<'_> {
        let (id, group) = (self.sender.id.as_str(), self.group.as_str());
        Blob { id, group, file_name: "f", mime_type: "", ts: 1_741_590_002_123 }
    }

    /// Checks that every promise is kept.
    ///
    /// # Errors
    /// The first promise that is broken.
    pub async fn check(mut self) -> anyhow::Result<()> {
        self.client = RelayClient::plain(self.address);
        let waiting = self.mailbox().await?;
        for id in &self.stored {
            let gone = self.ack_sent.contains(id);
            ensure!(gone || waiting.contains(id), "{id} was stored and is lost");
        }
        for id in &self.acked {
            ensure!(!waiting.contains(id), "{id} was acknowledged and is back");
            let copy = self.client.store(&self.sender, id, &self.recipient.id, b"copy").await?;
            ensure!(copy.ok()?["stored"] == false, "the ack of {id} is forgotten");
        }
        if !self.stored.is_empty() {
            let thief = Peer::random().with_id(&self.sender.id);
            let theft = self.client.store(&thief, "theft", &self.recipient.id, b"x").await?;
            ensure!(theft.status == 401, "the key of {} is forgotten", self.sender.id);
        }
        if self.group_known {
            let (stranger, to) = (Peer::random(), [&*self.recipient.id]);
            let write = self.client.group_store(&stranger, "g", &self.group, &to, b"x").await?;
            ensure!(write.status == 403, "the members of {} are forgotten", self.group);
        }
        self.check_file().await
    }

    /// Sends the parts that were not confirmed, and no other.
    async fn check_file(&self) -> anyhow::Result<()> {
        let blob = self.blob();
        for index in self.chunks..CHUNKS {
            let body = blob.chunk(&self.sender, index, CHUNKS, &chunk(index));
            self.client.post("/relay/blob/upload/chunk", &body).await?.ok()?;
        }
        let content: Vec<u8> = (0..CHUNKS).flat_map(chunk).collect();
        let body = blob.complete(&self.sender, CHUNKS, &content);
        self.client.post("/relay/blob/upload/complete", &body).await?.ok()?;
        let document = self.client.blob(blob.id).await?.ok()?;
        let payload = document["payload"].as_str().context("payload is text")?;
        ensure!(proto::base64::decode_lenient(&payload.into()) == content, "the file changed");
        Ok(())
    }

    async fn mailbox(&self) -> anyhow::Result<HashSet<String>> {
        let mut all = HashSet::new();
        let mut cursor = String::new();
        loop {
            let query = format!("&limit=500{cursor}");
            let page = self.client.fetch(&self.recipient.id, &query).await?.ok()?;
            let messages = page["messages"].as_array().context("messages is a list")?;
            all.extend(messages.iter().filter_map(|m| m["id"].as_str()).map(str::to_owned));
            match (&page["cursor"], messages.len()) {
                (Value::String(last), 500) => cursor = format!("&cursor={last}"),
                _ => return Ok(all),
            }
        }
    }
}

/// Whether a request was answered, and with 200.
async fn done(request: impl Future<Output = anyhow::Result<testkit::http_client::Answer>>) -> bool {
    let answer = tokio::time::timeout(ANSWER_WITHIN, request).await;
    matches!(answer, Ok(Ok(answer)) if answer.status == 200)
}

fn chunk(index: usize) -> Vec<u8> {
    (0..CHUNK_BYTES).map(|at| (at * 31 + index * 7 + at / 251) as u8).collect()
}
