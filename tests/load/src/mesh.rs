//! Generators for the mesh.

pub(crate) mod deliver;
pub(crate) mod idle;
pub(crate) mod request;

use anyhow::{Context as _, ensure};
use proto::mesh::hex;
use testkit::mesh_client::{MeshClient, Price};
use tokio::net::TcpStream;

use crate::http::{Connection, Mode, get};
use crate::target::Target;

/// A room per number.
fn room(nth: usize) -> String {
    let mut bytes = [0x5a; 32];
    bytes[..8].copy_from_slice(&(nth as u64).to_be_bytes());
    hex(&bytes)
}

/// A token to pay with; good for two minutes.
async fn token(target: &Target) -> anyhow::Result<String> {
    let asked = MeshClient::plain(target.target).get("/").await?.ok()?;
    Ok(asked["token"].as_str().context("no token")?.to_owned())
}

/// Writes out a request with a body that is paid for with about `work` hashes.
fn paid(path: &str, token: &str, body: &[u8], work: u64) -> anyhow::Result<Vec<u8>> {
    let price = Price { token: token.to_owned(), target: u64::MAX / work };
    let query = price.pay("POST", path, &[body])?;
    Ok(written(&format!("{path}?{query}"), body))
}

/// Writes out a POST that wants JSON back.
fn written(path: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = "Host: localhost\r\nAccept: application/json\r\n";
    let head = format!("POST {path} HTTP/1.1\r\n{head}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// A stream, and what has been read of it.
struct Listener(Connection<TcpStream>);

impl Listener {
    /// Opens the `nth` stream and reads its first event.
    async fn open(target: &Target, nth: usize, room: &str) -> anyhow::Result<Self> {
        let mut connection = Connection::new(target.connect(nth).await?);
        let head = connection.start(&get(&format!("/room/{room}"), Mode::KeepAlive)).await?;
        ensure!(head.status == 200, "no stream: {}", head.status);
        let mut seen = 0;
        while seen == 0 {
            seen = events(connection.body_part(usize::MAX).await?);
        }
        Ok(Self(connection))
    }

    /// The next bytes.
    async fn read(&mut self) -> anyhow::Result<&[u8]> {
        self.0.body_part(usize::MAX).await
    }
}

/// How many events end in these bytes: each is a JSON object without another one in it.
fn events(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte == b'}').count()
}
