//! What runs beside the requests on every replica, other nodes aside.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proto::mesh::Room;
use proto::mesh::price::{self, Kind};
use service::Context;

use crate::app::App;
use crate::domain::load::Sampler;
use crate::domain::rooms::farewell;
use crate::store::secret;
use crate::transport::respond;

/// Between samples of the load.
const SAMPLE: Duration = Duration::from_secs(1);
/// Between a stream's signs of life.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Every second sign of life carries a fresh token and price.
const PRICE_EVERY: u32 = 2;
/// Between looks at whether used proofs were lost.
const BOOT_CHECK: Duration = Duration::from_secs(5);

/// Starts all of it.
pub(crate) fn start(app: &Arc<App>, root: Vec<u8>, cx: &Context) {
    load(app.clone(), cx);
    heartbeat(app.clone(), cx);
    boot(app.clone(), root, cx);
}

fn load(app: Arc<App>, cx: &Context) {
    cx.spawn("mesh-load", async move {
        let work = async {
            let mut sampler = Sampler::new(app.config.work.load_file.clone());
            loop {
                tokio::time::sleep(SAMPLE).await;
                if let Some(height) = app.node.sample(sampler.sample()) {
                    app.metrics.height.set(i64::from(height));
                    let now_ms = app.node.clock.now_ms();
                    app.rooms.each(now_ms, |room, recent| price_event(&app, room, recent));
                }
            }
        };
        let _: Option<()> = app.stop.draining().run_until_cancelled(work).await;
    });
}

fn heartbeat(app: Arc<App>, cx: &Context) {
    cx.spawn("mesh-heartbeat", async move {
        let work = async {
            for beat in 1_u32.. {
                tokio::time::sleep(HEARTBEAT).await;
                let now_ms = app.node.clock.now_ms();
                let alive = Bytes::from_static(b": hb\n\n");
                let with_price = beat % PRICE_EVERY == 0;
                app.rooms.each(now_ms, |room, recent| {
                    let price = with_price.then(|| price_event(&app, room, recent)).flatten();
                    Some(price.unwrap_or_else(|| alive.clone()))
                });
                app.mesh.backlog.lock().forget(now_ms);
            }
        };
        let _: Option<()> = app.stop.draining().run_until_cancelled(work).await;
        let others = app.mesh.others(app.node.clock.now_ms());
        app.rooms.end_all(&farewell("shutdown", &others));
    });
}

fn boot(app: Arc<App>, root: Vec<u8>, cx: &Context) {
    cx.spawn("mesh-boot", async move {
        let work = async {
            let mut before = None;
            loop {
                // While the database is away nothing is spent either.
                if let Ok(boot_id) = secret::boot_id(&app.pool, rand::random()).await
                    && before.as_ref() != Some(&boot_id)
                {
                    if before.is_some() {
                        tracing::warn!("the database forgot proofs and posts; tokens begin anew");
                    }
                    if app.begin(&root, &boot_id).await {
                        before = Some(boot_id);
                    }
                }
                let _ = tokio::time::timeout(BOOT_CHECK, app.forgotten.notified()).await;
            }
        };
        let _: Option<()> = app.stop.draining().run_until_cancelled(work).await;
    });
}

/// What a post to a room costs anybody now, as an event.
fn price_event(app: &App, room: &Room, recent: u32) -> Option<Bytes> {
    // Tokens for one address have to be fetched from it.
    if app.config.work.token_bind_ip {
        return None;
    }
    let quote = app.node.quote_for(Kind::Post, recent, None);
    let value = serde_json::json!({
        "room": room.to_string(),
        "token": quote.token,
        "height": price::height(quote.work),
        "target": respond::target(quote.work),
        "recent": recent,
    });
    Some(Bytes::from(format!("event: price\ndata: {value}\n\n")))
}
