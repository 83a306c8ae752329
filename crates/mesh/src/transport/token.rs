//! `/token`: TURN credentials for work.

use std::time::Duration;

use edge::Body;
use http::{Response, StatusCode};
use proto::mesh::price::Kind;
use serde_json::json;

use super::{Call, Failed, Priced, body, respond};
use crate::domain::node::Purchase;
use crate::domain::posts::Paid;
use crate::error::Error;

const PRICED: Priced = Priced { kind: Kind::Credential, recent: 0 };
/// The lives a credential may have.
const LEAST: Duration = Duration::from_mins(1);
const MOST: Duration = Duration::from_hours(24);

/// `GET /token`: the price, and where the credentials would be good.
pub(super) fn describe(call: &Call) -> Response<Body> {
    let ice = &call.app.config.ice;
    let quote = call.app.node.quote(Kind::Credential, 0, call.client.ip);
    let value = json!({
        "pow": respond::quote(&quote),
        "ttl": ice.turn_ttl.clamp(LEAST, MOST).as_secs(),
        "uris": ice.turn.urls,
        "stun": ice.stun_urls,
        "available": ice.turn.source.is_some(),
    });
    respond::show(StatusCode::OK, &value, call.format)
}

/// `POST /token`: credentials.
pub(super) async fn mint(mut call: Call) -> Result<Response<Body>, Failed> {
    let failed = |error| PRICED.mark(error);
    // Bound to an empty body: what a client sends besides is no part of the proof.
    let sent = body::read(&call.parts.headers, &mut call.body, proto::mesh::BODY_MAX).await;
    let sent = sent.map_err(failed)?;
    let app = &call.app;
    let spent = app.posts.check(&call.client.limit_key(), 1);
    spent.map_err(|wait| failed(Error::RateLimited(wait)))?;
    let purchase = Purchase {
        path: "/token",
        body: &[&sent],
        method: "POST",
        kind: Kind::Credential,
        recent: 0,
    };
    let hash = app.node.check(call.query.payment(), purchase, call.client.ip).map_err(failed)?;
    let ice = &app.config.ice;
    let source = ice.turn.source.as_ref().ok_or_else(|| failed(Error::NoTurn))?;
    app.spend(Paid { hash, request: rand::random(), post: None }).await.map_err(failed)?;
    let ttl = ice.turn_ttl.clamp(LEAST, MOST);
    let user = app.node.turn_user(call.client.ip);
    let now_ms = i64::from(app.node.now_s()) * 1000;
    let credential = source.credential(&user, ttl, now_ms);
    app.metrics.credentials.inc();
    let turn::Credential { username, credential: password, ttl, .. } = credential;
    let value = json!({
        "iceServers": [
            { "urls": ice.stun_urls },
            { "urls": ice.turn.urls, "username": username, "credential": password },
        ],
        "username": username,
        "password": password,
        "ttl": ttl,
        "uris": ice.turn.urls,
        "expires": u64::from(app.node.now_s()) + ttl,
    });
    Ok(respond::show(StatusCode::OK, &value, call.format))
}
