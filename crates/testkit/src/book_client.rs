//! A peerbook client's side of the wire, in both dialects.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::http_client::{Answer, HttpClient};
use crate::json_socket::JsonSocket;

/// How a client of one of the two documents speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// The README's: `fp=`, `source_fp`, `{"peers":[…]}`.
    Readme,
    /// The plan's: `fingerprint=`, `source`, `{"list":[…]}`.
    Plan,
}

/// What a client says about itself.
#[derive(Clone, Debug)]
pub struct BookPeer {
    /// 64 upper-case hex digits, as clients write the SHA-256 of their certificate.
    pub fp: String,
    /// Its name in the user's book.
    pub name: String,
    /// `webexec`, `terminal7` or what the app likes.
    pub kind: String,
    /// The user's address.
    pub email: String,
}

impl BookPeer {
    /// A peer nobody has heard of.
    pub fn new(name: &str, kind: &str, email: &str) -> Self {
        let [name, kind, email] = [name, kind, email].map(str::to_owned);
        Self { fp: random_fp(), name, kind, email }
    }

    /// Path and query of this peer's WebSocket.
    pub fn path(&self, dialect: Dialect) -> String {
        let key = match dialect {
            Dialect::Readme => "fp",
            Dialect::Plan => "fingerprint",
        };
        let [fp, name] = [&self.fp, &self.name].map(|value| escaped(value));
        let [kind, email] = [&self.kind, &self.email].map(|value| escaped(value));
        format!("/ws?{key}={fp}&name={name}&kind={kind}&email={email}")
    }

    /// Opens this peer's WebSocket.
    pub async fn connect(
        &self,
        address: SocketAddr,
        dialect: Dialect,
    ) -> anyhow::Result<JsonSocket> {
        JsonSocket::plain(address, &self.path(dialect)).await
    }

    /// Opens this peer's WebSocket and waits until the server calls it verified.
    pub async fn connect_verified(
        &self,
        address: SocketAddr,
        dialect: Dialect,
    ) -> anyhow::Result<JsonSocket> {
        let mut socket = self.connect(address, dialect).await?;
        let status = socket.wait_for(|frame| frame["code"].is_u64()).await?;
        ensure!(status["code"] == 200, "{} is not verified: {status}", self.name);
        Ok(socket)
    }

    /// `POST /verify`.
    pub async fn verify(&self, http: &HttpClient) -> anyhow::Result<Answer> {
        let body =
            json!({"fp": self.fp, "email": self.email, "name": self.name, "kind": self.kind});
        http.post("/verify", body.to_string()).await
    }
}

/// Lets exactly these peers of a user in, as a form of the first release does; the token of the next link.
pub async fn tick(http: &HttpClient, token: &str, peers: &[&BookPeer]) -> anyhow::Result<String> {
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let ticks: Vec<String> = peers.iter().map(|peer| format!("{}=on", peer.fp)).collect();
    let body = Bytes::from(ticks.join("&"));
    let answer = http.send(Method::POST, &format!("/list/{token}"), &form, body).await?;
    ensure!(answer.status == 200, "{}: {}", answer.status, answer.text());
    let text = answer.text();
    let (_, behind) = text.split_once("/auth/").context("the answer holds the next link")?;
    Ok(behind.split('"').next().unwrap_or_default().to_owned())
}

/// The uid of the user a verified socket belongs to, from its 200.
pub fn uid(status: &Value) -> anyhow::Result<&str> {
    status["uid"].as_str().context("a 200 names the user")
}

/// A fingerprint nobody has.
pub fn random_fp() -> String {
    let bytes: [u8; 32] = rand::random();
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// Percent-encodes for a query or a form.
pub fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let escape = |byte| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
