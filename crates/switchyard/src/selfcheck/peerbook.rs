//! A peer that waits, another that lets it in, and an offer between them.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::STEP;
use super::identity::message_id;

/// A device of a user made for the occasion lets another in by its pairing code, then sends it an
/// offer. No mail is sent: nobody is asked by address.
pub(super) async fn round_trip(book: SocketAddr, pool: &PgPool) -> anyhow::Result<()> {
    let (uid, owner, friend) = (message_id(), message_id(), message_id());
    make_user(pool, &uid, &owner).await?;
    let checked = signal(book, &owner, &friend).await;
    sqlx::query("DELETE FROM peerbook.account WHERE uid = $1").bind(&uid).execute(pool).await?;
    checked
}

async fn make_user(pool: &PgPool, uid: &str, fp: &str) -> anyhow::Result<()> {
    let email = format!("{uid}@localhost");
    sqlx::query(
        "WITH made AS (
             INSERT INTO peerbook.account (uid, email, email_key) VALUES ($1, $2, $2) RETURNING uid)
         INSERT INTO peerbook.peer (uid, fp, name, verified, verified_at)
         SELECT uid, $3, 'self-check', true, now() FROM made",
    )
    .bind(uid)
    .bind(email)
    .bind(fp)
    .execute(pool)
    .await
    .map(drop)
    .context("cannot make a user")
}

async fn signal(book: SocketAddr, owner: &str, friend: &str) -> anyhow::Result<()> {
    let mut one = Client::open(book, owner).await?;
    one.wait(|told| told["code"] == 200).await.context("the owner is not let in")?;
    let mut other = Client::open(book, friend).await?;
    other.wait(|told| told["code"] == 401).await?;
    other.send(json!({ "command": "pair" })).await?;
    let shown = other.wait(|told| told["pairing_code"].is_string()).await?;
    one.send(json!({ "command": "approve", "code": shown["pairing_code"] })).await?;
    one.wait(|told| told["approved"] == friend).await?;
    other.wait(|told| told["code"] == 200).await.context("the other is not let in")?;
    let word = message_id();
    one.send(json!({ "target": friend, "offer": word })).await?;
    let offer = other.wait(|told| told["offer"].is_string()).await?;
    ensure!(
        offer["offer"] == word.as_str() && offer["source_fp"] == owner,
        "another offer: {offer}"
    );
    one.close().await;
    other.close().await;
    Ok(())
}

struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn open(book: SocketAddr, fp: &str) -> anyhow::Result<Self> {
        let connect = async {
            let stream = TcpStream::connect(book).await?;
            stream.set_nodelay(true)?;
            let url = format!("ws://{book}/ws?fp={fp}");
            anyhow::Ok(tokio_tungstenite::client_async(url, stream).await?.0)
        };
        Ok(Self(timeout(STEP, connect).await.context("no WebSocket in time")??))
    }

    async fn send(&mut self, message: Value) -> anyhow::Result<()> {
        timeout(STEP, self.0.send(Message::text(message.to_string()))).await??;
        Ok(())
    }

    /// The next message of which `is_it` holds; others are lists and presence and may pass.
    async fn wait(&mut self, is_it: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let messages = async {
            while let Some(message) = self.0.next().await {
                let Message::Text(text) = message? else { continue };
                let told: Value = serde_json::from_str(&text)?;
                if is_it(&told) {
                    return Ok(told);
                }
            }
            bail!("the connection was closed")
        };
        timeout(STEP, messages).await.context("no answer in time")?
    }

    /// Takes leave; the check is over whether or not the other side answers.
    async fn close(mut self) {
        let _ = timeout(STEP, self.0.close(None)).await;
    }
}
