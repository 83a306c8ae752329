//! Candidates from one of a user's peers to another, each checked against the book.

use serde_json::json;
use sqlx::PgPool;

use super::{connect, user};
use crate::report::Row;
use crate::signal::forward::{Pair, measure};
use crate::target::Target;
use crate::ws::text;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// The service's database, to put approved peers in.
    #[arg(long)]
    pub(crate) database_url: String,
    /// Users with two peers each.
    #[arg(long, default_value_t = 100)]
    pub(crate) pairs: usize,
    /// Messages of a pair that are under way at once.
    #[arg(long, default_value_t = 1)]
    pub(crate) window: usize,
    /// Size of the candidate; at least 1000.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1000..=60_000))]
    pub(crate) bytes: u32,
    /// Seconds to measure.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
}

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let pool = PgPool::connect(&options.database_url).await?;
    let mut pairs = Vec::new();
    for nth in 0..options.pairs {
        let user = user(&pool, 2).await?;
        let sender = connect(target, 2 * nth, &user.fps[0]).await?;
        let receiver = Some(connect(target, 2 * nth + 1, &user.fps[1]).await?);
        let candidate: String = (0..options.bytes).map(|_| rand::random_range('a'..='z')).collect();
        let message = json!({"target": user.fps[1], "candidate": {"candidate": candidate}});
        pairs.push(Pair { sender, receiver, signal: text(message.to_string().as_bytes()) });
    }
    pool.close().await;
    measure(target, pairs, options.window, options.seconds, "book forward").await
}
