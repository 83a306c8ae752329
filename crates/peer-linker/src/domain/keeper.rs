//! What happens by itself: the lease, pads given back, requests that are due.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use pg::Holding;
use service::{Context, Gate, Stop};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{desk::Desk, line::Line};

/// How often deadlines of requests are looked at.
const TICK: Duration = Duration::from_millis(100);
/// Rows written at a time.
const CHUNK: usize = 1_000;
/// Pause after the database did not answer.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the last words to the database may take.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Starts everything that keeps the desk in order, until the drain is over.
pub(crate) fn start<L: Line>(
    desk: &Arc<Desk<L>>,
    lease_renewal: Duration,
    gate: Gate,
    cx: &Context,
) {
    let draining = cx.stop.draining();
    let watched = desk.clone();
    cx.spawn(
        "database-watch",
        pg::watch(desk.pool.clone(), draining.clone(), move |up| {
            watched.storage_up.store(up, Ordering::Relaxed);
            if up { gate.open() } else { gate.close("the database does not answer") }
        }),
    );
    cx.spawn_essential("deadlines", expire(desk.clone(), draining.clone()));
    cx.spawn_essential("lease", keep_lease(desk.clone(), lease_renewal, draining.clone()));
    cx.spawn_essential("releases", write_releases(desk.clone(), cx.stop.clone()));
}

async fn expire<L: Line>(desk: Arc<Desk<L>>, stop: CancellationToken) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        desk.expire();
    }
}

/// Renews the lease; a process that was taken for dead puts its pads back.
async fn keep_lease<L: Line>(desk: Arc<Desk<L>>, renewal: Duration, stop: CancellationToken) {
    let mut ticks = interval(renewal);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(why) = renew(&desk).await {
            tracing::warn!(%why, "lease not renewed");
        }
    }
}

async fn renew<L: Line>(desk: &Desk<L>) -> Result<(), pg::Error> {
    let renewal = desk.lease.renew(&desk.pool).await?;
    desk.forsake(&desk.lease.siblings(&desk.pool).await?);
    if renewal.swept > 0 {
        tracing::info!(pads = renewal.swept, "swept what a dead process left");
    }
    if !renewal.kept {
        desk.metrics.leases_lost.inc();
        restore(desk).await?;
    }
    Ok(())
}

/// Registers again what others have swept; who lost the name to somebody else has to go.
async fn restore<L: Line>(desk: &Desk<L>) -> Result<(), pg::Error> {
    let held = desk.held();
    for chunk in held.chunks(CHUNK) {
        let rows: Vec<Holding> = chunk.iter().map(|(held, _)| held.clone()).collect();
        let taken = desk.lease.hold(&desk.pool, &rows).await?;
        for ((_, client), _) in chunk.iter().zip(taken).filter(|(_, is_ours)| !is_ours) {
            desk.evict(*client);
        }
    }
    for chunk in desk.names_held().chunks(CHUNK) {
        // A name that somebody took elsewhere is shared no more; who has met here goes on.
        desk.lease.hold(&desk.pool, chunk).await?;
    }
    tracing::warn!(pads = held.len(), "others took this process for dead; pads put back");
    Ok(())
}

/// Tells the database which pads are free, for as long as anybody may leave; then ends the lease.
async fn write_releases<L: Line>(desk: Arc<Desk<L>>, stop: Stop) {
    let is_over = || stop.draining().is_cancelled() && desk.is_idle();
    while !is_over() {
        let wait = async {
            tokio::select! {
                () = desk.released.notified() => {}
                () = sleep(PAUSE), if stop.draining().is_cancelled() => {}
                () = stop.draining().cancelled(), if !stop.draining().is_cancelled() => {}
            }
        };
        if stop.killed().run_until_cancelled(wait).await.is_none() {
            break;
        }
        while !write_some(&desk).await {
            if stop.killed().run_until_cancelled(sleep(PAUSE)).await.is_none() {
                break;
            }
        }
    }
    match timeout(LAST_WORDS, desk.lease.end(&desk.pool)).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => tracing::warn!(%why, "lease left to expire"),
        Err(_) => tracing::warn!("lease left to expire: the database takes too long"),
    }
}

/// `false` when the database did not answer.
async fn write_some<L: Line>(desk: &Desk<L>) -> bool {
    loop {
        let releases = desk.take_releases(CHUNK);
        if releases.is_empty() {
            desk.metrics.releases_waiting.set(0);
            return true;
        }
        if let Err(why) = desk.lease.give_back(&desk.pool, &releases).await {
            tracing::debug!(%why, "pads not given back yet");
            desk.put_back(releases);
            return false;
        }
    }
}
