//! Whether a node is who and where its descriptor says.

use std::net::IpAddr;

use proto::mesh::descriptor::{Described, Signed, Unfit};
use proto::mesh::{NodeKey, hex, identity, unhex};
use proto::sign::PublicKey;
use serde_json::Value;
use tokio::time::Instant;

use crate::app::App;
use crate::store::node;
use crate::transport::outgoing::Failed;

/// Bytes of an answer.
const ANSWER_MAX: usize = 4_096;
/// Seconds its clock may be off.
const CLOCK_S: u64 = 60;

/// Why a node is not taken for one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Doubt {
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("this is our own key")]
    Own,
    #[error("not one of the nodes we link with")]
    Stranger,
    #[error("banned")]
    Banned,
    #[error(transparent)]
    Failed(#[from] Failed),
    #[error("it does not prove that it answers there")]
    Hello,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Checks a descriptor, and that its node is one to deal with.
pub(crate) async fn admit(app: &App, signed: &Signed) -> Result<Described, Doubt> {
    let rules = &app.mesh.rules;
    let described = signed.open(&rules.network, rules.id_bits, i64::from(app.node.now_s()))?;
    if described.key == rules.key {
        return Err(Doubt::Own);
    }
    if !rules.federation.admits(&described.key) {
        return Err(Doubt::Stranger);
    }
    if app.is_cut(&described.key) || node::is_banned(&app.pool, &described.key).await? {
        return Err(Doubt::Banned);
    }
    if let Some(url) = &described.url {
        rules.egress.target(url).map_err(Failed::from)?;
    }
    Ok(described)
}

/// Remembers a node with a URL; whoever only dials is not remembered.
pub(crate) async fn remember(
    app: &App,
    signed: &Signed,
    described: &Described,
) -> Result<(), Doubt> {
    if let Some(url) = &described.url {
        let item = serde_json::to_vec(signed).unwrap_or_default();
        node::hear(&app.pool, &described.key, url, &item, signed.seq).await?;
    }
    Ok(())
}

/// Asks a node to prove that it answers at its URL, and remembers that it did.
pub(crate) async fn hello(app: &App, key: &NodeKey, url: &str) -> Result<(), Doubt> {
    let asked = hex(&rand::random::<[u8; 32]>());
    let began = Instant::now();
    let path = format!("/mesh/hello?c={asked}");
    let answer = app.outgoing.get(url, &path, ANSWER_MAX).await?;
    let rtt_ms = i32::try_from(began.elapsed().as_millis()).unwrap_or(i32::MAX);
    if !proves(app, key, url, &asked, &answer.body) {
        return Err(Doubt::Hello);
    }
    node::verified(&app.pool, key, &text(answer.from), rtt_ms).await?;
    Ok(())
}

fn text(ip: IpAddr) -> String {
    ip.to_canonical().to_string()
}

fn proves(app: &App, key: &NodeKey, url: &str, asked: &str, answer: &[u8]) -> bool {
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else { return false };
    let ts = answer["ts"].as_u64().unwrap_or(0);
    let signature: Option<[u8; 64]> = answer["sig"].as_str().and_then(unhex);
    let (Some(signature), Some(public)) = (signature, PublicKey::from_bytes(key)) else {
        return false;
    };
    // A proxy before somebody else's node signs another URL than the one that was dialled.
    let message = identity::hello(&app.mesh.rules.network, url, asked, ts);
    answer["k"] == hex(key)
        && answer["url"] == url
        && ts.abs_diff(app.node.now_s().into()) <= CLOCK_S
        && public.verify_strict(message.as_bytes(), &signature)
}
