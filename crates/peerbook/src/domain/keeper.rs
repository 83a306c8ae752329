//! What happens by itself: noticing other processes' changes, writing last-seen times, forgetting.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use pg::{Wake, Wakeups};
use service::Context;
use tokio::time::{MissedTickBehavior, interval};

use super::book::{Book, CHANNEL};
use crate::store;

/// How often changes are looked for that nobody told of.
const LOOK: Duration = Duration::from_secs(5);
/// How far back; longer than any transaction lasts.
const LOOK_BACK_S: f64 = 30.0;
/// How far back after notifications were missed.
const RESYNC_BACK_S: f64 = 3600.0;
/// How often last-seen times are written.
const WRITE: Duration = Duration::from_secs(1);
/// Rows written at a time.
const CHUNK: usize = 1000;
/// How often requests, users and codes are forgotten.
const SWEEP: Duration = Duration::from_secs(30);
/// Rows forgotten at a time.
const SWEEP_ROWS: i64 = 10_000;

/// Starts everything that keeps the book in order, until the drain.
pub(crate) fn start(book: &Arc<Book>, cx: &Context) {
    let spawn = |name, task| cx.spawn(name, task);
    let stop = cx.stop.draining();
    let wakeups = Wakeups::start(&book.pool, &[CHANNEL], stop.clone(), spawn);
    let (listening, ending) = (book.clone(), stop.clone());
    cx.spawn_essential("changes", async move {
        ending.run_until_cancelled(follow_changes(listening, wakeups)).await;
    });
    let (writing, ending) = (book.clone(), stop.clone());
    cx.spawn_essential("last-seen", async move {
        ending.run_until_cancelled(write_seen(writing.clone())).await;
        flush_seen(&writing).await;
    });
    let (sweeping, ending) = (book.clone(), stop.clone());
    cx.spawn_essential("sweeper", async move {
        ending.run_until_cancelled(sweep(sweeping)).await;
    });
}

async fn follow_changes(book: Arc<Book>, wakeups: Wakeups) {
    let mut woken = wakeups.subscribe();
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let done = tokio::select! {
            wake = woken.next() => match wake {
                Some(Wake::Notified { payload, .. }) => match payload.split_once(' ') {
                    Some((version, uid)) => refresh(&book, uid, version.parse().ok()).await,
                    None => Ok(()),
                },
                Some(Wake::Resync) => look_for_changes(&book, RESYNC_BACK_S).await,
                None => return,
            },
            _ = look.tick() => look_for_changes(&book, LOOK_BACK_S).await,
        };
        if let Err(why) = done {
            tracing::debug!(%why, "changes not looked up");
        }
    }
}

async fn look_for_changes(book: &Book, back_s: f64) -> Result<(), sqlx::Error> {
    for (uid, version) in store::account::changed_since(&book.pool, back_s).await? {
        refresh(book, &uid, Some(version)).await?;
    }
    Ok(())
}

/// Reads a user again whose version has grown.
pub(super) async fn refresh(
    book: &Book,
    uid: &str,
    version: Option<i64>,
) -> Result<(), sqlx::Error> {
    let circle = book.known_circle(uid);
    let known = circle.as_ref().map_or(0, |circle| circle.version());
    let concerns_us = circle.is_some() || !book.lobby.is_empty();
    if !concerns_us || version.is_some_and(|version| version <= known) {
        return Ok(());
    }
    let shelf = store::peer::shelf(&book.pool, uid).await?;
    book.metrics.refreshes.inc();
    book.bring_up_to_date(uid, shelf, None).await;
    Ok(())
}

async fn write_seen(book: Arc<Book>) {
    let mut ticks = interval(WRITE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        flush_seen(&book).await;
    }
}

async fn flush_seen(book: &Book) {
    let seen = std::mem::take(&mut *book.seen.lock());
    let (fps, times): (Vec<String>, Vec<i64>) =
        seen.into_iter().map(|(fp, at)| (fp.as_str().to_owned(), at)).unzip();
    for (fps, times) in fps.chunks(CHUNK).zip(times.chunks(CHUNK)) {
        if let Err(why) = store::peer::seen(&book.pool, fps, times).await {
            tracing::debug!(%why, "last-seen times not written");
        }
    }
}

async fn sweep(book: Arc<Book>) {
    let mut ticks = interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(why) = sweep_once(&book).await {
            tracing::debug!(%why, "not swept");
        }
        // Who is about to enter a circle holds it.
        let is_needed = |circle: &mut Arc<_>| Arc::strong_count(circle) > 1;
        book.circles.lock().retain(|_, circle| is_needed(circle) || !circle.is_quiet());
    }
}

/// Puts out the connections of users whom another process removed without us hearing of it.
async fn look_for_the_gone(book: &Book) -> Result<(), sqlx::Error> {
    let uids: Vec<String> = book.circles.lock().keys().cloned().collect();
    for some in uids.chunks(CHUNK) {
        for uid in store::account::gone(&book.pool, some).await? {
            refresh(book, &uid, None).await?;
        }
    }
    Ok(())
}

async fn sweep_once(book: &Book) -> Result<(), sqlx::Error> {
    look_for_the_gone(book).await?;
    let (pool, settings) = (&book.pool, &book.settings);
    store::peer::sweep(pool, settings.request_age.as_secs_f64(), SWEEP_ROWS).await?;
    store::account::sweep(pool, SWEEP_ROWS).await?;
    store::pairing::sweep(pool).await?;
    let waiting = store::peer::requests(pool, settings.max_requests).await?;
    book.waiting_requests.store(waiting, Ordering::Relaxed);
    book.metrics.waiting_requests.set(waiting);
    Ok(())
}
