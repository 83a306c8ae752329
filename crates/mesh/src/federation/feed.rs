//! Posts of other replicas: told of by NOTIFY, read from the table.
//!
//! Numbers are not the order of commits, so that exactly those told of are read. Whenever some may
//! have been missed - the listening connection was new, a replica died - all of late are read, and
//! what was heard already is left out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use pg::{Wake, Wakeups};
use proto::mesh::Room;
use proto::mesh::link::Post;
use service::Context;
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::carry;
use crate::app::App;
use crate::domain::feed::{ACKS, INTEREST, POSTS, Which, Written, announce, announce_all, heard};
use crate::domain::mesh::{Ack, Kept};
use crate::store::{post, replica};

/// Posts that wait to be told of; beyond it the others are told that anything may be missing.
pub(crate) const UNTOLD: usize = 8_192;
/// Before another try while the database is away.
const AGAIN: Duration = Duration::from_millis(200);
/// A post found late is sent to other nodes while it is not older.
const FORWARD_MS: i64 = 20_000;

/// Starts telling and hearing.
pub(crate) fn start(app: &Arc<App>, mut untold: mpsc::Receiver<i64>, cx: &Context) {
    // Without the app: its end, with the last request, closes the queue.
    let (pool, replica, owner) = (app.pool.clone(), app.replica.clone(), Arc::downgrade(app));
    let killed = app.stop.killed().clone();
    cx.spawn("mesh-feed-out", async move {
        let work = async {
            let mut numbers = Vec::new();
            while untold.recv_many(&mut numbers, UNTOLD).await > 0 {
                let overrun = |app: Arc<App>| app.overrun.swap(false, Ordering::Relaxed);
                let missing = owner.upgrade().is_some_and(overrun);
                let mut payloads = announce(&replica, std::mem::take(&mut numbers));
                if missing {
                    payloads = vec![announce_all(&replica)];
                }
                for payload in payloads {
                    tell(&pool, POSTS, &payload).await;
                }
            }
        };
        let _: Option<()> = killed.run_until_cancelled(work).await;
    });
    let spawn = |name, task| cx.spawn(name, task);
    let channels = &[POSTS, INTEREST, ACKS];
    let wakeups = Wakeups::start(&app.pool, channels, app.stop.draining().clone(), spawn);
    let (mut wakes, hearer) = (wakeups.subscribe(), app.clone());
    cx.spawn("mesh-feed-in", async move {
        while let Some(wake) = wakes.next().await {
            hear(&hearer, wake).await;
        }
    });
}

/// Tells the other replicas, again and again until the database takes it.
async fn tell(pool: &PgPool, channel: &str, payload: &str) {
    while replica::tell(pool, channel, payload).await.is_err() {
        sleep(AGAIN).await;
    }
}

async fn hear(app: &Arc<App>, wake: Wake) {
    let which = match wake {
        Wake::Resync => {
            app.interest_heard.notify_one();
            Some(Which::Recent)
        }
        Wake::Notified { channel, payload } => match &*channel {
            POSTS => heard(&app.replica, &payload),
            INTEREST => {
                if *payload != *app.replica {
                    app.interest_heard.notify_one();
                }
                None
            }
            _ => {
                if let Some((id, ack)) = Ack::heard(&payload) {
                    app.mesh.acks.answer(&id, ack);
                }
                None
            }
        },
    };
    if let Some(which) = which {
        read(app, which).await;
    }
}

/// Reads posts and hands on those that are new here.
pub(crate) async fn read(app: &Arc<App>, which: Which) {
    // While the database is away there is nothing to read; it comes back with a resync.
    let Ok(posts) = post::read(&app.pool, which).await else { return };
    for post in posts {
        take(app, &post);
    }
}

fn take(app: &Arc<App>, written: &Written) {
    let now_ms = app.node.clock.now_ms();
    let (Ok(id), Ok(room)) = (<[u8; 32]>::try_from(&*written.id), Room::from_bytes(&written.room))
    else {
        return;
    };
    if !app.heard.insert(id, now_ms) {
        return;
    }
    app.metrics.fed.inc();
    let event = Bytes::from(written.event.clone());
    let delivered = app.rooms.publish(&room, &event, written.at_ms.min(now_ms));
    app.metrics.deliveries.inc_by(u64::try_from(delivered).unwrap_or(0));
    let carried = written.carried.as_deref().and_then(|text| serde_json::from_slice(text).ok());
    let Some(post): Option<Post> = carried else { return };
    if app.mesh.leads() && now_ms - written.at_ms < FORWARD_MS {
        app.mesh.acks.relay(id);
        let kept = Kept { id, at_ms: now_ms, post, event, written: true };
        carry::send_out(app, &room, kept, now_ms);
    }
}
