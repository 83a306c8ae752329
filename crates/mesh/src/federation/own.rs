//! How this node describes itself: signed anew every hour, on a stamp that is searched for once.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use proto::mesh::descriptor::Signed;
use proto::mesh::identity;
use proto::mesh::proof::Nonce;
use service::Context;
use tokio::time::sleep;

use crate::app::App;
use crate::store::secret;

/// Between two descriptors.
const RENEW: Duration = Duration::from_hours(1);
/// Before another look for a stamp that the leader searches.
const AGAIN: Duration = Duration::from_millis(500);
/// Tries between looks whether the process is to end.
const TRIES: u64 = 1 << 18;

/// Keeps `app.descriptor` fresh until the drain.
pub(crate) fn start(app: &Arc<App>, cx: &Context) {
    if !app.mesh.is_on() {
        return;
    }
    let app = app.clone();
    cx.spawn("mesh-descriptor", async move {
        let work = async {
            loop {
                match stamp(&app).await {
                    Ok(Some(nonce)) => {
                        *app.descriptor.write() = Some(describe(&app, nonce));
                        sleep(RENEW).await;
                    }
                    Ok(None) => sleep(AGAIN).await,
                    Err(why) => {
                        tracing::debug!(%why, "no stamp yet");
                        sleep(AGAIN).await;
                    }
                }
            }
        };
        let _: Option<()> = app.stop.draining().run_until_cancelled(work).await;
    });
}

fn describe(app: &App, stamp: Nonce) -> Signed {
    let rules = &app.mesh.rules;
    let now_s = i64::from(app.node.now_s());
    let sign = |message: &[u8]| app.node.sign(message);
    Signed::new(&rules.key, &rules.network, rules.url.as_deref(), stamp, now_s, sign)
}

/// The node's stamp: kept in the database, searched for by the leader when it is not.
async fn stamp(app: &Arc<App>) -> anyhow::Result<Option<Nonce>> {
    let rules = &app.mesh.rules;
    let name = format!("stamp {} {}", proto::mesh::hex(&rules.key[..8]), rules.network);
    let fits = |nonce| identity::is_stamped(&rules.network, &rules.key, nonce, rules.id_bits);
    if let Some(kept) = secret::find(&app.pool, &name).await? {
        let kept: Nonce = kept.try_into().ok().context("a stamp has 8 bytes")?;
        if fits(kept) {
            return Ok(Some(kept));
        }
    }
    if !app.mesh.leads() {
        return Ok(None);
    }
    let searching = app.clone();
    let search = tokio::task::spawn_blocking(move || search(&searching));
    let Some(nonce) = search.await? else { return Ok(None) };
    secret::replace(&app.pool, &name, &nonce).await?;
    Ok(Some(nonce))
}

fn search(app: &App) -> Option<Nonce> {
    let rules = &app.mesh.rules;
    let challenge = identity::stamp(&rules.network, &rules.key);
    let target = u64::MAX.checked_shr(rules.id_bits).unwrap_or(0);
    let mut first = rand::random::<u64>();
    while !app.stop.draining().is_cancelled() {
        if let Some((nonce, _)) = challenge.mine(target, first, TRIES) {
            return Some(nonce);
        }
        first = first.wrapping_add(TRIES);
    }
    None
}
