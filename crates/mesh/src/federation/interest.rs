//! Which rooms are listened to: told to the other replicas, asked for at the rooms' homes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use proto::mesh::Room;
use proto::mesh::link::SINCE_MAX_S;
use service::Context;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::carry;
use crate::app::App;
use crate::domain::feed::INTEREST;
use crate::domain::mesh::OTHERS_MAX;
use crate::store::replica;

/// Between looks when nothing happens, and at least.
const EVERY: Duration = Duration::from_secs(1);
const AT_LEAST: Duration = Duration::from_millis(50);
/// Between full looks at who is asked for what.
const SETTLE_EVERY: Duration = Duration::from_mins(1);

/// Tells the other replicas what this one listens to, until the drain.
pub(crate) fn start(app: &Arc<App>, cx: &Context) {
    let app = app.clone();
    cx.spawn("mesh-interest", async move {
        let work = async {
            loop {
                let _ = timeout(EVERY, app.rooms.opened.notified()).await;
                tell(&app).await;
                sleep(AT_LEAST).await;
            }
        };
        let _: Option<()> = app.stop.draining().run_until_cancelled(work).await;
    });
}

async fn tell(app: &App) {
    let listened = app.rooms.listened();
    let now_ms = app.node.clock.now_ms();
    let change = app.mesh.interest.lock().renew(&listened, now_ms);
    if change.more.is_empty() && change.less.is_empty() {
        return;
    }
    if app.mesh.leads() {
        // Who wanted what was before has asked for it himself.
        app.mesh.ask(&change.more, 0, false, now_ms);
    }
    let more: Vec<&[u8]> = change.more.iter().map(Room::bytes).collect();
    let less: Vec<&[u8]> = change.less.iter().map(Room::bytes).collect();
    let written = async {
        replica::listen(&app.pool, &app.replica, &more, &less).await?;
        replica::tell(&app.pool, INTEREST, &app.replica).await
    };
    if written.await.is_err() {
        app.mesh.interest.lock().tell_again();
    }
}

/// A listener came to rooms and wants what was posted before: from here, and from their homes.
pub(crate) async fn recall(app: &App, rooms: &[Room]) {
    if !app.mesh.is_on() || !app.mesh.leads() {
        return;
    }
    for room in rooms {
        carry::recall(app, room).await;
        if app.mesh.interest.lock().recall(room) {
            let room = std::slice::from_ref(room);
            app.mesh.ask(room, SINCE_MAX_S, true, app.node.clock.now_ms());
        }
    }
}

/// For as long as this replica leads: hears what the others listen to, and keeps what is asked of
/// the links in line with it.
pub(crate) async fn lead(app: Arc<App>, lead: CancellationToken) {
    let hearing = async {
        loop {
            if let Ok(rooms) = replica::listened(&app.pool, &app.replica, limit()).await {
                let rooms = rooms.iter().filter_map(|room| Room::from_bytes(room).ok());
                let rooms: HashSet<Room> = rooms.collect();
                let more = app.mesh.interest.lock().replace_others(rooms);
                for room in &more {
                    carry::recall(&app, room).await;
                }
                app.mesh.ask(&more, SINCE_MAX_S, false, app.node.clock.now_ms());
            }
            let _ = timeout(SETTLE_EVERY, app.interest_heard.notified()).await;
            sleep(AT_LEAST).await;
        }
    };
    let settling = async {
        loop {
            app.mesh.settle(app.node.clock.now_ms());
            let _ = timeout(SETTLE_EVERY, app.mesh.shifted.notified()).await;
            sleep(AT_LEAST).await;
        }
    };
    let both = async { tokio::join!(hearing, settling) };
    lead.run_until_cancelled(both).await;
}

fn limit() -> i64 {
    i64::try_from(OTHERS_MAX).unwrap_or(i64::MAX)
}
