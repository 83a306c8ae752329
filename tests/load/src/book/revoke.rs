//! How long after the end of an approval is committed its peer's socket is closed, and whether
//! anything still reaches it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Method;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use testkit::book_client::random_fp;
use testkit::http_client::HttpClient;
use testkit::time::now_us;

use super::{User, connect, user};
use crate::meter::Meter;
use crate::report::Row;
use crate::signal::contains;
use crate::target::Target;
use crate::ws::{Socket, text};

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// The database of the service: approved peers and links are put into it, and commit times
    /// read (which needs track_commit_timestamp).
    #[arg(long)]
    pub(crate) database_url: String,
    /// Approvals to end, one after the other.
    #[arg(long, default_value_t = 200)]
    pub(crate) rounds: usize,
    /// Another replica, which the peers are connected to.
    #[arg(long)]
    pub(crate) replica: Option<SocketAddr>,
}

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let pool = PgPool::connect(&options.database_url).await?;
    let peers = Target { target: options.replica.unwrap_or(target.target), ..target.clone() };
    let (mut latencies, mut late, mut heard) = (Vec::new(), 0, 0);
    let meter = Meter::start(target);
    for nth in 0..options.rounds {
        let round = Round::play(&pool, target, &peers, nth).await;
        let round = round.with_context(|| format!("round {nth}"))?;
        // Two clocks of one machine read a moment apart may disagree about who was first.
        latencies.push(u32::try_from(round.closed_us.max(0)).unwrap_or(u32::MAX));
        late += round.late;
        heard += round.heard;
    }
    let usage = meter.stop();
    pool.close().await;
    ensure!(heard > 0, "nothing was being sent when the approval ended");
    let place = if options.replica.is_some() { "other replica" } else { "same process" };
    let row = Row::new(format!("book revoke, {place}"), "rounds", latencies.len() as u64, usage);
    Ok(row.latencies(latencies).note("frames after", f64::from(late)))
}

/// What one end of an approval looked like from the peer it ended for.
struct Round {
    /// Microseconds from the commit to the last frame.
    closed_us: i64,
    /// Messages that came before.
    heard: u32,
    /// Messages that came after.
    late: u32,
}

impl Round {
    async fn play(
        pool: &PgPool,
        target: &Target,
        peers: &Target,
        nth: usize,
    ) -> anyhow::Result<Self> {
        let user = user(pool, 2).await?;
        let link = link(pool, &user).await?;
        let mut sender = connect(peers, 2 * nth, &user.fps[0]).await?;
        let mut receiver = connect(peers, 2 * nth + 1, &user.fps[1]).await?;
        let message = json!({"target": user.fps[1], "candidate": "x"});
        let message = text(message.to_string().as_bytes());
        let over = Cell::new(false);
        let (sent, seen, answered) = tokio::join!(
            talk(&mut sender, &message, &over),
            listen(&mut receiver, &over),
            end_approval(target, &link, &user.fps[1]),
        );
        sent?;
        answered?;
        let (closed_at, heard, late) = seen?;
        let committed: Option<i64> = sqlx::query_scalar(
            "SELECT (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint
             FROM peerbook.peer WHERE uid = $1 AND fp = $2 AND NOT verified",
        )
        .bind(&user.uid)
        .bind(&user.fps[1])
        .fetch_one(pool)
        .await?;
        let committed = committed.context("commit times are not kept")?;
        Ok(Self { closed_us: closed_at - committed, heard, late })
    }
}

/// A link as a mail holds it, put into the tables.
async fn link(pool: &PgPool, user: &User) -> anyhow::Result<String> {
    let token = random_fp()[..40].to_owned();
    let add = "INSERT INTO peerbook.token (digest, uid, expires_at, ends_at)
        VALUES ($1, $2, now() + interval '5 minutes', now() + interval '1 hour')";
    let digest = Sha256::digest(token.as_bytes()).to_vec();
    sqlx::query(add).bind(digest).bind(&user.uid).execute(pool).await?;
    Ok(token)
}

async fn talk(sender: &mut Socket, message: &[u8], over: &Cell<bool>) -> anyhow::Result<()> {
    while !over.get() {
        sender.send(message).await?;
        sender.receive_ready(|_| ()).await?;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Reads until the server hangs up: when the peer was told, and what came before and after.
async fn listen(socket: &mut Socket, over: &Cell<bool>) -> anyhow::Result<(i64, u32, u32)> {
    let (mut told_at, mut heard, mut late) = (None, 0, 0);
    loop {
        let see = |frame: &[u8]| {
            if contains(frame, "verification was revoked") {
                told_at = Some(now_us());
            } else if contains(frame, "\"candidate\"") {
                *(if told_at.is_some() { &mut late } else { &mut heard }) += 1;
            }
        };
        let went_on = tokio::time::timeout(Duration::from_secs(10), socket.receive(see)).await;
        // The server's close is an error to a generator.
        if went_on.context("the socket stays open")?.is_err() {
            over.set(true);
            return Ok((told_at.context("closed without a word")?, heard, late));
        }
    }
}

/// Ends an approval on the page a user has open.
async fn end_approval(target: &Target, link: &str, fp: &str) -> anyhow::Result<()> {
    tokio::time::sleep(Duration::from_millis(20)).await;
    let http = HttpClient::plain(target.target).new_connections();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = Bytes::from(format!("form=2&btn=update&do%3A{fp}=off"));
    let answer = http.send(Method::POST, &format!("/pb/{link}"), &form, body).await?;
    ensure!(answer.status == 200, "the page answers {}: {}", answer.status, answer.text());
    Ok(())
}
