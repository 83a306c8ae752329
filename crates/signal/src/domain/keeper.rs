//! What happens by itself: leases, leavers, deadlines, forgetting.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use proto::signal::PeerId;
use service::{Context, Gate};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{desk::Desk, exchange::hear, roster::Leaver};
use crate::store::{
    self, NodeId,
    session::{Held, Left},
};

/// How long ended sessions are gathered before the database is told.
const GATHER: Duration = Duration::from_millis(200);
/// Rows written at a time.
const CHUNK: usize = 1_000;
/// How often windows and deadlines are looked at.
const TICK: Duration = Duration::from_millis(500);
/// How often it is looked which other processes run.
const SIBLINGS: Duration = Duration::from_secs(1);
/// How often nonces are forgotten.
const NONCE_SWEEP: Duration = Duration::from_secs(10);
/// How often last-seen times are forgotten.
const LAST_SEEN_SWEEP: Duration = Duration::from_secs(60);
/// How long the last words to the database may take.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How this process is known to its siblings.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    pub(crate) node: NodeId,
    pub(crate) instance: String,
    pub(crate) renewal: Duration,
    pub(crate) expiry: Duration,
}

/// Takes the lease and reads what earlier processes left: whose peers are gone, and since when.
///
/// # Errors
/// When the database does not answer.
pub(crate) async fn begin(
    desk: &Desk,
    lease: &Lease,
    last_seen: (Duration, usize),
) -> Result<(), pg::Error> {
    let pool = &desk.pool;
    let predecessor = Some(lease.instance.as_str());
    let left = store::node::sweep(pool, lease.node, predecessor, lease.expiry).await?;
    store::node::start(pool, lease.node, &lease.instance).await?;
    let recent = store::last_seen::recent(pool, last_seen.0, last_seen.1).await?;
    tracing::info!(left_behind = left.len(), known = recent.len(), "took over");
    note(desk, recent.into_iter().rev());
    let others = store::node::others(pool, lease.node).await?.len();
    desk.exchange.siblings.store(others, Ordering::Relaxed);
    if others > 0 {
        // Before they have seen this lease, they do not look in the table for who registers here.
        sleep(SIBLINGS + SIBLINGS / 4).await;
    }
    // Who asks before the bus is heard gets all peers too.
    let rows = super::exchange::read_rows(desk).await?;
    desk.registry.reconcile(&rows, &HashSet::new(), desk.clock.now_ms());
    Ok(())
}

fn note(desk: &Desk, departed: impl Iterator<Item = store::LastSeen>) {
    let with_id = |seen: store::LastSeen| (PeerId::from_wtf8(&seen.peer), seen.at_ms);
    desk.registry.note_departed(departed.map(with_id));
}

/// Starts everything that keeps the desk in order, until the drain is over.
pub(crate) fn start(
    desk: &Arc<Desk>,
    lease: &Lease,
    last_seen_age: Duration,
    gate: Gate,
    cx: &Context,
) {
    let watched = desk.clone();
    cx.spawn(
        "database-watch",
        pg::watch(desk.pool.clone(), cx.stop.draining().clone(), move |up| {
            watched.storage_up.store(up, Ordering::Relaxed);
            if up { gate.open() } else { gate.close("the database does not answer") }
        }),
    );
    // Sessions are served until the last one is gone, and what was kept for them is handed over: so long
    // the process stays what it is.
    let over = cx.stop.killed().child_token();
    cx.spawn_essential("clockwork", every(TICK, over.clone(), tick, desk.clone()));
    let (kept, stop) = (desk.clone(), cx.stop.draining().clone());
    cx.spawn_essential("sweeper", sweep(kept, last_seen_age, stop));
    cx.spawn_essential("lease", keep_lease(desk.clone(), lease.clone(), over.clone()));
    let (hearing, until) = (hear(desk.clone(), desk.exchange.bus.subscribe()), over.clone());
    cx.spawn_essential("exchange", async move {
        until.run_until_cancelled(hearing).await;
    });
    let leavers = record_leavers(desk.clone(), lease.node, cx.stop.clone(), over);
    cx.spawn_essential("leavers", leavers);
}

async fn every(period: Duration, stop: CancellationToken, work: impl Fn(&Desk), desk: Arc<Desk>) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        work(&desk);
    }
}

fn tick(desk: &Desk) {
    let now_ms = desk.clock.now_ms();
    desk.registry.expire(now_ms);
    let late = desk.waiting.close_late(now_ms);
    desk.metrics.deadlines.inc_by(late as u64);
    let count = |count| i64::try_from(count).unwrap_or(i64::MAX);
    desk.metrics.known.set(count(desk.registry.known()));
    desk.metrics.online.set(count(desk.registry.online())); // peers are taken over from elsewhere too
}

async fn sweep(desk: Arc<Desk>, last_seen_age: Duration, stop: CancellationToken) {
    let mut nonces = interval(NONCE_SWEEP);
    let mut last_seen = interval(LAST_SEEN_SWEEP);
    for ticks in [&mut nonces, &mut last_seen] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        let swept = tokio::select! {
            () = stop.cancelled() => return,
            _ = nonces.tick() => store::nonce::sweep(&desk.pool).await,
            _ = last_seen.tick() => store::last_seen::sweep(&desk.pool, last_seen_age).await,
        };
        match swept {
            Ok(rows) => tracing::debug!(rows, "swept"),
            Err(why) => tracing::debug!(%why, "not swept"),
        }
    }
}

/// Renews the lease; a process that was taken for dead says that it is not.
async fn keep_lease(desk: Arc<Desk>, lease: Lease, stop: CancellationToken) {
    let (mut renewals, mut looks) = (interval(lease.renewal), interval(SIBLINGS));
    for ticks in [&mut renewals, &mut looks] {
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    let mut known = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = renewals.tick() => if let Err(why) = renew(&desk, &lease).await {
                tracing::warn!(%why, "lease not renewed");
            },
            _ = looks.tick() => if let Err(why) = look(&desk, &lease, &mut known).await {
                tracing::debug!(%why, "siblings not seen");
            },
        }
    }
}

/// Sweeps the dead, and reads the table again when a process is gone: with it all its peers are.
async fn look(desk: &Desk, lease: &Lease, known: &mut Vec<String>) -> Result<(), pg::Error> {
    let left = store::node::sweep(&desk.pool, lease.node, None, lease.expiry).await?;
    if !left.is_empty() {
        tracing::info!(peers = left.len(), "swept what a dead process left");
        note(desk, left.into_iter());
    }
    let others = store::node::others(&desk.pool, lease.node).await?;
    desk.exchange.siblings.store(others.len(), Ordering::Relaxed);
    desk.metrics.siblings.set(i64::try_from(others.len()).unwrap_or(i64::MAX));
    if known.iter().any(|node| !others.contains(node)) {
        desk.exchange.look.notify_one();
    }
    *known = others;
    Ok(())
}

async fn renew(desk: &Desk, lease: &Lease) -> Result<(), pg::Error> {
    if !store::node::renew(&desk.pool, lease.node).await? {
        desk.metrics.leases_lost.inc();
        store::node::start(&desk.pool, lease.node, &lease.instance).await?;
        let held: Vec<Held> = desk
            .registry
            .seats()
            .iter()
            .filter_map(|seat| {
                let peer = seat.peer.wtf8()?.into_owned();
                Some(Held { peer, session: seat.session, generation: seat.generation })
            })
            .collect();
        for chunk in held.chunks(CHUNK) {
            store::session::restore(&desk.pool, lease.node, chunk).await?;
        }
        tracing::warn!(
            sessions = held.len(),
            "others took this process for dead; sessions put back"
        );
        // Those that registered elsewhere meanwhile are theirs; the others are told of the rest.
        desk.exchange.look.notify_one();
        desk.registry.seats().iter().for_each(|seat| desk.exchange.online(seat));
    }
    Ok(())
}

/// Tells the database who left, for as long as anybody may; then ends the lease.
async fn record_leavers(
    desk: Arc<Desk>,
    node: NodeId,
    stop: service::Stop,
    over: CancellationToken,
) {
    let mut pending: Vec<Left> = Vec::new();
    // Others may still ask for what is kept here.
    let is_awaited =
        || desk.exchange.siblings.load(Ordering::Relaxed) > 0 && desk.registry.awaits_anybody();
    let is_over = || stop.draining().is_cancelled() && desk.registry.online() == 0 && !is_awaited();
    while !is_over() && stop.killed().run_until_cancelled(sleep(GATHER)).await.is_some() {
        write_leavers(&desk, &mut pending).await;
    }
    let last_words = async {
        write_leavers(&desk, &mut pending).await;
        store::node::stop(&desk.pool, node).await
    };
    match timeout(LAST_WORDS, last_words).await {
        Ok(Ok(())) => {}
        Ok(Err(why)) => tracing::warn!(%why, "lease left to expire"),
        Err(_) => tracing::warn!("lease left to expire: the database takes too long"),
    }
    desk.exchange.bus.finish().await;
    over.cancel();
}

async fn write_leavers(desk: &Desk, pending: &mut Vec<Left>) {
    let left = |leaver: Leaver| {
        let Leaver { peer, session, at_ms, kept } = leaver;
        match peer.wtf8().map(std::borrow::Cow::into_owned) {
            Some(peer) => Some(Left { peer, session, at_ms, kept }),
            None => {
                desk.exchange.offline(&peer, session, at_ms, kept); // not stored
                None
            }
        }
    };
    // Who left during an outage had registered before it: no more of them than peers.
    pending.extend(desk.registry.take_leavers().into_iter().filter_map(left));
    while !pending.is_empty() {
        let count = pending.len().min(CHUNK);
        match store::session::leave(&desk.pool, &pending[..count]).await {
            Ok(()) => {
                for Left { peer, session, at_ms, kept } in pending.drain(..count) {
                    desk.exchange.offline(&PeerId::from_wtf8(&peer), session, at_ms, kept);
                }
            }
            Err(why) => {
                tracing::debug!(%why, "leavers not recorded yet");
                break;
            }
        }
    }
    desk.metrics.leavers_waiting.set(i64::try_from(pending.len()).unwrap_or(i64::MAX));
}
