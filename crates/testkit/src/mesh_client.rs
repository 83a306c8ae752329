//! A browser's side of a mesh node: tokens, work, posts, event streams.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use proto::mesh::proof::Challenge;
use serde_json::Value;
use tokio::time::timeout;

use crate::http_client::{Answer, HttpClient};
use crate::process::Builder;

/// Tries a proof may take before the test has gone wrong.
const TRIES: u64 = 1 << 26;
/// How long an expected event may take; generous, because tests share a machine.
const EVENT_WITHIN: Duration = Duration::from_secs(10);

/// What a node asks for, as it said it.
#[derive(Clone, Debug)]
pub struct Price {
    /// The token to pay with.
    pub token: String,
    /// The largest first word of a proof's hash.
    pub target: u64,
}

impl Price {
    /// From a quote, whose members are `token` and `target`.
    pub fn of(quote: &Value) -> anyhow::Result<Self> {
        let token = quote["token"].as_str().context("no token")?.to_owned();
        let target = quote["target"].as_str().context("no target")?;
        Ok(Self { token, target: u64::from_str_radix(target, 16)? })
    }

    /// The parameters that pay for a request: `t=…&n=…`.
    pub fn pay(&self, method: &str, path: &str, body: &[&[u8]]) -> anyhow::Result<String> {
        let challenge = Challenge::new(method, path, &self.token, body);
        let first = rand::random::<u32>();
        let (nonce, _) =
            challenge.mine(self.target, u64::from(first) << 32, TRIES).context("too dear")?;
        Ok(format!("t={}&n={}", self.token, proto::mesh::hex(&nonce)))
    }
}

/// Settings of a node in a test: cheap work, the loopback only, and one price however busy the machine is.
pub fn cheap(node: Builder) -> Builder {
    node.set("LOAD_FILE", "/dev/null")
        .set("POW_MIN", 8)
        .set("ID_BITS", 8)
        .set("NETWORK", "test")
        .set("ALLOW_PRIVATE", 1)
        .set("ADDRESS_POSTS", 1_000)
        .set("DHT", "off")
}

/// A client of one node.
#[derive(Debug)]
pub struct MeshClient {
    http: HttpClient,
    address: SocketAddr,
}

impl MeshClient {
    /// Speaks plain HTTP.
    pub fn plain(address: SocketAddr) -> Self {
        Self { http: HttpClient::plain(address), address }
    }

    /// `GET path` as JSON.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    /// `POST path` with parameters and a body, answered as JSON.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> anyhow::Result<Answer> {
        self.send(Method::POST, path, body.into()).await
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> anyhow::Result<Answer> {
        self.http.send(method, path, &[("accept", "application/json")], body).await
    }

    /// What a post to `room` costs now.
    pub async fn price(&self, room: &str) -> anyhow::Result<Price> {
        Price::of(&self.get(&format!("/room/{room}")).await?.ok()?)
    }

    /// Pays for a post to `room` and sends it.
    pub async fn say(&self, room: &str, body: &str) -> anyhow::Result<Answer> {
        let price = self.price(room).await?;
        let paid = price.pay("POST", &format!("/room/{room}"), &[body.as_bytes()])?;
        self.post(&format!("/room/{room}?{paid}"), body.to_owned()).await
    }

    /// Listens to a room; `more` are parameters such as `since=60`.
    pub async fn listen(&self, room: &str, more: &str) -> anyhow::Result<Listener> {
        let request = Request::get(format!("/room/{room}?{more}"))
            .header("host", self.address.to_string())
            .header("accept", "text/event-stream")
            .body(Full::new(Bytes::new()))?;
        let answer = HttpClient::plain(self.address).new_connections().start(request).await?;
        let status = answer.status().as_u16();
        let mut body = answer.into_body();
        if status != 200 {
            let text = (&mut body).collect().await?.to_bytes();
            anyhow::bail!("{status}: {}", String::from_utf8_lossy(&text));
        }
        let mut listener = Listener { body, buffer: String::new() };
        let hello = listener.next().await?;
        ensure!(hello.name == "hello", "{hello:?}");
        Ok(listener)
    }
}

/// One event of a stream.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// Its name; empty for posts.
    pub name: String,
    /// Its id; the post's.
    pub id: String,
    /// What it says.
    pub data: Value,
}

/// An open stream.
#[derive(Debug)]
pub struct Listener {
    body: Incoming,
    buffer: String,
}

impl Listener {
    /// The next event; comments are passed over.
    ///
    /// # Errors
    /// When none comes in time, or the stream ends.
    pub async fn next(&mut self) -> anyhow::Result<Event> {
        timeout(EVENT_WITHIN, self.read()).await.context("no event in time")?
    }

    /// The next post.
    ///
    /// # Errors
    /// As [`Listener::next`].
    pub async fn post(&mut self) -> anyhow::Result<Event> {
        loop {
            let event = self.next().await?;
            if event.name.is_empty() {
                return Ok(event);
            }
        }
    }

    async fn read(&mut self) -> anyhow::Result<Event> {
        loop {
            while let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.buffer = rest;
                let mut event = Event::default();
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("event", name)) => name.clone_into(&mut event.name),
                        Some(("id", id)) => id.clone_into(&mut event.id),
                        Some(("data", data)) => event.data = serde_json::from_str(data)?,
                        _ => {}
                    }
                }
                if !event.data.is_null() {
                    return Ok(event);
                }
            }
            let frame = self.body.frame().await.context("the stream has ended")??;
            if let Some(data) = frame.data_ref() {
                self.buffer += str::from_utf8(data)?;
            }
        }
    }
}
