//! The lead: one replica of the node holds its links, looks for other nodes, and tidies up.

use std::sync::Arc;
use std::time::Duration;

use service::Context;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{carry, discovery, interest, linker};
use crate::app::App;
use crate::store::{leader, node, post, replica};

/// Between tries to lead, and between looks whether one still does.
const EVERY: Duration = Duration::from_secs(2);
/// Between rounds of forgetting.
const SWEEP: Duration = Duration::from_secs(10);

/// Tries to lead until the drain.
pub(crate) fn start(app: &Arc<App>, cx: &Context) {
    let app = app.clone();
    cx.spawn("mesh-leader", async move {
        let stop = app.stop.clone();
        let work = async {
            loop {
                if let Ok(Some(lock)) = leader::try_lead(&app.pool).await {
                    lead(&app, lock).await;
                }
                sleep(EVERY).await;
            }
        };
        let _: Option<()> = stop.draining().run_until_cancelled(work).await;
    });
}

async fn lead(app: &Arc<App>, mut lock: leader::Lead) {
    let token = app.stop.draining().child_token();
    // However this ends, whoever is dropped with it included.
    let _ended = token.clone().drop_guard();
    let leading = Leading(app.clone());
    app.mesh.lead(true);
    app.metrics.leads.set(1);
    tracing::info!("this replica leads");
    spawn(app, &token);
    loop {
        sleep(EVERY).await;
        if !lock.holds().await {
            tracing::warn!("the lead is lost");
            break;
        }
    }
    drop(leading);
    lock.end().await;
}

/// Leads until dropped.
struct Leading(Arc<App>);

impl Drop for Leading {
    fn drop(&mut self) {
        self.0.mesh.lead(false);
        self.0.metrics.leads.set(0);
    }
}

fn spawn(app: &Arc<App>, token: &CancellationToken) {
    let (pool, sweeping) = (app.pool.clone(), token.clone());
    app.cx.spawn("mesh-janitor", async move {
        let work = async {
            loop {
                let more = post::sweep(&pool).await.unwrap_or(false);
                if !more {
                    // What is not done now is done the next time.
                    let _ = replica::sweep(&pool).await;
                    let _ = node::sweep(&pool).await;
                    sleep(SWEEP).await;
                }
            }
        };
        let _: Option<()> = sweeping.run_until_cancelled(work).await;
    });
    if !app.mesh.is_on() {
        return;
    }
    app.cx.spawn("mesh-interest-lead", interest::lead(app.clone(), token.clone()));
    app.cx.spawn("mesh-intake", carry::intake(app.clone(), token.clone()));
    app.cx.spawn("mesh-linker", linker::run(app.clone(), token.clone()));
    app.cx.spawn("mesh-discovery", discovery::run(app.clone(), token.clone()));
}
