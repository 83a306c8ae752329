//! A PeerLink client's side of the relay: signed requests and their answers.
//!
//! [`body`] builds the exact bytes of every request, for tests that want to spoil them;
//! [`RelayClient`] sends them with the present time.

use std::net::SocketAddr;

use crate::http_client::{Answer, HttpClient};
use crate::keys::Peer;
use crate::time::now_ms;

/// How long clients ask the relay to keep a message, in seconds: always a day.
pub const TTL_SECONDS: i64 = 86_400;

/// Request bodies as JSON text, signed over the strings of the spec's section 2.4.
pub mod body {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};

    use super::TTL_SECONDS;
    use crate::keys::Peer;

    /// `/relay/store`.
    pub fn store(from: &Peer, id: &str, to: &str, ts: i64, payload: &[u8]) -> Value {
        let head = format!("{id}|{}|{to}|{ts}|{TTL_SECONDS}|", from.id);
        let sig = from.sign(&[head.as_bytes(), payload].concat());
        json!({"id": id, "from": from.id, "to": to, "ts": ts, "ttl": TTL_SECONDS,
               "payload": STANDARD.encode(payload), "sig": sig, "signingPub": from.public()})
    }

    /// `/relay/group/store`. The recipients are signed as the server normalises them.
    pub fn group_store(
        from: &Peer,
        id: &str,
        group: &str,
        recipients: &[&str],
        ts: i64,
        payload: &[u8],
    ) -> Value {
        let listed = normalised(recipients, Some(&from.id));
        let head = format!("{id}|{}|{group}|{listed}|{ts}|{TTL_SECONDS}|", from.id);
        let sig = from.sign(&[head.as_bytes(), payload].concat());
        json!({"id": id, "from": from.id, "groupId": group, "recipients": recipients, "ts": ts,
               "ttl": TTL_SECONDS, "payload": STANDARD.encode(payload), "sig": sig,
               "signingPub": from.public()})
    }

    /// `/relay/group/members/update`.
    pub fn members_update(owner: &Peer, id: &str, group: &str, members: &[&str], ts: i64) -> Value {
        let (by, listed) = (&owner.id, normalised(members, None));
        let sig =
            owner.sign(format!("{id}|{by}|{group}|{by}|{listed}|{ts}|{TTL_SECONDS}").as_bytes());
        json!({"id": id, "from": by, "groupId": group, "ownerPeerId": by,
               "memberPeerIds": members, "ts": ts, "ttl": TTL_SECONDS, "sig": sig,
               "signingPub": owner.public()})
    }

    /// `/relay/ack`, of a message in the signer's own mailbox.
    pub fn ack(by: &Peer, id: &str, ts: i64) -> Value {
        let sig = by.sign(format!("{id}|{0}|{0}|{ts}", by.id).as_bytes());
        json!({"id": id, "from": by.id, "to": by.id, "ts": ts, "sig": sig,
               "signingPub": by.public()})
    }

    /// What names a blob in all of its requests.
    #[derive(Clone, Debug)]
    pub struct Blob<'a> {
        /// The blob's id.
        pub id: &'a str,
        /// The group it belongs to.
        pub group: &'a str,
        /// Its file name.
        pub file_name: &'a str,
        /// Its MIME type; left out of the request when empty.
        pub mime_type: &'a str,
        /// The time in its requests.
        pub ts: i64,
    }

    impl Blob<'_> {
        /// `/relay/blob/upload`: all of it in one request.
        pub fn upload(&self, from: &Peer, content: &[u8]) -> Value {
            let mut body = self.common(from);
            body["payload"] = STANDARD.encode(content).into();
            self.signed(body, from, content)
        }

        /// `/relay/blob/upload/chunk`, which is not signed.
        pub fn chunk(&self, from: &Peer, index: usize, total: usize, content: &[u8]) -> Value {
            let mut body = self.common(from);
            body["chunkIndex"] = index.into();
            body["totalChunks"] = total.into();
            body["payload"] = STANDARD.encode(content).into();
            body
        }

        /// `/relay/blob/upload/complete`, signed over the whole content.
        pub fn complete(&self, from: &Peer, total: usize, content: &[u8]) -> Value {
            let mut body = self.common(from);
            body["totalChunks"] = total.into();
            self.signed(body, from, content)
        }

        fn common(&self, from: &Peer) -> Value {
            let mut body = json!({"id": self.id, "from": from.id, "groupId": self.group,
                "fileName": self.file_name, "ts": self.ts, "ttl": TTL_SECONDS});
            if !self.mime_type.is_empty() {
                body["mimeType"] = self.mime_type.into();
            }
            body
        }

        fn signed(&self, mut body: Value, from: &Peer, content: &[u8]) -> Value {
            let Self { id, group, file_name, mime_type, ts } = self;
            let by = &from.id;
            let head = format!("{id}|{by}|{group}|{file_name}|{mime_type}|{ts}|{TTL_SECONDS}|");
            body["sig"] = from.sign(&[head.as_bytes(), content].concat()).into();
            body["signingPub"] = from.public().into();
            body
        }
    }

    fn normalised(peers: &[&str], without: Option<&str>) -> String {
        let mut peers: Vec<&str> = peers.iter().map(|peer| peer.trim()).collect();
        peers.retain(|&peer| !peer.is_empty() && Some(peer) != without);
        peers.sort_unstable();
        peers.dedup();
        peers.join(",")
    }
}

/// Talks to one relay for any number of peers.
#[derive(Debug)]
pub struct RelayClient {
    /// For requests this has no method for.
    pub http: HttpClient,
}

impl RelayClient {
    /// Plain HTTP on one kept connection.
    pub fn plain(address: SocketAddr) -> Self {
        Self { http: HttpClient::plain(address) }
    }

    /// TLS on one kept connection, whatever the certificate.
    pub fn tls(address: SocketAddr) -> Self {
        Self { http: HttpClient::tls(address) }
    }

    /// A connection for every request, as today's app does.
    pub fn new_connections(self) -> Self {
        Self { http: self.http.new_connections() }
    }

    /// Leaves a message for one peer.
    pub async fn store(
        &self,
        from: &Peer,
        id: &str,
        to: &str,
        payload: &[u8],
    ) -> anyhow::Result<Answer> {
        self.post("/relay/store", &body::store(from, id, to, now_ms(), payload)).await
    }

    /// Leaves a message for members of a group.
    pub async fn group_store(
        &self,
        from: &Peer,
        id: &str,
        group: &str,
        recipients: &[&str],
        payload: &[u8],
    ) -> anyhow::Result<Answer> {
        let body = body::group_store(from, id, group, recipients, now_ms(), payload);
        self.post("/relay/group/store", &body).await
    }

    /// Sets the members of a group the signer owns.
    pub async fn members_update(
        &self,
        owner: &Peer,
        id: &str,
        group: &str,
        members: &[&str],
    ) -> anyhow::Result<Answer> {
        let body = body::members_update(owner, id, group, members, now_ms());
        self.post("/relay/group/members/update", &body).await
    }

    /// Confirms a message in the signer's mailbox, which removes it.
    pub async fn ack(&self, by: &Peer, id: &str) -> anyhow::Result<Answer> {
        self.post("/relay/ack", &body::ack(by, id, now_ms())).await
    }

    /// One page of a mailbox; `query` is what follows `to=…`, for example `"&limit=10&cursor=m1"`.
    pub async fn fetch(&self, to: &str, query: &str) -> anyhow::Result<Answer> {
        self.http.get(&format!("/relay/fetch?to={to}{query}")).await
    }

    /// The ids in one page of a mailbox, in order.
    pub async fn fetch_ids(&self, to: &str, query: &str) -> anyhow::Result<Vec<String>> {
        let page = self.fetch(to, query).await?.ok()?;
        let messages = page["messages"].as_array().cloned().unwrap_or_default();
        Ok(messages.iter().map(|m| m["id"].as_str().unwrap_or_default().to_owned()).collect())
    }

    /// Uploads a blob in chunks of `chunk_bytes`, then completes it; the answer to the first
    /// request that is refused, else to the completion.
    pub async fn upload_in_chunks(
        &self,
        from: &Peer,
        blob: &body::Blob<'_>,
        content: &[u8],
        chunk_bytes: usize,
    ) -> anyhow::Result<Answer> {
        let total = content.len().div_ceil(chunk_bytes);
        for (index, chunk) in content.chunks(chunk_bytes).enumerate() {
            let body = blob.chunk(from, index, total, chunk);
            let answer = self.post("/relay/blob/upload/chunk", &body).await?;
            if answer.status != 200 {
                return Ok(answer);
            }
        }
        self.post("/relay/blob/upload/complete", &blob.complete(from, total, content)).await
    }

    /// Fetches a blob's JSON document; `id` must already be percent-encoded.
    pub async fn blob(&self, id: &str) -> anyhow::Result<Answer> {
        self.http.get(&format!("/relay/blob/{id}")).await
    }

    /// Posts any JSON.
    pub async fn post(&self, path: &str, body: &serde_json::Value) -> anyhow::Result<Answer> {
        self.http.post(path, body.to_string()).await
    }
}
