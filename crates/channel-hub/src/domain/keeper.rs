//! What happens by itself: the lease, names given back, requests whose time is over.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use pg::Holding;
use service::{Context, Gate, Stop};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::desk::{Desk, Line, row};

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Rows written at a time.
const CHUNK: usize = 1_000;
/// Pause before the database is asked again, and between looks during a drain.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the last words to the database may take.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Takes the lease and sweeps what earlier processes left.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn begin<L: Line>(desk: &Desk<L>) -> Result<(), pg::Error> {
    let left_behind = desk.lease.begin(&desk.pool).await?;
    tracing::info!(left_behind, "took over");
    Ok(())
}

/// Starts everything that keeps the desk in order, until the drain is over.
pub(crate) fn start<L: Line>(desk: &Arc<Desk<L>>, renewal: Duration, gate: Gate, cx: &Context) {
    let draining = cx.stop.draining();
    let watched = desk.clone();
    cx.spawn(
        "database-watch",
        pg::watch(desk.pool.clone(), draining.clone(), move |up| {
            watched.storage_up.store(up, Ordering::Relaxed);
            if up { gate.open() } else { gate.close("the database does not answer") }
        }),
    );
    cx.spawn_essential("deadlines", expire(desk.clone(), cx.stop.clone()));
    cx.spawn_essential("lease", keep_lease(desk.clone(), renewal, draining.clone()));
    cx.spawn_essential("releases", give_back(desk.clone(), cx.stop.clone()));
}

async fn expire<L: Line>(desk: Arc<Desk<L>>, stop: Stop) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let is_over = || stop.draining().is_cancelled() && desk.is_empty();
    while !is_over() && stop.killed().run_until_cancelled(ticks.tick()).await.is_some() {
        desk.expire();
    }
}

/// Renews the lease; a process that was taken for dead puts its channels back.
async fn keep_lease<L: Line>(desk: Arc<Desk<L>>, renewal: Duration, stop: CancellationToken) {
    let mut ticks = interval(renewal);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Channels that others swept and that could not be put back yet.
    let mut swept = false;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(why) = renew(&desk, &mut swept).await {
            tracing::warn!(%why, "lease not renewed");
        }
    }
}

async fn renew<L: Line>(desk: &Desk<L>, swept: &mut bool) -> Result<(), pg::Error> {
    let renewal = desk.lease.renew(&desk.pool).await?;
    if renewal.swept > 0 {
        tracing::info!(channels = renewal.swept, "swept what a dead process left");
    }
    if !renewal.kept {
        desk.metrics.leases_lost.inc();
        *swept = true;
    }
    if *swept {
        restore(desk).await?;
        *swept = false;
    }
    Ok(())
}

/// Takes the names again that others have swept; who lost one to somebody else is cut off.
async fn restore<L: Line>(desk: &Desk<L>) -> Result<(), pg::Error> {
    let held = desk.held();
    for chunk in held.chunks(CHUNK) {
        let rows: Vec<Holding> = chunk.iter().map(row).collect();
        let ours = desk.lease.hold(&desk.pool, &rows).await?;
        for (lost, _) in chunk.iter().zip(ours).filter(|(_, ours)| !ours) {
            desk.lose(lost.channel);
        }
        desk.give_back_ended(chunk);
    }
    tracing::warn!(channels = held.len(), "others took this process for dead; channels put back");
    Ok(())
}

/// Deletes the rows of channels that ended, for as long as any may; then ends the lease.
async fn give_back<L: Line>(desk: Arc<Desk<L>>, stop: Stop) {
    let is_over = || stop.draining().is_cancelled() && desk.is_empty();
    while !is_over() {
        let wait = async {
            tokio::select! {
                () = desk.released.notified() => {}
                () = sleep(PAUSE) => {}
            }
        };
        if stop.killed().run_until_cancelled(wait).await.is_none() {
            break;
        }
        delete_rows(&desk).await;
    }
    match timeout(LAST_WORDS, desk.lease.end(&desk.pool)).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => tracing::warn!(%why, "lease left to expire"),
        Err(_) => tracing::warn!("lease left to expire: the database takes too long"),
    }
}

async fn delete_rows<L: Line>(desk: &Desk<L>) {
    let mut releases = desk.take_releases();
    while !releases.is_empty() {
        let count = releases.len().min(CHUNK);
        let rows: Vec<Holding> = releases[..count].iter().map(row).collect();
        if let Err(why) = desk.lease.give_back(&desk.pool, &rows).await {
            tracing::debug!(%why, "channels not given back yet");
            break;
        }
        releases.drain(..count);
    }
    let waiting = i64::try_from(releases.len()).unwrap_or(i64::MAX);
    desk.metrics.releases_waiting.set(waiting);
    if !releases.is_empty() {
        desk.put_back(releases);
    }
}
