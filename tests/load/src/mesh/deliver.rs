//! Posts that everybody in a room hears, and what each delivery costs the server.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::future::try_join_all;
use tokio::time::timeout;

use super::{Listener, events, paid, room, token};
use crate::http::Connection;
use crate::meter::Meter;
use crate::report::Row;
use crate::target::Target;

/// Hashes a post is worth: enough for any price that this many posts make.
const WORK: u64 = 2_048;
/// Bytes of a post.
const BODY: usize = 600;
/// Digits with which a post begins: when it was sent.
const DIGITS: usize = 16;
/// Listeners of each room that look at the time.
const TIMED: usize = 4;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Rooms.
    #[arg(long, default_value_t = 4)]
    pub(crate) rooms: usize,
    /// Listeners of each room.
    #[arg(long, default_value_t = 250)]
    pub(crate) listeners: usize,
    /// Posts a second to each room.
    #[arg(long, default_value_t = 60)]
    pub(crate) posts: usize,
    /// Seconds to measure.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
}

pub(crate) async fn run(target: &Target, options: &Options) -> anyhow::Result<Row> {
    let mut listeners = Vec::new();
    for nth in 0..options.rooms * options.listeners {
        listeners.push(Listener::open(target, nth, &room(nth % options.rooms)).await?);
    }
    let token = token(target).await?;
    let posts = (options.posts as f64 * options.seconds) as usize;
    let wanted = posts * options.listeners;
    let (heard, latencies) = (Cell::new(0), RefCell::new(Vec::new()));
    let began = Instant::now();
    let meter = Meter::start(target);
    let readers = listeners.iter_mut().enumerate().map(|(nth, listener)| {
        let (heard, latencies) = (&heard, &latencies);
        let timed = nth / options.rooms < TIMED;
        async move {
            let mut seen = 0;
            while seen < posts {
                let bytes = listener.read().await?;
                let now = began.elapsed();
                seen += events(bytes);
                heard.set(heard.get() + events(bytes));
                if timed {
                    latencies.borrow_mut().extend(sent(bytes).map(|at| us(now.saturating_sub(at))));
                }
            }
            anyhow::Ok(())
        }
    });
    let writers = (0..options.rooms).map(|nth| {
        let token = &token;
        async move {
            let path = format!("/room/{}", room(nth));
            let mut connection = Connection::new(target.connect(nth).await?);
            let gap = Duration::from_secs_f64(1.0 / options.posts as f64);
            for at in 0..posts {
                let due = began + gap * u32::try_from(at)?;
                tokio::time::sleep_until(due.into()).await;
                let mut body = format!("{:0DIGITS$}", began.elapsed().as_micros()).into_bytes();
                body.resize(BODY, b'x');
                let (status, said) = connection.exchange(&paid(&path, token, &body, WORK)?).await?;
                ensure!(status == 202, "{status}: {}", String::from_utf8_lossy(said));
            }
            anyhow::Ok(())
        }
    });
    let limit = Duration::from_secs_f64(options.seconds * 4.0 + 20.0);
    let all = async { tokio::try_join!(try_join_all(readers), try_join_all(writers)) };
    let done = timeout(limit, all).await;
    let usage = meter.stop();
    ensure!(done.is_ok(), "{} of {} deliveries", heard.get(), wanted * options.rooms);
    done??;
    let name = format!("mesh deliver, {} rooms of {}", options.rooms, options.listeners);
    let count = (wanted * options.rooms) as u64;
    Ok(Row::new(name, "deliveries", count, usage).latencies(latencies.into_inner()))
}

/// When the posts in these bytes were sent; those that were cut are passed over.
fn sent(bytes: &[u8]) -> impl Iterator<Item = Duration> + '_ {
    const MARK: &[u8] = b"\"body\":\"";
    let marks = bytes.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    marks.filter_map(|(at, _)| {
        let digits = bytes.get(at + MARK.len()..at + MARK.len() + DIGITS)?;
        Some(Duration::from_micros(str::from_utf8(digits).ok()?.parse().ok()?))
    })
}

fn us(time: Duration) -> u32 {
    time.as_micros().try_into().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_whole_posts_are_found() {
        let bytes = br#"{"body":"0000000000000012xx"} {"body":"0000000000000034xx"} {"body":"00"#;
        let found: Vec<_> = sent(bytes).map(us).collect();
        assert_eq!((found, events(bytes)), (vec![12, 34], 2));
    }
}
