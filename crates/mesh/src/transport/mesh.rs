//! `/mesh/*`: what other nodes ask.

use edge::Body;
use edge::ws;
use http::{Request, Response, StatusCode};
use proto::mesh::{hex, identity, unhex};
use serde_json::json;

use super::negotiate::Format;
use super::{Call, Failed, link, respond};
use crate::error::Error;

/// Whether nodes link at all, and this address may ask.
fn admit(call: &Call) -> Result<(), Error> {
    if !call.app.mesh.is_on() {
        return Err(Error::NotFound);
    }
    call.app.asks.check(&call.client.limit_key(), 1).map_err(Error::RateLimited)
}

/// `GET /mesh/id`: the own descriptor.
pub(super) fn id(call: &Call) -> Result<Response<Body>, Failed> {
    admit(call)?;
    let signed = call.app.descriptor.read().clone().ok_or(Error::Overloaded)?;
    let value = serde_json::to_value(signed).map_err(|_| Error::Overloaded)?;
    Ok(respond::show(StatusCode::OK, &value, Format::Json))
}

/// `GET /mesh/hello?c=`: proof that this node answers at its URL.
pub(super) fn hello(call: &Call) -> Result<Response<Body>, Failed> {
    admit(call)?;
    let asked = call.query.get("c").filter(|asked| unhex::<32>(asked).is_some());
    let asked = asked.ok_or(Error::BadParam("c"))?;
    let rules = &call.app.mesh.rules;
    let url = rules.url.as_deref().ok_or(Error::NotFound)?;
    let now_s = call.app.node.now_s();
    let message = identity::hello(&rules.network, url, asked, now_s.into());
    let sig = hex(&call.app.node.sign(message.as_bytes()));
    let value = json!({ "k": hex(&rules.key), "url": url, "ts": now_s, "sig": sig });
    Ok(respond::show(StatusCode::OK, &value, Format::Json))
}

/// `GET /mesh/link`: a WebSocket. Only the leading replica takes links; a dialler that meets
/// another comes back.
pub(super) fn open(call: Call) -> Result<Response<Body>, Failed> {
    admit(&call)?;
    let Call { app, parts, body, .. } = call;
    if !app.mesh.leads() {
        return Err(Error::Overloaded.into());
    }
    match ws::upgrade(Request::from_parts(parts, body)) {
        Ok((response, upgrading)) => {
            app.cx.spawn("mesh-link", link::accept(app.clone(), upgrading));
            Ok(response)
        }
        Err(refusal) => Ok(refusal),
    }
}
