//! The nodes known, as every replica has them from the database; and the other replicas.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use service::Context;
use tokio::time::{sleep, timeout};

use super::feed;
use crate::app::App;
use crate::domain::feed::Which;
use crate::domain::mesh::Peer;
use crate::store::{node, replica};

/// Between looks.
const EVERY: Duration = Duration::from_secs(2);

/// Shows signs of life and looks for those of others, until the drain.
pub(crate) fn start(app: &Arc<App>, cx: &Context) {
    let app = app.clone();
    cx.spawn("mesh-replica", async move {
        let work = async {
            let mut known = HashSet::new();
            loop {
                look(&app, &mut known).await;
                refresh(&app).await;
                sleep(EVERY).await;
            }
        };
        let _: Option<()> = app.stop.draining().run_until_cancelled(work).await;
        // Who does not say goodbye is swept a minute later.
        let _ = timeout(EVERY, replica::leave(&app.pool, &app.replica)).await;
    });
}

async fn look(app: &Arc<App>, known: &mut HashSet<String>) {
    let (cpu, mem) = app.node.own_load();
    #[expect(clippy::cast_possible_truncation, reason = "shares of 1")]
    let own = replica::Replica {
        id: app.replica.clone(),
        cpu: cpu as f32,
        mem: mem as f32,
        streams: i32::try_from(app.rooms.streams()).unwrap_or(i32::MAX),
        leads: app.mesh.leads(),
    };
    let Ok(all) = replica::show(&app.pool, &own).await else { return };
    let others = || all.iter().filter(|one| one.id != own.id);
    let busiest = |load: fn(&replica::Replica) -> f32| others().map(load).fold(0.0, f32::max);
    app.node.hear_load((busiest(|one| one.cpu).into(), busiest(|one| one.mem).into()));
    let now: HashSet<String> = others().map(|one| one.id.clone()).collect();
    if known.difference(&now).next().is_some() {
        // It may have died between a commit and telling of it.
        feed::read(app, Which::Recent).await;
    }
    *known = now;
}

/// Takes over what the database knows of other nodes.
pub(crate) async fn refresh(app: &App) {
    if !app.mesh.is_on() {
        return;
    }
    let Ok(rows) = node::all_verified(&app.pool).await else { return };
    let peers = rows.into_iter().filter_map(|row| {
        Some(Peer {
            key: row.key.try_into().ok()?,
            url: row.url,
            first_seen_ms: row.first_seen_ms,
            last_seen_ms: row.last_seen_ms,
            fails: row.fails,
            height: row.height,
            rtt_ms: row.rtt_ms,
            net: row.net.and_then(|net| net.parse().ok()),
        })
    });
    let peers = peers.filter(|peer| app.mesh.rules.federation.admits(&peer.key));
    let peers: Vec<Peer> = peers.collect();
    app.metrics.known.set(i64::try_from(peers.len()).unwrap_or(0));
    if app.mesh.view.replace(peers) {
        app.mesh.shifted.notify_one();
    }
    app.rooms.refer(&app.mesh.others(app.node.clock.now_ms()));
}
